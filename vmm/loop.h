/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop over epoll. The main thread runs one for everything that may
 * not block long; a device that asks for a thread of its own (virtio-blk) gets
 * another. Handlers run on the loop's thread, one at a time.
 */
#ifndef VMM_LOOP_H
#define VMM_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct loop {
	int epoll_fd;
	int wake_fd; /* eventfd: loop_stop() */
	bool stopping;
	bool has_thread;
	pthread_t thread;
};

/*
 * One watched descriptor, embedded in its owner. The fd is borrowed. FN gets
 * the epoll events that came. Level-triggered.
 */
struct loop_source {
	int fd;
	void (*fn)(struct loop_source *source, uint32_t events);
	bool added;
	uint32_t events;
};

int loop_init(struct loop *loop);  /* 0 or -errno */
void loop_done(struct loop *loop); /* stops and joins its thread, if any */

/* Thread-safe. EVENTS as for epoll_ctl (EPOLLIN ...). 0 or -errno. */
int loop_add(struct loop *loop, struct loop_source *source, uint32_t events);
int loop_modify(struct loop *loop, struct loop_source *source, uint32_t events);
/*
 * From the loop's own thread, or before it runs and after it stopped: a handler
 * already fetched by another thread could still run once.
 */
void loop_del(struct loop *loop, struct loop_source *source);

/* Runs handlers until loop_stop(). 0 or -errno. */
int loop_run(struct loop *loop);
/* Any thread, any time, also before loop_run(). */
void loop_stop(struct loop *loop);

/* Runs the loop on a thread of its own called NAME (15 characters). */
int loop_start_thread(struct loop *loop, const char *name);
/*
 * The same, but that thread calls FIRST before anything else; when that fails,
 * so does this, and there is no thread. 0 or -errno.
 */
int loop_start_thread_with(struct loop *loop, const char *name,
			   int (*first)(void *arg), void *arg);

/* An eventfd, EFD_CLOEXEC | EFD_NONBLOCK. The fd or -errno. */
int loop_eventfd(void);
void loop_signal(int event_fd);    /* adds 1; never blocks */
uint64_t loop_drain(int event_fd); /* the count, 0 if none */

#endif
