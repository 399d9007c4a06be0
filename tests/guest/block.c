/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test guest's use of disks: what the kernel found out about one, and
 * reads and writes that go past the page cache.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define CHUNK (64u << 10)

/* NAME is in /dev, or, on the host, a path; not all files have O_DIRECT. */
static int disk_open(const char *name, int flags)
{
	char path[256];
	int fd;

	guest_mounts();
	snprintf(path, sizeof(path), "%s%s", *name == '/' ? "" : "/dev/", name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0 && *name == '/')
		fd = open(path, (flags & ~O_DIRECT) | O_CLOEXEC);
	if (fd < 0)
		guest_fail("%s", path);
	return fd;
}

/* disk:vda:KEY:VALUE, KEY a file of /sys/block/vda. */
static int do_disk(char **arg)
{
	char path[128], have[128];

	guest_mounts();
	snprintf(path, sizeof(path), "/sys/block/%s/%s", arg[0], arg[1]);
	for (char *p = path; *p; p++) {
		if (*p == '+')
			*p = '/';
	}
	if (guest_read(path, have, sizeof(have)))
		return guest_fail("disk: %s", path);
	errno = 0;
	if (strcmp(have, arg[2]) != 0)
		return guest_fail("disk: %s is '%s', not '%s'", path, have,
				  arg[2]);
	return 0;
}

enum pass { PASS_WRITE, PASS_CHECK, PASS_ZERO };

static int chunk_pass(int fd, enum pass pass, void *buf, uint64_t at,
		      uint64_t seed)
{
	long wrong;

	if (pass == PASS_WRITE) {
		pattern_fill(buf, CHUNK, at, seed);
		return pwrite(fd, buf, CHUNK, (off_t)at) == CHUNK
			       ? 0
			       : guest_fail("write at %lu", (unsigned long)at);
	}
	if (pread(fd, buf, CHUNK, (off_t)at) != CHUNK)
		return guest_fail("read at %lu", (unsigned long)at);
	errno = 0;
	if (pass == PASS_ZERO) {
		const char *p = buf;

		wrong = *p || memcmp(p, p + 1, CHUNK - 1) ? 0 : -1;
	} else {
		wrong = pattern_check(buf, CHUNK, at, seed);
	}
	if (wrong >= 0)
		return guest_fail("byte %lu is wrong",
				  (unsigned long)at + (unsigned long)wrong);
	return 0;
}

/* The range is in multiples of CHUNK. */
static int range_pass(char **arg, enum pass pass)
{
	const uint64_t start = guest_number(arg[1]);
	const uint64_t bytes = guest_number(arg[2]);
	const uint64_t seed = arg[3] ? guest_number(arg[3]) : 0;
	const int fd = disk_open(
		arg[0], O_DIRECT | (pass == PASS_WRITE ? O_RDWR : O_RDONLY));
	void *buf = aligned_alloc(CHUNK, CHUNK);
	int r = 0;

	if (fd < 0 || !buf)
		return -1;
	for (uint64_t at = start; !r && at < start + bytes; at += CHUNK)
		r = chunk_pass(fd, pass, buf, at, seed);
	if (!r && pass == PASS_WRITE && fsync(fd))
		r = guest_fail("fsync");
	free(buf);
	close(fd);
	return r;
}

static int do_write(char **arg)
{
	return range_pass(arg, PASS_WRITE);
}

static int do_check(char **arg)
{
	return range_pass(arg, PASS_CHECK);
}

static int do_iszero(char **arg)
{
	return range_pass(arg, PASS_ZERO);
}

static int range_ioctl(char **arg, unsigned long request, const char *what)
{
	uint64_t range[2] = {guest_number(arg[1]), guest_number(arg[2])};
	const int fd = disk_open(arg[0], O_RDWR);
	int r;

	if (fd < 0)
		return -1;
	r = ioctl(fd, request, range) ? guest_fail("%s", what) : 0;
	close(fd);
	return r;
}

static int do_discard(char **arg)
{
	return range_ioctl(arg, BLKDISCARD, "discard");
}

static int do_zero(char **arg)
{
	return range_ioctl(arg, BLKZEROOUT, "zero");
}

