/* SPDX-License-Identifier: Apache-2.0 */
/* Instances: their directory, who holds it, what is swept, and the log. */
#include "tools/instance/instance.h"
#include "tools/instance/runlog.h"
#include "tools/instance/volume.h"
#include "tests/tempdir.h"
#include "vmm/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct ctx {
	char top[TEMPDIR_ROOM], base[TEMPDIR_ROOM + 8];
};

static int setup(void **state)
{
	struct ctx *ctx = calloc(1, sizeof(*ctx));

	tempdir_name(ctx->top);
	assert_non_null(mkdtemp(ctx->top));
	snprintf(ctx->base, sizeof(ctx->base), "%s/base", ctx->top);
	setenv("BULKHEAD_RUNTIME_DIR", ctx->base, 1);
	log_setup(LOG_ERROR, false);
	*state = ctx;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *ctx = *state;

	/*
	 * A test removes what it made; the base directory goes with the last
	 * instance.
	 */
	assert_int_equal(access(ctx->base, F_OK), -1);
	assert_int_equal(rmdir(ctx->top), 0);
	free(ctx);
	return 0;
}

static void save_simple(const struct instance *instance, bool remove)
{
	char image[] = "image", a[] = "A=1";
	char argv0[] = "sh", argv1[] = "-c", argv2[] = "x\n";
	char root[] = "/root", cwd[] = "/";
	char *env[] = {a, NULL}, *args[] = {argv0, argv1, argv2, NULL};
	struct instance_state state = {
		.phase = INSTANCE_RUNNING,
		.pid = 77,
		.pid_start = UINT64_C(1) << 40,
		.created_s = 1000,
		.status = INSTANCE_NO_STATUS,
		.remove = remove,
		.stop_signal = SIGQUIT,
		.image = image,
		.spec.root_path = root,
		.spec.has_process = true,
		.spec.process.cwd = cwd,
		.spec.process.args = {args, 3},
		.spec.linux_part.memory_limit = 64 << 20,
		.spec.process.env = {env, 1},
		.spec.process.capabilities =
			{
				.bounding = 0xa80425fb,
				.effective = 0xa80425fb,
				.permitted = 0xa80425fb,
			},
	};

	assert_int_equal(instance_save(instance, &state), 0);
}

/* An instance whose holder was killed. */
static void make_dead(const char *name, bool remove)
{
	struct instance instance;

	assert_int_equal(instance_create(name, &instance), 0);
	save_simple(&instance, remove);
	instance_done(&instance);
}

static void test_state(void **state)
{
	struct instance made, found;
	struct instance_state read;
	char *command;

	(void)state;
	assert_int_equal(instance_create("one", &made), 0);
	assert_string_equal(made.name, "one");
	assert_int_equal(instance_open("one", &found), 0);
	assert_int_equal(instance_load(&found, &read), -ENOENT);
	save_simple(&made, false);
	assert_int_equal(instance_load(&found, &read), 0);
	assert_int_equal(read.phase, INSTANCE_RUNNING);
	assert_int_equal(read.pid, 77);
	assert_true(read.pid_start == UINT64_C(1) << 40);
	assert_int_equal(read.status, INSTANCE_NO_STATUS);
	assert_int_equal(read.stop_signal, SIGQUIT);
	assert_true(read.spec.process.capabilities.bounding == 0xa80425fb);
	command = instance_command(&read);
	assert_string_equal(command, "sh -c x?");
	free(command);
	assert_string_equal(read.spec.process.args.item[0], "sh");
	assert_int_equal(read.spec.linux_part.memory_limit, 64 << 20);
	assert_string_equal(read.spec.process.env.item[0], "A=1");
	assert_int_equal(read.spec.process.env.count, 1);
	instance_state_done(&read);
	instance_done(&found);
	assert_int_equal(instance_remove(&made, true), 0);
	instance_done(&made);
}

static void test_names(void **state)
{
	struct instance instance, second;
	static const char *const bad[] = {"",    "-x",  ".x", "..",
					  "a/b", "a b", "ä"};

	(void)state;
	log_setup(LOG_ERROR, false);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(instance_create(bad[i], &instance), -EINVAL);
	assert_int_equal(instance_create(NULL, &instance), 0);
	assert_int_equal(strlen(instance.name), 12);
	assert_int_equal(instance_create(instance.name, &second), -EEXIST);
	assert_int_equal(instance_open("none", &second), -ENOENT);
	assert_int_equal(instance_remove(&instance, true), 0);
	instance_done(&instance);
	assert_int_equal(instance_open("none", &second), -ENOENT);
}

