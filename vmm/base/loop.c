/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: epoll, handlers, and a thread to run them on if wanted. */
#include "vmm/base/loop.h"

#include "vmm/base/thread.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>

#define EVENTS_AT_ONCE 16

/* See loop_adapt(): tries until waiting counts as useful, or as useless. */
#define PATIENCE_TRIES       2
#define PATIENCE_BACKOFF     64
#define PATIENCE_BACKOFF_MAX 4096

int loop_eventfd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

void loop_signal(int event_fd)
{
	const uint64_t one = 1;
	ssize_t n;

	/* EAGAIN: the counter is full, so the reader is woken anyway. */
	do
		n = write(event_fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

uint64_t loop_drain(int event_fd)
{
	uint64_t count;

	return read(event_fd, &count, sizeof(count)) == sizeof(count) ? count
								      : 0;
}

int loop_init(struct loop *loop)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

	*loop = (struct loop){.epoll_fd = -1, .wake_fd = -1};
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return -errno;
	loop->wake_fd = loop_eventfd();
	if (loop->wake_fd < 0)
		return loop->wake_fd;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0)
		return -errno;
	return 0;
}

void loop_done(struct loop *loop)
{
	if (loop->has_thread) {
		loop_stop(loop);
		pthread_join(loop->thread, NULL);
		loop->has_thread = false;
	}
	util_close(&loop->wake_fd);
	util_close(&loop->epoll_fd);
}

int loop_add(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};
	int r;

	assert(!__atomic_load_n(&source->added, __ATOMIC_RELAXED));
	__atomic_store_n(&source->added, true, __ATOMIC_RELAXED);
	source->events = events;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0) {
		r = -errno;
		__atomic_store_n(&source->added, false, __ATOMIC_RELAXED);
		return r;
	}
	return 0;
}

int loop_modify(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (source->events == events)
		return 0;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0)
		return -errno;
	source->events = events;
	return 0;
}

void loop_del(struct loop *loop, struct loop_source *source)
{
	if (!__atomic_load_n(&source->added, __ATOMIC_RELAXED))
		return;
	/*
	 * Fails only for a descriptor that is not watched: there is nothing to
	 * undo.
	 */
	(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	__atomic_store_n(&source->added, false, __ATOMIC_RELAXED);
}

static void timer_ready(struct loop_source *source, uint32_t events)
{
	struct loop_timer *timer =
		container_of(source, struct loop_timer, source);

	(void)events;
	/* None: it was set anew after the loop had fetched this event. */
	if (loop_drain(source->fd) == 0)
		return;
	__atomic_store_n(&timer->due_ns, 0, __ATOMIC_RELAXED);
	timer->fn(timer);
}

int loop_timer_open(struct loop *loop, struct loop_timer *timer,
		    void (*fn)(struct loop_timer *timer))
{
	int r;

	*timer = (struct loop_timer){
		.loop = loop, .source = {.fn = timer_ready}, .fn = fn};
	timer->source.fd =
		timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	r = timer->source.fd < 0 ? -errno
				 : loop_add(loop, &timer->source, EPOLLIN);
	if (r < 0)
		loop_timer_close(timer);
	return r;
}

void loop_timer_close(struct loop_timer *timer)
{
	if (!timer->loop)
		return;
	loop_del(timer->loop, &timer->source);
	util_close(&timer->source.fd);
	timer->loop = NULL;
}

bool loop_timer_set(struct loop_timer *timer, uint64_t due_ns)
{
	const struct itimerspec when = {
		.it_value = {.tv_sec = (time_t)(due_ns / 1000000000),
			     .tv_nsec = (long)(due_ns % 1000000000)}};

	/* First: it may be due before this thread runs on. */
	__atomic_store_n(&timer->due_ns, due_ns, __ATOMIC_RELAXED);
	if (timerfd_settime(timer->source.fd, TFD_TIMER_ABSTIME, &when, NULL) ==
	    0)
		return true;
	__atomic_store_n(&timer->due_ns, 0, __ATOMIC_RELAXED);
	return false;
}

uint64_t loop_timer_due(const struct loop_timer *timer)
{
	return __atomic_load_n(&timer->due_ns, __ATOMIC_RELAXED);
}

int loop_run(struct loop *loop)
{
	struct epoll_event event[EVENTS_AT_ONCE];

	while (!__atomic_load_n(&loop->stopping, __ATOMIC_ACQUIRE)) {
		int n = epoll_wait(loop->epoll_fd, event, EVENTS_AT_ONCE, -1);

		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n; i++) {
			struct loop_source *source = event[i].data.ptr;

			if (!source)
				loop_drain(loop->wake_fd);
			/*
			 * An earlier handler of this round may have removed it.
			 */
			else if (__atomic_load_n(&source->added,
						 __ATOMIC_RELAXED))
				source->fn(source, event[i].events);
		}
	}
	return 0;
}