/* A disk that has to refuse to be written. */
static int do_refuse(char **arg)
{
	char path[64];
	int fd;

	guest_mounts();
	snprintf(path, sizeof(path), "/dev/%s", arg[0]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	errno = 0;
	if (fd >= 0 && pwrite(fd, path, 1, 0) == 1 && fsync(fd) == 0)
		return guest_fail("refuse: %s was written", path);
	close(fd);
	return 0;
}

/* Reads at OFFSET until it gives EIO. */
static int do_eio(char **arg)
{
	const int fd = disk_open(arg[0], O_RDONLY | O_DIRECT);
	const off_t at = (off_t)guest_number(arg[1]);
	void *buf = aligned_alloc(4096, 4096);
	const double end = guest_now() + PATIENCE_S;

	if (fd < 0 || !buf)
		return -1;
	say("waiting for EIO");
	do {
		if (pread(fd, buf, 4096, at) < 0)
			break;
		errno = 0;
		usleep(100000);
	} while (guest_now() < end);
	close(fd);
	free(buf);
	return errno == EIO ? 0 : guest_fail("eio: it did not come");
}

/* Waits until the disk has BYTES. */
static int do_grown(char **arg)
{
	const uint64_t want = guest_number(arg[1]);
	const double end = guest_now() + PATIENCE_S;
	uint64_t have = 0;
	int fd;

	say("waiting for size");
	do {
		fd = disk_open(arg[0], O_RDONLY);
		if (fd < 0 || ioctl(fd, BLKGETSIZE64, &have))
			return guest_fail("grown: %s", arg[0]);
		close(fd);
		if (have == want)
			return 0;
		usleep(50000);
	} while (guest_now() < end);
	errno = 0;
	return guest_fail("grown: %s has %lu bytes", arg[0],
			  (unsigned long)have);
}

/*
 * many:N: the disks vda to the Nth hold their own number in each sector; all
 * are read at once, some rounds of it, so that their interrupts meet.
 */
#define MANY_ROUNDS 8

static int many_child(unsigned index)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
	uint64_t *buf = aligned_alloc(4096, 4096);
	char name[32];
	int fd;

	if (index < 26)
		snprintf(name, sizeof(name), "vd%c", letters[index]);
	else
		snprintf(name, sizeof(name), "vd%c%c", letters[index / 26 - 1],
			 letters[index % 26]);
	fd = disk_open(name, O_RDWR | O_DIRECT);
	if (fd < 0 || !buf)
		return 1;
	for (uint64_t i = 0; i < MANY_ROUNDS; i++) {
		const off_t at = (off_t)(i % 16 * 4096);

		memset(buf, (int)index + 1, 4096);
		buf[0] = i;
		if (pwrite(fd, buf, 4096, at) != 4096)
			return 1;
		memset(buf, 0, 4096);
		if (pread(fd, buf, 4096, at) != 4096 || buf[0] != i ||
		    (buf[1] & 0xff) != index + 1)
			return 1;
	}
	return 0;
}

static int do_many(char **arg)
{
	const unsigned n = (unsigned)guest_number(arg[0]);
	int status, bad = 0;

	guest_mounts();
	for (unsigned i = 0; i < n; i++) {
		const pid_t pid = fork();

		if (pid == 0)
			_exit(many_child(i));
		if (pid < 0)
			return guest_fail("many: fork");
	}
	for (unsigned i = 0; i < n; i++) {
		if (wait(&status) < 0)
			return guest_fail("many: wait");
		bad += status != 0;
	}
	errno = 0;
	return bad ? guest_fail("many: %d disks", bad) : 0;
}

/* Marks the disk and reboots; powers off where it finds the mark. */
static int do_reboot_once(char **arg)
{
	static const char mark[] = "marked";
	const int fd = disk_open(arg[0], O_RDWR);
	char text[sizeof(mark)] = "";

	if (fd < 0 || pread(fd, text, sizeof(text), 0) != sizeof(text))
		return guest_fail("reboot-once: read");
	if (memcmp(text, mark, sizeof(mark)) == 0) {
		say("second time");
		close(fd);
		return 0;
	}
	say("first time");
	if (pwrite(fd, mark, sizeof(mark), 0) != sizeof(mark) || fsync(fd))
		return guest_fail("reboot-once: write");
	tcdrain(STDOUT_FILENO);
	return reboot(RB_AUTOBOOT);
}

const struct action block_actions[] = {
	{"disk", 3, do_disk, "NAME:FILE:VALUE, + in FILE is /"},
	{"write", 4, do_write, "NAME:OFFSET:SIZE:SEED"},
	{"check", 4, do_check, "NAME:OFFSET:SIZE:SEED"},
	{"iszero", 3, do_iszero, "NAME:OFFSET:SIZE"},
	{"discard", 3, do_discard, "NAME:OFFSET:SIZE"},
	{"zero", 3, do_zero, "NAME:OFFSET:SIZE"},
	{"refuse", 1, do_refuse, "NAME"},
	{"grown", 2, do_grown, "NAME:BYTES"},
	{"many", 1, do_many, "N"},
	{"reboot-once", 1, do_reboot_once, "NAME"},
	{"eio", 2, do_eio, "NAME:OFFSET"},
	{NULL, 0, NULL, NULL},
};
