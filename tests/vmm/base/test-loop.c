/* SPDX-License-Identifier: Apache-2.0 */
/* Event loop and stop: wake-ups, removal by a handler, the first report. */
#include "vmm/base/loop.h"

#include "vmm/base/stop.h"
#include "vmm/base/thread.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct counter {
	struct loop_source source;
	struct loop *loop;
	struct counter *other; /* removed by this one's handler, if set */
	unsigned calls, until;
};

static void count(struct loop_source *source, uint32_t events)
{
	struct counter *c = (struct counter *)source;

	assert_true(events & EPOLLIN);
	c->calls++;
	if (c->other)
		loop_del(c->loop, &c->other->source);
	if (c->calls == c->until)
		loop_stop(c->loop);
}

static void counter_init(struct counter *c, struct loop *loop, unsigned until)
{
	*c = (struct counter){.loop = loop, .until = until};
	c->source.fd = loop_eventfd();
	c->source.fn = count;
	assert_true(c->source.fd >= 0);
	assert_int_equal(loop_add(loop, &c->source, EPOLLIN), 0);
}

static void test_runs_until_stopped(void **state)
{
	struct loop loop;
	struct counter c;

	(void)state;
	assert_int_equal(loop_init(&loop), 0);
	counter_init(&c, &loop, 3); /* level-triggered: never drained */
	loop_signal(c.source.fd);
	assert_int_equal(loop_run(&loop), 0);
	assert_int_equal(c.calls, 3);
	assert_int_equal(loop_drain(c.source.fd), 1);
	assert_int_equal(loop_drain(c.source.fd), 0);
	close(c.source.fd);
	loop_done(&loop);
}

/* By edges nothing need be drained: two signals, two calls, however counted. */
static void test_edges(void **state)
{
	struct epoll_event event;
	struct loop loop;
	struct counter c;

	(void)state;
	assert_int_equal(loop_init(&loop), 0);
	counter_init(&c, &loop, 1);
	loop_del(&loop, &c.source);
	assert_int_equal(loop_add(&loop, &c.source, EPOLLIN | EPOLLET), 0);
	for (unsigned i = 0; i < 2; i++) {
		loop_signal(c.source.fd);
		assert_int_equal(epoll_wait(loop.epoll_fd, &event, 1, 0), 1);
		assert_int_equal(epoll_wait(loop.epoll_fd, &event, 1, 0), 0);
	}
	close(c.source.fd);
	loop_done(&loop);
}

/* Wake-ups with one request each until loop_adapt() says that it is time. */
static unsigned wakeups_until_change(struct loop_patience *p)
{
	unsigned n = 1;

	while (!loop_adapt(p, 1)) {
		n++;
		assert_true(n < 100000);
	}
	return n;
}

/* It waits while that gains a second request; else ever more seldom. */
static void test_patience(void **state)
{
	struct loop_patience p = {0};

	(void)state;
	assert_int_equal(wakeups_until_change(&p), 1);
	assert_true(p.patient);
	for (unsigned i = 0; i < 1000; i++)
		assert_false(loop_adapt(&p, 2 + i % 3));
	assert_int_equal(wakeups_until_change(&p), 2);
	assert_false(p.patient);
	/* Many requests at once show nothing while it does not wait. */
	for (unsigned i = 0; i < 63; i++)
		assert_false(loop_adapt(&p, 9));
	for (unsigned n = 128; n <= 4096; n *= 2) {
		assert_int_equal(wakeups_until_change(&p),
				 n == 128 ? 1 : n / 2);
		assert_true(p.patient);
		assert_int_equal(wakeups_until_change(&p), 2);
		assert_false(p.patient);
	}
	assert_int_equal(wakeups_until_change(&p), 4096);
	assert_int_equal(wakeups_until_change(&p), 2);
	assert_int_equal(wakeups_until_change(&p), 4096);
	assert_false(loop_adapt(&p, 2));
	assert_int_equal(wakeups_until_change(&p), 2);
	assert_int_equal(wakeups_until_change(&p), 64);
}

static void test_stop_before_run(void **state)
{
	struct loop loop;

	(void)state;
	assert_int_equal(loop_init(&loop), 0);
	loop_stop(&loop);
	assert_int_equal(loop_run(&loop), 0);
	loop_done(&loop);
}

/* Both are ready in one round; whichever runs first removes the other. */
static void test_removed_source_is_not_called(void **state)
{
	struct loop loop;
	struct counter a, b;

	(void)state;
	assert_int_equal(loop_init(&loop), 0);
	counter_init(&a, &loop, 1);
	counter_init(&b, &loop, 1);
	a.other = &b;
	b.other = &a;
	loop_signal(a.source.fd);
	loop_signal(b.source.fd);
	assert_int_equal(loop_run(&loop), 0);
	assert_int_equal(a.calls + b.calls, 1);
	close(a.source.fd);
	close(b.source.fd);
	loop_done(&loop);
}

