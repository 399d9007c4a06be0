/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking a monitor for a pause, with a test in the monitor's place: what comes
 * back, and what is left when nothing does.
 */
#include "tests/patience.h"
#include "tests/tempdir.h"
#include "tools/container/control.h"
#include "tools/container/plug.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

/* Both ways. */
struct message {
	uint64_t number;
	int32_t value;
	uint32_t reserved;
};

struct fixture {
	char dir[TEMPDIR_ROOM];
	struct control control; /* the pipes alone */
	int gone[2];
	/* of the thread that answers */
	pthread_t thread;
	int32_t answer, asked;
};

static void set_up(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	tempdir_name(f->dir);
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(control_open(&f->control, f->dir, -1), 0);
	assert_int_equal(pipe2(f->gone, O_CLOEXEC), 0);
}

static void tear_down(struct fixture *f)
{
	static const char *const names[] = {CONTROL_REQUEST_FILE,
					    CONTROL_ANSWER_FILE};
	char path[TEMPDIR_ROOM + 32];

	control_done(&f->control);
	close(f->gone[0]);
	close(f->gone[1]);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
		assert_int_equal(unlink(path), 0);
	}
	assert_int_equal(rmdir(f->dir), 0);
}

/* One request, to which answers of others come first. */
static void *answer_one(void *arg)
{
	struct fixture *f = arg;
	struct message m, other;

	if (!wait_until(read(f->control.request_fd, &m, sizeof(m)) ==
			sizeof(m)))
		return NULL;
	f->asked = m.value;
	other = (struct message){.number = m.number + 1, .value = -EIO};
	m.value = f->answer;
	(void)!write(f->control.answer_fd, &other, sizeof(other));
	(void)!write(f->control.answer_fd, &m, sizeof(m));
	return NULL;
}

static int ask(struct fixture *f, enum control_what what, int32_t answer)
{
	int r;

	f->answer = answer;
	assert_int_equal(pthread_create(&f->thread, NULL, answer_one, f), 0);
	r = control_ask(f->dir, what, f->gone[0], PATIENCE_MS);
	pthread_join(f->thread, NULL);
	assert_int_equal(f->asked, what);
	return r;
}

static void test_answers(void **state)
{
	const struct message old = {.value = -EIO};
	struct fixture f;

	(void)state;
	set_up(&f);
	assert_int_equal(ask(&f, CONTROL_PAUSE, 0), 0);
	assert_int_equal(ask(&f, CONTROL_PAUSE, -EALREADY), -EALREADY);
	/* Somebody did not wait for it. */
	assert_int_equal(write(f.control.answer_fd, &old, sizeof(old)),
			 sizeof(old));
	assert_int_equal(ask(&f, CONTROL_RESUME, 0), 0);
	tear_down(&f);
}

/* A request is not carried out once nobody waits for it. */
static void test_no_answer(void **state)
{
	struct message m;
	struct fixture f;

	(void)state;
	set_up(&f);
	assert_int_equal(control_ask(f.dir, CONTROL_PAUSE, f.gone[0], 20),
			 -ETIME);
	assert_int_equal(read(f.control.request_fd, &m, sizeof(m)), -1);
	assert_int_equal(write(f.gone[1], "", 1), 1);
	assert_int_equal(
		control_ask(f.dir, CONTROL_PAUSE, f.gone[0], PATIENCE_MS),
		-ECONNRESET);
	assert_int_equal(read(f.control.request_fd, &m, sizeof(m)), -1);
	tear_down(&f);
}

static void *read_one(void *arg)
{
	struct fixture *f = arg;
	struct message m;

	if (wait_until(read(f->control.request_fd, &m, sizeof(m)) == sizeof(m)))
		f->asked = m.value;
	return NULL;
}

/* A monitor that pauses once nobody waits for it does not stay so. */
static void test_late_answer(void **state)
{
	struct message m;
	struct fixture f;

	(void)state;
	set_up(&f);
	assert_int_equal(pthread_create(&f.thread, NULL, read_one, &f), 0);
	do
		assert_int_equal(
			control_ask(f.dir, CONTROL_PAUSE, f.gone[0], 200),
			-ETIME);
	while (read(f.control.request_fd, &m, sizeof(m)) != sizeof(m));
	pthread_join(f.thread, NULL);
	assert_int_equal(f.asked, CONTROL_PAUSE);
	assert_int_equal(m.value, CONTROL_RESUME);
	tear_down(&f);
}

/* Nor does it while others ask in vain meanwhile. */
static void test_late_answer_twice(void **state)
{
	const struct message undo = {.value = CONTROL_RESUME};
	struct message m;
	struct fixture f;

	(void)state;
	set_up(&f);
	/* Somebody has given up a pause that the monitor has read. */
	assert_int_equal(write(f.control.request_fd, &undo, sizeof(undo)),
			 sizeof(undo));
	for (int what = CONTROL_PAUSE; what <= CONTROL_RESUME; what++)
		assert_int_equal(control_ask(f.dir, what, f.gone[0], 20),
				 -ETIME);
	assert_int_equal(read(f.control.request_fd, &m, sizeof(m)), sizeof(m));
	assert_int_equal(m.number, undo.number);
	assert_int_equal(m.value, undo.value);
	assert_int_equal(read(f.control.request_fd, &m, sizeof(m)), -1);
	tear_down(&f);
}

/* Something else in a pipe's place, or nothing. */
static void test_no_pipe(void **state)
{
	char path[TEMPDIR_ROOM + 32];
	struct control control;
	struct fixture f;

	(void)state;
	set_up(&f);
	snprintf(path, sizeof(path), "%s/" CONTROL_ANSWER_FILE, f.dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(
		control_ask(f.dir, CONTROL_PAUSE, f.gone[0], PATIENCE_MS),
		-ENOENT);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(control_open(&control, f.dir, -1), -EISDIR);
	control_done(&control);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(symlink("/dev/null", path), 0);
	assert_int_equal(
		control_ask(f.dir, CONTROL_PAUSE, f.gone[0], PATIENCE_MS),
		-ELOOP);
	tear_down(&f);
}

/* ---- networks: a monitor that answers late */

static void *answer_second(void *arg)
{
	const int *fd = arg;
	const int32_t answer = -ENOENT;
	char request[64];

	for (unsigned i = 0; i < 2; i++)
		assert_true(read(*fd, request, sizeof(request)) > 0);
	assert_true(write(*fd, &answer, sizeof(answer)) == sizeof(answer));
	return NULL;
}

static void test_plug_late(void **state)
{
	const struct timeval soon = {.tv_usec = 10000}, late = {.tv_sec = 60};
	const int32_t answer = 0;
	pthread_t thread;
	int ends[2];

	(void)state;
	assert_int_equal(plug_open(ends), 0);
	assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &soon,
				    sizeof(soon)),
			 0);
	assert_int_equal(plug_remove(ends[0], 1), -ETIMEDOUT);
	assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &late,
				    sizeof(late)),
			 0);
	assert_true(write(ends[1], &answer, sizeof(answer)) == sizeof(answer));
	assert_int_equal(pthread_create(&thread, NULL, answer_second, &ends[1]),
			 0);
	assert_int_equal(plug_remove(ends[0], 2), -ENOENT);
	pthread_join(thread, NULL);
	close(ends[1]);
	assert_int_equal(plug_remove(ends[0], 2), -ECONNRESET);
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_no_answer),
		cmocka_unit_test(test_late_answer),
		cmocka_unit_test(test_late_answer_twice),
		cmocka_unit_test(test_no_pipe),
		cmocka_unit_test(test_plug_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
