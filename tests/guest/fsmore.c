/* SPDX-License-Identifier: Apache-2.0 */
/*
 * More of what the test guest expects of a file system (fs.c): what changes
 * the times of what, what is refused and how, ranges of files, a directory
 * that changes while it is listed.
 */
#include "fs.h"
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- times */

static struct timespec mtime_of(const char *name)
{
	struct stat st;

	return lstat(name, &st) ? (struct timespec){0} : st.st_mtim;
}

static struct timespec ctime_of(const char *name)
{
	struct stat st;

	return lstat(name, &st) ? (struct timespec){0} : st.st_ctim;
}

static bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec ||
	       (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

/* CALL makes the time that OF gives of NAME a later one. */
#define TOUCHES(call, of, name)                                                \
	do {                                                                   \
		const struct timespec before_ = of(name);                      \
		usleep(15000);                                                 \
		MUST((call) == 0);                                             \
		MUST(later(of(name), before_));                                \
	} while (0)

static int write_to(const char *name, int flags)
{
	const int fd = open(name, O_WRONLY | flags | O_CLOEXEC);

	return fd >= 0 && write(fd, "x", 1) == 1 ? close(fd) : -1;
}

static int test_touched(void)
{
	struct timespec t;

	MUST(mkdir("d", 0755) == 0);
	TOUCHES(make_file("d/f", 0644, "abc"), mtime_of, "d");
	TOUCHES(chmod("d/f", 0600), ctime_of, "d/f");
	TOUCHES(link("d/f", "d/g"), ctime_of, "d/f");
	TOUCHES(rename("d/g", "d/h"), mtime_of, "d");
	TOUCHES(unlink("d/h"), ctime_of, "d/f");
	TOUCHES(symlink("f", "d/l"), mtime_of, "d");
	TOUCHES(unlink("d/l"), mtime_of, "d");
	TOUCHES(mkdir("d/e", 0755), mtime_of, "d");
	TOUCHES(rmdir("d/e"), mtime_of, "d");
	TOUCHES(write_to("d/f", 0), mtime_of, "d/f");
	TOUCHES(write_to("d/f", O_APPEND), ctime_of, "d/f");
	TOUCHES(truncate("d/f", 1), mtime_of, "d/f");
	TOUCHES(chown("d/f", 0, 7), ctime_of, "d/f");
	/*
	 * A call that fails changes no time, nor does one that changes nothing.
	 */
	t = mtime_of("d");
	usleep(15000);
	REFUSED(mkdir("d/f", 0755), EEXIST);
	REFUSED(unlink("d/none"), ENOENT);
	MUST(!later(mtime_of("d"), t));
	t = mtime_of("d/f");
	MUST(chmod("d/f", 0640) == 0 && !later(mtime_of("d/f"), t));
	return 0;
}

static int test_old_times(void)
{
	const struct timespec t[2] = {{.tv_sec = -86400, .tv_nsec = 1},
				      {.tv_sec = 4102444800, .tv_nsec = 7}};
	struct stat st;

	MUST(make_file("f", 0600, "") == 0);
	MUST(utimensat(AT_FDCWD, "f", t, 0) == 0 && stat("f", &st) == 0);
	MUST(st.st_atim.tv_sec == -86400 && st.st_atim.tv_nsec == 1);
	MUST(st.st_mtim.tv_sec == 4102444800 && st.st_mtim.tv_nsec == 7);
	return 0;
}

/* ---- what is refused */

static int test_refused(void)
{
	struct stat st;
	int fd;

	MUST(make_file("f", 0600, "abc") == 0 && mkdir("d", 0700) == 0);
	REFUSED(truncate("d", 0), EISDIR);
	REFUSED(truncate("f", -1), EINVAL);
	REFUSED(rmdir("d/."), EINVAL);
	REFUSED(rename("d", "d/."), EBUSY);
	REFUSED(rename("d/..", "x"), EBUSY);
	REFUSED(open("f/", O_RDONLY), ENOTDIR);
	REFUSED(mkdir("f/x", 0700), ENOTDIR);
	REFUSED(symlink("", "l"), ENOENT);
	REFUSED(open("new/", O_WRONLY | O_CREAT, 0600), EISDIR);
	REFUSED(mknod("d", S_IFREG | 0600, 0), EEXIST);
	REFUSED(link("f", "d"), EEXIST);
	fd = open("f", O_RDONLY | O_CLOEXEC);
	MUST(fd >= 0);
	REFUSED(ftruncate(fd, 0), EINVAL);
	REFUSED(write(fd, "x", 1), EBADF);
	REFUSED(fallocate(fd, 0, 0, 1), EBADF);
	REFUSED(lseek(fd, -1, SEEK_SET), EINVAL);
	MUST(fstat(fd, &st) == 0 && st.st_size == 3);
	close(fd);
	fd = open("f", O_WRONLY | O_CLOEXEC);
	MUST(fd >= 0);
	REFUSED(read(fd, &st, 1), EBADF);
	REFUSED(fallocate(fd, 0, -1, 1), EINVAL);
	REFUSED(fallocate(fd, 0, 0, 0), EINVAL);
	return close(fd);
}

static int test_whiteout(void)
{
	struct stat st;

	MUST(make_file("a", 0600, "a") == 0);
	MUST(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_WHITEOUT) == 0);
	MUST(lstat("a", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0);
	MUST(mode_of("b") == (S_IFREG | 0600));
	REFUSED(renameat2(AT_FDCWD, "a", AT_FDCWD, "b",
			  RENAME_EXCHANGE | RENAME_NOREPLACE),
		EINVAL);
	MUST(mkdir("d", 0700) == 0);
	MUST(renameat2(AT_FDCWD, "d", AT_FDCWD, "b", RENAME_EXCHANGE) == 0);
	MUST(S_ISDIR(mode_of("b")) && S_ISREG(mode_of("d")));
	MUST(unlink("a") == 0);
	return 0;
}

/* ---- ranges */

static bool all(int fd, off_t at, size_t bytes, char c)
{
	static char buf[65536];

	if (pread(fd, buf, bytes, at) != (ssize_t)bytes)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		if (buf[i] != c)
			return false;
	}
	return true;
}