/* Free numbers, from the one that is asked for on; others' names are kept. */
static void test_numbered(void **state)
{
	static const char *const names[] = {"a-1", "a-3", "a-4", "a-2"};
	static const unsigned from[] = {1, 2, 3, 1};
	struct instance taken, made[4], none;
	unsigned number = 1;
	char prefix[INSTANCE_NAME_MAX + 1];

	(void)state;
	assert_int_equal(instance_create("a-2", &taken), 0);
	for (unsigned i = 0; i < 4; i++) {
		/* The name of one that is removed is free again. */
		if (i == 3)
			assert_int_equal(instance_remove(&taken, true), 0);
		number = from[i];
		assert_int_equal(
			instance_create_numbered("a", &number, &made[i]), 0);
		assert_string_equal(made[i].name, names[i]);
		assert_int_equal(number, names[i][2] - '0');
	}
	memset(prefix, 'a', sizeof(prefix) - 1);
	prefix[sizeof(prefix) - 1] = '\0';
	assert_int_equal(instance_create_numbered(prefix, &number, &none),
			 -ENAMETOOLONG);
	assert_int_equal(instance_create_numbered("../a", &number, &none),
			 -EINVAL);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(instance_remove(&made[i], true), 0);
		instance_done(&made[i]);
	}
	instance_done(&taken);
}