void loop_stop(struct loop *loop)
{
	__atomic_store_n(&loop->stopping, true, __ATOMIC_RELEASE);
	loop_signal(loop->wake_fd);
}

/* Lies on the starter's stack, which waits until the new thread has begun. */
struct thread_start {
	struct loop *loop;
	const char *name;
	int (*first)(void *arg);
	void *arg;
	int result;
	sem_t began;
};

static void *loop_thread(void *arg)
{
	struct thread_start *start = arg;
	struct loop *loop = start->loop;
	int r;

	/* A thread names itself: the sandbox refuses to name another one. */
	pthread_setname_np(pthread_self(), start->name);
	r = start->first ? start->first(start->arg) : 0;
	start->result = r;
	sem_post(&start->began);
	/*
	 * epoll_wait() fails only in a broken process: the loop cannot go on.
	 */
	if (r == 0)
		(void)loop_run(loop);
	return NULL;
}

int loop_start_thread_with(struct loop *loop, const char *name,
			   int (*first)(void *arg), void *arg)
{
	struct thread_start start = {
		.loop = loop,
		.name = name,
		.first = first,
		.arg = arg,
	};
	int r;

	sem_init(&start.began, 0, 0);
	r = thread_start(&loop->thread, 0, loop_thread, &start);
	if (r == 0) {
		while (sem_wait(&start.began) < 0)
			; /* a signal */
		r = start.result;
		if (r == 0)
			loop->has_thread = true;
		else
			pthread_join(loop->thread, NULL);
	}
	sem_destroy(&start.began);
	return r;
}

int loop_start_thread(struct loop *loop, const char *name)
{
	return loop_start_thread_with(loop, name, NULL, NULL);
}

bool loop_adapt(struct loop_patience *p, unsigned found)
{
	if (p->patient && found > 1) {
		p->left = PATIENCE_TRIES;
		p->backoff = PATIENCE_BACKOFF;
		return false;
	}
	if (p->left > 0 && --p->left > 0)
		return false;
	p->patient = !p->patient;
	if (p->backoff == 0)
		p->backoff = PATIENCE_BACKOFF;
	p->left = p->patient ? PATIENCE_TRIES : p->backoff;
	if (!p->patient)
		p->backoff =
			(unsigned)min_u64(p->backoff * 2, PATIENCE_BACKOFF_MAX);
	return true;
}

/* A thread may change its own scheduling only. */
const struct sandbox_rule loop_patience_syscalls[] = {
	{.call = SYS_sched_setscheduler,
	 .when = {{SANDBOX_EQUALS, 0, 0}, {SANDBOX_EQUALS, 1, SCHED_BATCH}}},
	{.call = SYS_sched_setscheduler,
	 .when = {{SANDBOX_EQUALS, 0, 0}, {SANDBOX_EQUALS, 1, SCHED_OTHER}}},
	SANDBOX_END,
};

void loop_wait_patiently(bool patiently)
{
	const struct sched_param param = {0};

	/*
	 * If the kernel refuses, requests take longer, and nothing else
	 * happens.
	 */
	(void)sched_setscheduler(0, patiently ? SCHED_BATCH : SCHED_OTHER,
				 &param);
}