static int test_ranges(void)
{
	static char data[65536];
	const int fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;

	memset(data, 'd', sizeof(data));
	MUST(fd >= 0 && pwrite(fd, data, sizeof(data), 0) == sizeof(data));
	MUST(ftruncate(fd, 1 << 20) == 0 && fsync(fd) == 0);
	MUST(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096,
		       8192) == 0);
	MUST(all(fd, 0, 4096, 'd') && all(fd, 4096, 8192, 0) &&
	     all(fd, 12288, 4096, 'd'));
	if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 20000, 1000) == 0)
		MUST(all(fd, 19000, 1000, 'd') && all(fd, 20000, 1000, 0) &&
		     all(fd, 21000, 1000, 'd'));
	else
		MUST(errno == EOPNOTSUPP);
	MUST(lseek(fd, 0, SEEK_HOLE) == 4096);
	MUST(lseek(fd, 4096, SEEK_DATA) == 12288);
	MUST(lseek(fd, 1 << 19, SEEK_HOLE) == 1 << 19);
	REFUSED(lseek(fd, 1 << 19, SEEK_DATA), ENXIO);
	MUST(fallocate(fd, 0, 1 << 20, 1 << 20) == 0);
	MUST(fstat(fd, &st) == 0 && st.st_size == 2 << 20);
	MUST(st.st_blocks * 512 >= 1 << 20);
	REFUSED(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), EOPNOTSUPP);
	MUST(syncfs(fd) == 0 && fdatasync(fd) == 0);
	return close(fd);
}

static int append(int times)
{
	for (int i = 0; i < times; i++) {
		if (write_to("log", O_APPEND))
			return -1;
	}
	return 0;
}

/* Two processes that append to a file do not overwrite each other's data. */
static int test_append(void)
{
	struct stat st;
	int status = -1;
	pid_t pid;

	MUST(make_file("log", 0600, "") == 0);
	pid = fork();
	if (pid == 0)
		_exit(append(50) ? 1 : 0);
	MUST(pid > 0 && append(50) == 0);
	MUST(waitpid(pid, &status, 0) == pid && status == 0);
	MUST(stat("log", &st) == 0 && st.st_size == 100);
	return 0;
}

/* Mapped by two processes, a file is the same memory for both. */
static int test_shared(void)
{
	const int fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char *map, *other;
	int status = -1;
	pid_t pid;

	MUST(fd >= 0 && ftruncate(fd, 8192) == 0);
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED && errno == ENODEV)
		return close(fd);
	MUST(map != MAP_FAILED);
	pid = fork();
	if (pid == 0) {
		const int again = open("f", O_RDWR | O_CLOEXEC);

		other = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED,
			     again, 0);
		if (other == MAP_FAILED)
			_exit(1);
		other[5000] = 'o';
		_exit(0);
	}
	MUST(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
	MUST(map[5000] == 'o' && munmap(map, 8192) == 0);
	MUST(all(fd, 5000, 1, 'o'));
	return close(fd);
}

/* ---- a directory that changes */

#define STABLE 400