static void test_thread(void **state)
{
	struct loop loop;
	struct counter c;

	(void)state;
	assert_int_equal(loop_init(&loop), 0);
	counter_init(&c, &loop, 1);
	assert_int_equal(loop_start_thread(&loop, "test"), 0);
	loop_signal(c.source.fd);
	loop_done(&loop); /* joins */
	close(c.source.fd);
}

/* On the thread, before all else: *ARG becomes the thread, unless it is NULL.
 */
static int first(void *arg)
{
	pthread_t *thread = arg;

	if (!thread)
		return -EPERM;
	*thread = pthread_self();
	return 0;
}

static void test_first_of_thread(void **state)
{
	pthread_t thread = pthread_self();
	struct loop loop;

	(void)state;
	assert_int_equal(loop_init(&loop), 0);
	assert_int_equal(loop_start_thread_with(&loop, "test", first, NULL),
			 -EPERM);
	assert_false(loop.has_thread);
	assert_int_equal(loop_start_thread_with(&loop, "test", first, &thread),
			 0);
	assert_true(pthread_equal(thread, loop.thread));
	loop_done(&loop);
}

static void test_first_stop_wins(void **state)
{
	struct loop loop;
	struct stop stop;
	int status = -1;

	(void)state;
	assert_int_equal(loop_init(&loop), 0);
	stop_init(&stop, &loop);
	assert_int_equal(stop_reason(&stop, &status), STOP_NONE);
	assert_int_equal(status, -1);
	stop_request(&stop, STOP_EXIT, 7);
	stop_request(&stop, STOP_CRASH, 1);
	assert_int_equal(loop_run(&loop), 0); /* the report woke it */
	assert_int_equal(stop_reason(&stop, &status), STOP_EXIT);
	assert_int_equal(status, 7);
	loop_done(&loop);
}

struct clock {
	struct loop_timer timer;
	struct loop *loop;
	unsigned calls;
	uint64_t due_at_call;
};

static void tick(struct loop_timer *timer)
{
	struct clock *c = (struct clock *)timer;

	c->due_at_call = loop_timer_due(timer);
	if (++c->calls == 3)
		loop_stop(c->loop);
	else
		assert_true(loop_timer_set(timer, util_now_ns() + 1000000));
}

/* Called once for each time it is set; a time that has passed is due. */
static void test_timer(void **state)
{
	struct loop loop;
	struct clock c = {.loop = &loop};
	uint64_t later;

	(void)state;
	assert_int_equal(loop_init(&loop), 0);
	loop_timer_close(&c.timer);
	assert_int_equal(loop_timer_open(&loop, &c.timer, tick), 0);
	assert_int_equal(loop_timer_due(&c.timer), 0);
	later = util_now_ns() + UINT64_C(3600000000000);
	assert_true(loop_timer_set(&c.timer, later));
	assert_int_equal(loop_timer_due(&c.timer), later);
	assert_true(loop_timer_set(&c.timer, 1));
	assert_int_equal(loop_run(&loop), 0);
	assert_int_equal(c.calls, 3);
	assert_int_equal(c.due_at_call, 0);
	assert_int_equal(loop_timer_due(&c.timer), 0);
	loop_timer_close(&c.timer);
	loop_timer_close(&c.timer);
	loop_done(&loop);
}

/* The signals that can come on this thread, as a set of two. */
static void *look_at_signals(void *arg)
{
	unsigned *open = arg;
	sigset_t blocked;

	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	*open = (sigismember(&blocked, SIGUSR2) ? 0 : 1) |
		(sigismember(&blocked, SIGTERM) ? 0 : 2);
	return NULL;
}

static void test_thread_signals(void **state)
{
	pthread_t thread;
	unsigned open = 9;
	sigset_t before, after;

	(void)state;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	assert_int_equal(thread_start(&thread, SIGUSR2, look_at_signals, &open),
			 0);
	pthread_join(thread, NULL);
	assert_int_equal(open, 1);
	assert_int_equal(thread_start(&thread, 0, look_at_signals, &open), 0);
	pthread_join(thread, NULL);
	assert_int_equal(open, 0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_int_equal(sigismember(&after, SIGTERM),
			 sigismember(&before, SIGTERM));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs_until_stopped),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_patience),
		cmocka_unit_test(test_stop_before_run),
		cmocka_unit_test(test_removed_source_is_not_called),
		cmocka_unit_test(test_thread),
		cmocka_unit_test(test_first_of_thread),
		cmocka_unit_test(test_first_stop_wins),
		cmocka_unit_test(test_timer),
		cmocka_unit_test(test_thread_signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
