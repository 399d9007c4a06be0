/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop over epoll. The main thread runs one for everything that may
 * not block long; a device that asks for a thread of its own (virtio-blk) gets
 * another. Handlers run on the loop's thread, one at a time.
 */
#ifndef VMM_BASE_LOOP_H
#define VMM_BASE_LOOP_H

#include "vmm/base/sandbox.h"

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
 * the epoll events that came. Level-triggered unless added with EPOLLET.
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

/*
 * A time at which FN is called on the loop's thread, embedded in its owner. A
 * zeroed one is closed; it makes the system call SYS_timerfd_settime.
 */
struct loop_timer {
	struct loop *loop;         /* borrowed; NULL: closed */
	struct loop_source source; /* fd: timerfd, owned */
	void (*fn)(struct loop_timer *timer);
	uint64_t due_ns; /* atomic; see loop_timer_due() */
};

/* Not set yet. 0 or -errno. As loop_add(). */
int loop_timer_open(struct loop *loop, struct loop_timer *timer,
		    void (*fn)(struct loop_timer *timer));
/* Accepts a closed one. As loop_del(). */
void loop_timer_close(struct loop_timer *timer);
/*
 * Sets it to DUE_NS, whatever it was set to; a time that has passed is due now.
 * When FN is called it is no longer set. False: the kernel refused. Any thread;
 * one at a time.
 */
bool loop_timer_set(struct loop_timer *timer, uint64_t due_ns);
/* When it is due; 0: it is not set. Any thread. */
uint64_t loop_timer_due(const struct loop_timer *timer);

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

/*
 * Whether a loop's thread waits for the CPU when a kick wakes it.
 *
 * Where a vCPU and the thread share a CPU, the kick of a first request makes
 * the host run the thread before the driver can add its second: a switch, an
 * interrupt and a kick for each request of a deep queue. A thread of
 * SCHED_BATCH does not take the CPU from the vCPU when it wakes. It gets it
 * when the guest has nothing more to add and halts; meanwhile requests are
 * added without kicks (virtio 1.2, 2.7.10). But a guest that goes on computing
 * makes it wait for a time slice: so patience ends when it gains no second
 * request, and is tried again ever more seldom. On a CPU of its own neither
 * makes a difference.
 */
struct loop_patience {
	bool patient;
	unsigned left, backoff; /* wake-ups until the next decision */
};

/*
 * Reports that a wake-up found so many requests at once. True when P->patient
 * changed: the caller then has the thread call loop_wait_patiently(). P begins
 * zeroed.
 */
bool loop_adapt(struct loop_patience *p, unsigned found);
/* The calling thread's scheduling; errors are of no consequence. */
void loop_wait_patiently(bool patiently);
/* The system calls that it makes, for the sandbox. */
extern const struct sandbox_rule loop_patience_syscalls[];

/* An eventfd, EFD_CLOEXEC | EFD_NONBLOCK. The fd or -errno. */
int loop_eventfd(void);
void loop_signal(int event_fd);    /* adds 1; never blocks */
uint64_t loop_drain(int event_fd); /* the count, 0 if none */

#endif