static void come_and_go(void)
{
	char name[32];

	for (unsigned i = 0;; i++) {
		snprintf(name, sizeof(name), "passing-%u", i % 50);
		if (i / 50 % 2)
			unlink(name);
		else
			make_file(name, 0600, "");
	}
}

/*
 * A file that was there all the time is listed once, whatever else comes and
 * goes.
 */
static int list_stable(void)
{
	unsigned char seen[STABLE] = {0};
	DIR *dir = opendir(".");
	const struct dirent *e;
	int i;

	MUST(dir != NULL);
	while ((e = readdir(dir))) {
		if (sscanf(e->d_name, "stable-%d", &i) == 1 && i >= 0 &&
		    i < STABLE)
			seen[i]++;
	}
	closedir(dir);
	for (i = 0; i < STABLE; i++)
		MUST(seen[i] == 1);
	return 0;
}

static int test_concurrent(void)
{
	char name[32];
	pid_t pid;
	int r = 0;

	for (int i = 0; i < STABLE; i++) {
		snprintf(name, sizeof(name), "stable-%d", i);
		MUST(make_file(name, 0600, "") == 0);
	}
	pid = fork();
	if (pid == 0)
		come_and_go();
	MUST(pid > 0);
	for (int i = 0; i < 5 && r == 0; i++)
		r = list_stable();
	kill(pid, SIGKILL);
	MUST(waitpid(pid, NULL, 0) == pid);
	return r;
}

/* Others may come and go. */
int do_list(char **arg)
{
	const unsigned long count = (unsigned long)guest_number(arg[1]);
	unsigned long seen = 0, sum = 0;
	const struct dirent *e;
	DIR *dir = opendir(arg[0]);

	MUST(dir != NULL);
	while ((e = readdir(dir))) {
		struct stat st;

		if (e->d_name[0] < '0' || e->d_name[0] > '9')
			continue;
		MUST(fstatat(dirfd(dir), e->d_name, &st, 0) == 0);
		MUST(S_ISREG(st.st_mode) && st.st_ino == e->d_ino);
		sum += (unsigned long)guest_number(e->d_name);
		seen++;
	}
	MUST(seen == count && sum == count * (count + 1) / 2);
	return closedir(dir);
}

/* ---- file handles */

struct handle {
	struct file_handle head;
	unsigned char bytes[MAX_HANDLE_SZ];
};

static int handle_of(const char *name, struct handle *ret)
{
	int mount;

	ret->head.handle_bytes = MAX_HANDLE_SZ;
	return name_to_handle_at(AT_FDCWD, name, &ret->head, &mount, 0);
}

/* Makes the kernel drop all inodes and pages that are not in use. */
static int drop_caches(void)
{
	const int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, "2", 1) == 1 ? close(fd) : -1;
}

static int reopen(int mount, struct handle *handle, const char *text)
{
	char buf[16] = "";
	const int fd =
		open_by_handle_at(mount, &handle->head, O_RDONLY | O_CLOEXEC);

	MUST(fd >= 0);
	MUST(!text || read(fd, buf, sizeof(buf)) >= 0);
	MUST(!text || strcmp(buf, text) == 0);
	/* For a directory also the way up to the root. */
	MUST(text || faccessat(fd, "f", F_OK, 0) == 0);
	return close(fd);
}

/* handles:DIR: good as long as the file is there, not once only */
int do_handles(char **arg)
{
	struct handle dir, file;
	int mount;

	MUST(chdir(arg[0]) == 0);
	mount = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(mount >= 0);
	MUST(mkdir("e", 0755) == 0 && mkdir("e/d", 0755) == 0);
	MUST(make_file("e/d/f", 0600, "text") == 0);
	MUST(handle_of("e/d", &dir) == 0);
	MUST(handle_of("e/d/f", &file) == 0);
	for (unsigned i = 0; i < 3; i++) {
		MUST(drop_caches() == 0);
		MUST(reopen(mount, &file, "text") == 0);
		MUST(reopen(mount, &file, "text") == 0);
		MUST(drop_caches() == 0);
		MUST(reopen(mount, &dir, NULL) == 0);
	}
	MUST(unlink("e/d/f") == 0);
	MUST(drop_caches() == 0);
	REFUSED(open_by_handle_at(mount, &file.head, O_RDONLY), ESTALE);
	return close(mount);
}

const struct fs_test fs_more_tests[] = {
	{"touched", test_touched},
	{"old-times", test_old_times},
	{"refused", test_refused},
	{"whiteout", test_whiteout},
	{"ranges", test_ranges},
	{"append", test_append},
	{"shared", test_shared},
	{"concurrent", test_concurrent},
	{NULL, NULL},
};
