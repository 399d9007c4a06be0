/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test guest's locks against those of other machines: of the host, where
 * this program runs too, and of other guests.
 */
#include "fs.h"
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct flock range(short type, off_t start, off_t bytes)
{
	return (struct flock){.l_type = type,
			      .l_whence = SEEK_SET,
			      .l_start = start,
			      .l_len = bytes};
}

/* await:FILE: until it is there */
static int do_await(char **arg)
{
	const double end = guest_now() + PATIENCE_S;
	int fd;

	/* Opened: that there is none may be remembered for a while. */
	while ((fd = open(arg[0], O_RDONLY | O_CLOEXEC)) < 0) {
		if (guest_now() > end)
			return guest_fail("await: %s", arg[0]);
		usleep(20000);
	}
	close(fd);
	return 0;
}

/*
 * hold:FILE:HELD:DONE:OVER: locks bytes 5 to 14, and all of it, makes HELD,
 * waits for DONE, makes OVER and gives them up.
 */
static int do_hold(char **arg)
{
	const int fd = open(arg[0], O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	struct flock lock = range(F_WRLCK, 5, 10);

	MUST(fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0);
	MUST(flock(fd, LOCK_EX | LOCK_NB) == 0);
	MUST(close(open(arg[1], O_WRONLY | O_CREAT | O_CLOEXEC, 0666)) == 0);
	if (do_await(arg + 2))
		return -1;
	/* A machine that does not wait for the locks finds no OVER. */
	usleep(300000);
	MUST(make_file(arg[3], 0666, "") == 0);
	return close(fd);
}

/* held:FILE: another machine has the locks of hold */
static int do_held(char **arg)
{
	const int fd = open(arg[0], O_RDWR | O_CLOEXEC);
	struct flock lock = range(F_RDLCK, 14, 1);

	MUST(fd >= 0);
	REFUSED(fcntl(fd, F_SETLK, &lock), EAGAIN);
	lock = range(F_RDLCK, 0, 0);
	MUST(fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK &&
	     lock.l_start == 5 && lock.l_len == 10);
	lock = range(F_WRLCK, 15, 0);
	MUST(fcntl(fd, F_SETLK, &lock) == 0);
	lock = range(F_WRLCK, 0, 5);
	MUST(fcntl(fd, F_SETLK, &lock) == 0);
	REFUSED(flock(fd, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	return close(fd);
}

/* wait:FILE:OVER: for both locks */
static int do_wait(char **arg)
{
	const int fd = open(arg[0], O_RDWR | O_CLOEXEC);
	struct flock lock = range(F_WRLCK, 0, 0);

	MUST(fd >= 0 && fcntl(fd, F_SETLKW, &lock) == 0);
	MUST(access(arg[1], F_OK) == 0);
	MUST(flock(fd, LOCK_EX) == 0);
	return close(fd);
}

/* exits:FILE: a process's locks end with it, however it had opened the file */
static int do_exits(char **arg)
{
	for (int i = 0; i < 20; i++) {
		const bool reads = i % 2 == 0;
		struct flock lock = range(reads ? F_RDLCK : F_WRLCK, 0, 0);
		char path[PATH_MAX];
		int status = -1, fd;
		pid_t pid;

		snprintf(path, sizeof(path), "%s-%d", arg[0], i);
		MUST(make_file(path, 0600, "") == 0);
		pid = fork();
		if (pid == 0) {
			fd = open(path, reads ? O_RDONLY : O_RDWR);
			_exit(fcntl(fd, F_SETLK, &lock) ? 1 : 0);
		}
		MUST(waitpid(pid, &status, 0) == pid && status == 0);
		fd = open(path, O_RDWR | O_CLOEXEC);
		lock = range(F_WRLCK, 0, 0);
		MUST(fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0);
		/* Closing any of its files ends all of a process's locks. */
		MUST(close(open(path, O_RDONLY | O_CLOEXEC)) == 0);
		pid = fork();
		if (pid == 0)
			_exit(fcntl(fd, F_SETLK, &lock) ? 1 : 0);
		MUST(waitpid(pid, &status, 0) == pid && status == 0);
		close(fd);
	}
	return 0;
}

static int add_one(int fd)
{
	char text[32] = "";
	const ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	const int bytes = snprintf(text, sizeof(text), "%ld\n",
				   n > 0 ? atol(text) + 1 : 1);

	return pwrite(fd, text, (size_t)bytes, 0) == bytes ? 0 : -1;
}

static int count(const char *path, unsigned times, int whole)
{
	const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	struct flock lock = range(F_WRLCK, 0, 0), none = range(F_UNLCK, 0, 0);

	MUST(fd >= 0);
	for (unsigned i = 0; i < times; i++) {
		MUST((whole ? flock(fd, LOCK_EX)
			    : fcntl(fd, F_SETLKW, &lock)) == 0);
		MUST(add_one(fd) == 0);
		MUST((whole ? flock(fd, LOCK_UN) : fcntl(fd, F_SETLK, &none)) ==
		     0);
	}
	return close(fd);
}

/* count:FILE:TIMES:posix|flock: adds one to what it says, in two processes */
static int do_count(char **arg)
{
	const unsigned times = (unsigned)guest_number(arg[1]);
	const int whole = strcmp(arg[2], "flock") == 0;
	const pid_t pid = fork();
	int status = -1;

	if (pid == 0)
		_exit(count(arg[0], times / 2, whole) ? 1 : 0);
	MUST(pid > 0 && count(arg[0], times - times / 2, whole) == 0);
	MUST(waitpid(pid, &status, 0) == pid && status == 0);
	return 0;
}

/* ---- mappings */

static int *map_file(const char *path)
{
	const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	int *map = MAP_FAILED;

	/* The file stays open, and locked by the machine that has mapped it. */
	if (fd >= 0 && ftruncate(fd, 4096) == 0)
		map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   0);
	return map;
}

/* shmap:FILE:yes|no: whether it can be mapped shared */
static int do_shmap(char **arg)
{
	errno = 0;
	if (strcmp(arg[1], "yes") == 0)
		MUST(map_file(arg[0]) != MAP_FAILED);
	else
		MUST(map_file(arg[0]) == MAP_FAILED && errno == ENODEV);
	return 0;
}

/*
 * mapcount:FILE:TIMES:LOCK: adds one to a number that is mapped, under a lock
 * of LOCK; a database's shared memory is used so. Says "counted", or "refused"
 * when that does not work here.
 */
static int do_mapcount(char **arg)
{
	const int fd = open(arg[2], O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	struct flock lock = range(F_WRLCK, 0, 0), none = range(F_UNLCK, 0, 0);
	volatile int *map = map_file(arg[0]);

	MUST(fd >= 0);
	if (map == MAP_FAILED) {
		MUST(errno == ENODEV);
		say("refused");
		return 0;
	}
	for (unsigned i = (unsigned)guest_number(arg[1]); i > 0; i--) {
		MUST(fcntl(fd, F_SETLKW, &lock) == 0);
		++*map;
		MUST(fcntl(fd, F_SETLK, &none) == 0);
	}
	MUST(msync((void *)map, 4096, MS_SYNC) == 0);
	say("counted");
	return 0;
}

/* mapped:FILE:VALUE: what it came to */
static int do_mapped(char **arg)
{
	const int fd = open(arg[0], O_RDONLY | O_CLOEXEC);
	int value = -1;

	MUST(fd >= 0 && pread(fd, &value, sizeof(value), 0) == sizeof(value));
	errno = 0;
	if (value != (int)guest_number(arg[1]))
		return guest_fail("mapped: %d, not %s", value, arg[1]);
	return close(fd);
}

const struct action fslock_actions[] = {
	{"await", 1, do_await, "FILE"},
	{"hold", 4, do_hold, "FILE:HELD:DONE:OVER"},
	{"held", 1, do_held, "FILE"},
	{"wait", 2, do_wait, "FILE:OVER"},
	{"exits", 1, do_exits, "FILE"},
	{"shmap", 2, do_shmap, "FILE:yes|no"},
	{"mapcount", 3, do_mapcount, "FILE:TIMES:LOCK"},
	{"mapped", 2, do_mapped, "FILE:VALUE"},
	{"count", 3, do_count, "FILE:TIMES:posix|flock"},
	{NULL, 0, NULL, NULL},
};