/* The lock is the holder's and its children's, and goes with the last. */
static void test_lock(void **state)
{
	struct instance made, found;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(instance_create("one", &made), 0);
	save_simple(&made, false);
	assert_int_equal(instance_open("one", &found), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_true(instance_is_alive(&found));
	instance_done(&made);
	assert_true(instance_is_alive(&found));
	assert_int_equal(instance_wait(&found, 0), -ETIME);
	assert_int_equal(instance_remove(&found, false), -EBUSY);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(instance_wait(&found, 1000), 0);
	assert_false(instance_is_alive(&found));
	assert_int_equal(instance_remove(&found, false), 0);
	instance_done(&found);
}

static int count(const struct instance *instance, void *arg)
{
	(void)instance;
	++*(int *)arg;
	return 0;
}

static void test_sweep(void **state)
{
	struct instance alive, found;
	struct instance_state read;
	int n = 0;

	(void)state;
	instance_sweep();
	make_dead("gone", true);
	make_dead("kept", false);
	assert_int_equal(instance_create("bare", &found), 0);
	instance_done(&found); /* died before it had a state */
	assert_int_equal(instance_create("lives", &alive), 0);
	instance_sweep();
	assert_int_equal(instance_open("gone", &found), -ENOENT);
	assert_int_equal(instance_open("bare", &found), -ENOENT);
	assert_int_equal(instance_each(count, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(instance_open("kept", &found), 0);
	assert_int_equal(instance_load(&found, &read), 0);
	assert_int_equal(read.phase, INSTANCE_EXITED);
	assert_int_equal(read.status, INSTANCE_KILLED);
	instance_state_done(&read);
	assert_int_equal(instance_remove(&found, false), 0);
	instance_done(&found);
	assert_int_equal(instance_remove(&alive, true), 0);
	instance_done(&alive);
}

/* Another version's, maybe: it and its log stay until `rm`. */
static void test_sweep_unreadable(void **state)
{
	struct instance found;
	int fd;

	(void)state;
	make_dead("newer", false);
	assert_int_equal(instance_open("newer", &found), 0);
	fd = openat(found.dir_fd, "state.json", O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "{\"status\": ", 11), 11);
	close(fd);
	instance_done(&found);
	instance_sweep();
	assert_int_equal(instance_open("newer", &found), 0);
	assert_int_equal(instance_remove(&found, false), 0);
	instance_done(&found);
}

/* Only this one is swept, and only when no process holds it. */
static void test_sweep_one(void **state)
{
	struct instance alive, found;

	(void)state;
	make_dead("gone", true);
	make_dead("other", true);
	assert_int_equal(instance_create("lives", &alive), 0);
	save_simple(&alive, true);
	instance_sweep_one("gone", 0);
	instance_sweep_one("lives", 20);
	instance_sweep_one("none", 0);
	assert_int_equal(instance_open("gone", &found), -ENOENT);
	assert_int_equal(instance_open("other", &found), 0);
	instance_done(&found);
	assert_int_equal(instance_open("lives", &found), 0);
	instance_done(&found);
	instance_done(&alive);
	instance_sweep_one("lives", 0);
	assert_int_equal(instance_open("lives", &found), -ENOENT);
	instance_sweep();
}

/* A process that has opened the status can read it after the rest is gone. */
static void test_status(void **state)
{
	struct instance instance;
	int fd;

	(void)state;
	assert_int_equal(instance_create("one", &instance), 0);
	instance_status_write(&instance, INSTANCE_NO_STATUS);
	fd = openat(instance.dir_fd, INSTANCE_STATUS_FILE, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(instance_status_read(fd), INSTANCE_KILLED);
	instance_status_write(&instance, 9);
	assert_int_equal(instance_remove(&instance, true), 0);
	assert_int_equal(instance_status_read(fd), 9);
	close(fd);
	instance_done(&instance);
}

static int count_volume(const char *name, const char *path, void *arg)
{
	assert_string_equal(name, strrchr(path, '/') + 1);
	assert_int_equal(access(path, F_OK), 0);
	++*(int *)arg;
	return 0;
}

static void test_volumes(void **state)
{
	struct ctx *ctx = *state;
	char store[96], images[128], *path, *again;
	int fd, fd2, n = 0;

	snprintf(store, sizeof(store), "%s/store", ctx->top);
	setenv("BULKHEAD_STORE", store, 1);
	assert_int_equal(volume_remove("one"), -ENOENT);
	assert_int_equal(volume_each(count_volume, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(volume_open("../one", &path, &fd), -EINVAL);
	assert_int_equal(volume_open("one", &path, &fd), 0);
	assert_int_equal(volume_open("one", &again, &fd2), 0);
	assert_string_equal(path, again);
	assert_int_equal(volume_each(count_volume, &n), 0);
	assert_int_equal(n, 1);
	close(fd);
	assert_int_equal(volume_remove("one"), -EBUSY);
	close(fd2);
	assert_int_equal(volume_remove("one"), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(volume_remove("one"), -ENOENT);
	free(path);
	free(again);
	snprintf(images, sizeof(images), "%s/volumes", store);
	assert_int_equal(rmdir(images), 0);
	snprintf(images, sizeof(images), "%s/images/.lock", store);
	assert_int_equal(unlink(images), 0);
	snprintf(images, sizeof(images), "%s/images", store);
	assert_int_equal(rmdir(images), 0);
	assert_int_equal(rmdir(store), 0);
}

/* Other users must not be able to write there. */
static void test_foreign_base(void **state)
{
	struct ctx *ctx = *state;
	struct instance instance;

	assert_int_equal(mkdir(ctx->base, 0700), 0);
	assert_int_equal(chmod(ctx->base, 0777), 0);
	assert_int_equal(instance_create("one", &instance), -EPERM);
	assert_int_equal(rmdir(ctx->base), 0);
	assert_int_equal(symlink("/tmp", ctx->base), 0);
	assert_true(instance_create("one", &instance) < 0);
	assert_int_equal(unlink(ctx->base), 0);
}

/* A process that has got the old number is not signalled. */
static void test_kill(void **state)
{
	char killer[INSTANCE_KILLER_MAX + 1];
	struct instance_state s = {0};
	struct instance instance;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(instance_create("one", &instance), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	s.pid = pid;
	s.pid_start = instance_process_start(pid) + 1;
	instance_kill_monitor(&instance, &s, "stop");
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	instance_read_killer(&instance, killer);
	assert_string_equal(killer, "");
	s.pid_start--;
	instance_kill_monitor(&instance, &s, "stop");
	instance_read_killer(&instance, killer);
	assert_string_equal(killer, "stop");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(instance_process_start(pid), 0);
	assert_int_equal(instance_remove(&instance, true), 0);
	instance_done(&instance);
}

/* ---- the log */

static void read_all(int dir_fd, uint64_t *ret_bytes, char *ret_last)
{
	static char data[RUNLOG_RECORD_MAX];
	struct runlog_reader reader;
	struct runlog_record record;

	*ret_bytes = 0;
	runlog_reader_init(&reader, dir_fd);
	while (runlog_next(&reader, &record, data) == 1) {
		*ret_bytes += record.bytes;
		*ret_last = data[record.bytes - 1];
	}
	runlog_reader_done(&reader);
}

static void test_log(void **state)
{
	struct instance instance;
	struct runlog_reader reader;
	struct runlog_record record;
	static char data[RUNLOG_RECORD_MAX];
	struct runlog log;

	(void)state;
	assert_int_equal(instance_create("one", &instance), 0);
	runlog_reader_init(&reader, instance.dir_fd);
	assert_int_equal(runlog_next(&reader, &record, data), 0);
	runlog_open(&log, instance.dir_fd);
	assert_int_equal(runlog_next(&reader, &record, data), 0);
	runlog_write(&log, RUNLOG_STDERR, "abc", 3);
	assert_int_equal(runlog_next(&reader, &record, data), 1);
	assert_int_equal(record.stream, RUNLOG_STDERR);
	assert_int_equal(record.bytes, 3);
	assert_memory_equal(data, "abc", 3);
	assert_int_equal(runlog_next(&reader, &record, data), 0);
	runlog_reader_done(&reader);
	runlog_close(&log);
	assert_int_equal(instance_remove(&instance, true), 0);
	instance_done(&instance);
}

/* Two files of 8 MiB at most; a reader goes through both. */
static void test_log_turns(void **state)
{
	struct instance instance;
	static char piece[100000];
	struct runlog log;
	uint64_t bytes;
	struct stat st;
	char last = 0;

	(void)state;
	assert_int_equal(instance_create("one", &instance), 0);
	runlog_open(&log, instance.dir_fd);
	for (int i = 0; i < 300; i++) {
		memset(piece, 'a' + i % 26, sizeof(piece));
		runlog_write(&log, RUNLOG_STDOUT, piece, sizeof(piece));
	}
	runlog_close(&log);
	read_all(instance.dir_fd, &bytes, &last);
	assert_true(bytes > RUNLOG_FILE_MAX);
	assert_true(bytes < 2 * RUNLOG_FILE_MAX + 2 * RUNLOG_RECORD_MAX);
	assert_int_equal(last, 'a' + 299 % 26);
	assert_int_equal(fstatat(instance.dir_fd, RUNLOG_OLDER, &st, 0), 0);
	assert_int_equal(instance_remove(&instance, true), 0);
	instance_done(&instance);
}

/* A second run goes on behind the first one's last whole record. */
static void test_log_again(void **state)
{
	static char data[RUNLOG_RECORD_MAX];
	const struct runlog_record half = {.bytes = 100, .stream = 1};
	struct runlog_reader reader;
	struct runlog_record record;
	struct instance instance;
	struct runlog log;
	int fd;

	(void)state;
	assert_int_equal(instance_create("one", &instance), 0);
	runlog_open(&log, instance.dir_fd);
	runlog_write(&log, RUNLOG_STDOUT, "abc", 3);
	runlog_close(&log);
	fd = openat(instance.dir_fd, RUNLOG_FILE, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, &half, sizeof(half)), sizeof(half));
	assert_int_equal(write(fd, "half", 4), 4);
	close(fd);
	runlog_open(&log, instance.dir_fd);
	runlog_write(&log, RUNLOG_STDERR, "def", 3);
	runlog_close(&log);
	runlog_reader_init(&reader, instance.dir_fd);
	assert_int_equal(runlog_next(&reader, &record, data), 1);
	assert_memory_equal(data, "abc", 3);
	assert_int_equal(runlog_next(&reader, &record, data), 1);
	assert_memory_equal(data, "def", 3);
	assert_int_equal(record.stream, RUNLOG_STDERR);
	assert_int_equal(runlog_next(&reader, &record, data), 0);
	runlog_reader_done(&reader);
	assert_int_equal(instance_remove(&instance, true), 0);
	instance_done(&instance);
}

/* Only one that nobody holds, and without what the last run left. */
static void test_again(void **state)
{
	struct instance instance, other;

	(void)state;
	assert_int_equal(instance_create("one", &instance), 0);
	instance_status_write(&instance, 7);
	assert_int_equal(instance_open("one", &other), 0);
	assert_int_equal(instance_again(&other), -EBUSY);
	assert_int_equal(faccessat(other.dir_fd, INSTANCE_STATUS_FILE, F_OK, 0),
			 0);
	instance_done(&instance);
	/* Until it really starts the last run's end counts. */
	assert_int_equal(instance_again(&other), 0);
	assert_int_equal(faccessat(other.dir_fd, INSTANCE_STATUS_FILE, F_OK, 0),
			 0);
	instance_forget(&other);
	assert_int_equal(faccessat(other.dir_fd, INSTANCE_STATUS_FILE, F_OK, 0),
			 -1);
	assert_int_equal(instance_open("one", &instance), 0);
	assert_true(instance_is_alive(&instance));
	instance_done(&instance);
	assert_int_equal(instance_remove(&other, true), 0);
	instance_done(&other);
}

static void test_log_damaged(void **state)
{
	static const struct runlog_record lie = {.bytes = UINT32_MAX};
	static char data[RUNLOG_RECORD_MAX];
	struct instance instance;
	struct runlog_reader reader;
	struct runlog_record record;
	int fd;

	(void)state;
	assert_int_equal(instance_create("one", &instance), 0);
	fd = openat(instance.dir_fd, RUNLOG_FILE, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, &lie, sizeof(lie)), sizeof(lie));
	close(fd);
	runlog_reader_init(&reader, instance.dir_fd);
	assert_int_equal(runlog_next(&reader, &record, data), -EINVAL);
	runlog_reader_done(&reader);
	assert_int_equal(instance_remove(&instance, true), 0);
	instance_done(&instance);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_state, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_numbered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sweep_unreadable, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_sweep_one, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_status, setup, teardown),
		cmocka_unit_test_setup_teardown(test_volumes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_base, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_turns, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_log_again, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_damaged, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
