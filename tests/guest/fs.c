/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test guest's use of a file system: what POSIX and Linux promise of names,
 * attributes, owners and data, each promise a few calls. Run on the host's own
 * file systems too, to know that it is the test that is right.
 *
 * Every test has a fresh directory for its working directory.
 */
#include "fs.h"
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

int make_file(const char *name, mode_t mode, const char *text)
{
	const int fd =
		open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	const size_t bytes = strlen(text);
	int r = 0;

	if (fd < 0)
		return -1;
	if (write(fd, text, bytes) != (ssize_t)bytes)
		r = -1;
	close(fd);
	return r;
}

static bool holds(const char *name, const char *text)
{
	char buf[256] = "";
	const int fd = open(name, O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	close(fd);
	return n == (ssize_t)strlen(text) && strcmp(buf, text) == 0;
}

mode_t mode_of(const char *name)
{
	struct stat st;

	return lstat(name, &st) ? 0 : st.st_mode;
}

static nlink_t links_of(const char *name)
{
	struct stat st;

	return lstat(name, &st) ? 0 : st.st_nlink;
}

static bool owned_by(const char *name, uid_t uid, gid_t gid)
{
	struct stat st;

	return lstat(name, &st) == 0 && st.st_uid == uid && st.st_gid == gid;
}

int as_user(int (*fn)(void))
{
	int status = -1;
	const pid_t pid = fork();

	if (pid == 0) {
		if (setgroups(0, NULL) || setresgid(GROUP, GROUP, GROUP) ||
		    setresuid(USER, USER, USER))
			_exit(2);
		_exit(fn() ? 1 : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status ? -1 : 0;
}

/* ---- names */

static int test_create(void)
{
	int fd;

	umask(027);
	MUST(make_file("f", 0666, "abc") == 0);
	umask(0);
	MUST(mode_of("f") == (S_IFREG | 0640));
	REFUSED(open("f", O_WRONLY | O_CREAT | O_EXCL, 0600), EEXIST);
	fd = open("f", O_RDWR | O_CREAT, 0600);
	MUST(fd >= 0);
	MUST(mode_of("f") == (S_IFREG | 0640));
	close(fd);
	REFUSED(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	REFUSED(open("f/x", O_RDONLY), ENOTDIR);
	REFUSED(open("none", O_RDONLY), ENOENT);
	REFUSED(open("none/x", O_WRONLY | O_CREAT, 0600), ENOENT);
	REFUSED(open(".", O_WRONLY), EISDIR);
	fd = open("f", O_WRONLY | O_APPEND);
	MUST(fd >= 0 && write(fd, "de", 2) == 2);
	close(fd);
	MUST(holds("f", "abcde"));
	fd = open("f", O_WRONLY | O_TRUNC);
	MUST(fd >= 0);
	close(fd);
	MUST(holds("f", ""));
	MUST(make_file("strict", 0, "x") == 0);
	MUST(mode_of("strict") == S_IFREG);
	return 0;
}

static int test_names(void)
{
	char name[NAME_MAX + 2];

	memset(name, 'n', sizeof(name));
	name[NAME_MAX] = '\0';
	MUST(make_file(name, 0600, "long") == 0 && holds(name, "long"));
	MUST(unlink(name) == 0);
	name[NAME_MAX] = 'n';
	name[NAME_MAX + 1] = '\0';
	REFUSED(open(name, O_WRONLY | O_CREAT, 0600), ENAMETOOLONG);
	MUST(make_file("\xff\x01 \n\"", 0600, "odd") == 0);
	MUST(holds("\xff\x01 \n\"", "odd"));
	MUST(make_file("...", 0600, "dots") == 0 && holds("...", "dots"));
	return 0;
}

static int test_directories(void)
{
	char at[32] = "d";

	umask(022);
	MUST(mkdir("d", 0777) == 0 && mode_of("d") == (S_IFDIR | 0755));
	umask(0);
	REFUSED(mkdir("d", 0777), EEXIST);
	REFUSED(unlink("d"), EISDIR);
	MUST(mkdir("d/e", 01777) == 0 && mode_of("d/e") == (S_IFDIR | 01777));
	REFUSED(rmdir("d"), ENOTEMPTY);
	MUST(make_file("f", 0600, "") == 0);
	REFUSED(rmdir("f"), ENOTDIR);
	MUST(rmdir("d/e") == 0 && rmdir("d") == 0);
	REFUSED(rmdir("d"), ENOENT);
	/* Down and up again, a working directory at a time. */
	for (int i = 0; i < 40; i++)
		MUST(mkdir(at, 0700) == 0 && chdir(at) == 0);
	for (int i = 0; i < 40; i++)
		MUST(chdir("..") == 0 && rmdir(at) == 0);
	return 0;
}

static int test_symlinks(void)
{
	char target[PATH_MAX], buf[PATH_MAX];

	MUST(make_file("f", 0600, "hello") == 0);
	MUST(symlink("f", "l") == 0 && holds("l", "hello"));
	MUST(mode_of("l") == (S_IFLNK | 0777));
	REFUSED(symlink("f", "l"), EEXIST);
	REFUSED(open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
	REFUSED(readlink("f", buf, sizeof(buf)), EINVAL);
	memset(target, 't', sizeof(target));
	target[3000] = '\0';
	MUST(symlink(target, "long") == 0);
	MUST(readlink("long", buf, sizeof(buf)) == 3000 &&
	     memcmp(buf, target, 3000) == 0);
	MUST(symlink("loop", "loop") == 0);
	REFUSED(open("loop", O_RDONLY), ELOOP);
	MUST(symlink("/proc/self/status", "abs") == 0);
	MUST(readlink("abs", buf, sizeof(buf)) == 17);
	MUST(lchown("l", USER, GROUP) == 0);
	MUST(unlink("l") == 0 && holds("f", "hello"));
	return 0;
}

static int test_links(void)
{
	MUST(make_file("a", 0600, "one") == 0 && links_of("a") == 1);
	MUST(link("a", "b") == 0 && links_of("a") == 2 && links_of("b") == 2);
	REFUSED(link("a", "b"), EEXIST);
	REFUSED(link("none", "c"), ENOENT);
	MUST(mkdir("d", 0700) == 0);
	REFUSED(link("d", "e"), EPERM);
	MUST(link("a", "d/c") == 0 && links_of("b") == 3);
	MUST(unlink("a") == 0 && links_of("d/c") == 2 && holds("b", "one"));
	MUST(symlink("b", "l") == 0 && link("l", "m") == 0);
	MUST(S_ISLNK(mode_of("m")) && holds("m", "one"));
	return 0;
}

static int test_rename(void)
{
	char buf[8] = "";
	int fd;

	MUST(make_file("a", 0600, "a") == 0 && make_file("b", 0600, "b") == 0);
	fd = open("b", O_RDWR);
	MUST(fd >= 0 && rename("a", "b") == 0 && holds("b", "a"));
	REFUSED(open("a", O_RDONLY), ENOENT);
	/* A replaced file is still there for those who have it open. */
	MUST(pread(fd, buf, 8, 0) == 1 && buf[0] == 'b');
	MUST(pwrite(fd, "x", 1, 1) == 1 && fchmod(fd, 0400) == 0);
	close(fd);
	MUST(make_file("c", 0600, "c") == 0);
	REFUSED(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_NOREPLACE),
		EEXIST);
	MUST(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE) == 0);
	MUST(holds("b", "c") && holds("c", "a"));
	MUST(mkdir("d", 0700) == 0 && mkdir("d/e", 0700) == 0);
	REFUSED(rename("d", "d/e/f"), EINVAL);
	REFUSED(rename("b", "d"), EISDIR);
	REFUSED(rename("d", "b"), ENOTDIR);
	MUST(mkdir("g", 0700) == 0);
	REFUSED(rename("g", "d"), ENOTEMPTY);
	MUST(make_file("d/e/f", 0600, "deep") == 0);
	MUST(rename("d", "g") == 0 && holds("g/e/f", "deep"));
	MUST(rename("g/e/f", "top") == 0 && holds("top", "deep"));
	REFUSED(rename("none", "x"), ENOENT);
	MUST(link("b", "same") == 0 && rename("b", "same") == 0);
	MUST(holds("b", "c") && holds("same", "c"));
	return 0;
}

static int test_removed(void)
{
	struct stat st;
	char buf[16];
	int fd = open("f", O_RDWR | O_CREAT, 0600);

	MUST(fd >= 0 && write(fd, "still here", 10) == 10);
	MUST(unlink("f") == 0);
	MUST(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 10);
	MUST(pread(fd, buf, 16, 0) == 10 && memcmp(buf, "still", 5) == 0);
	MUST(ftruncate(fd, 5) == 0 && fchmod(fd, 0640) == 0);
	MUST(fsetxattr(fd, "user.x", "1", 1, 0) == 0 || errno == EOPNOTSUPP);
	MUST(fstat(fd, &st) == 0 && st.st_size == 5 &&
	     st.st_mode == (S_IFREG | 0640));
	MUST(make_file("f", 0600, "new") == 0 && holds("f", "new"));
	MUST(pread(fd, buf, 16, 0) == 5);
	close(fd);
	MUST(mkdir("d", 0700) == 0 && chdir("d") == 0 && rmdir("../d") == 0);
	MUST(stat(".", &st) == 0);
	REFUSED(open("x", O_WRONLY | O_CREAT, 0600), ENOENT);
	return 0;
}

static int test_tmpfile(void)
{
	char path[64];
	const int fd = open(".", O_TMPFILE | O_RDWR, 0640);

	if (fd < 0 && errno == EOPNOTSUPP)
		return 0;
	MUST(fd >= 0 && write(fd, "unnamed", 7) == 7);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	MUST(linkat(AT_FDCWD, path, AT_FDCWD, "t", AT_SYMLINK_FOLLOW) == 0);
	MUST(holds("t", "unnamed") && mode_of("t") == (S_IFREG | 0640));
	close(fd);
	return 0;
}

/* ---- special files */

static int test_fifo(void)
{
	char buf[4] = "";
	int fd;

	MUST(mkfifo("p", 0620) == 0 && mode_of("p") == (S_IFIFO | 0620));
	fd = open("p", O_RDWR | O_NONBLOCK);
	MUST(fd >= 0 && write(fd, "abc", 3) == 3 && read(fd, buf, 4) == 3);
	close(fd);
	MUST(memcmp(buf, "abc", 3) == 0 && unlink("p") == 0);
	return 0;
}

static int test_socket(void)
{
	const struct sockaddr_un name = {.sun_family = AF_UNIX,
					 .sun_path = "sock"};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	MUST(fd >= 0 && other >= 0);
	MUST(bind(fd, (const void *)&name, sizeof(name)) == 0);
	MUST(S_ISSOCK(mode_of("sock")) && listen(fd, 1) == 0);
	MUST(connect(other, (const void *)&name, sizeof(name)) == 0);
	close(other);
	close(fd);
	return unlink("sock");
}

/*
 * Where device nodes are not allowed, mknod() fails as it does without the
 * right.
 */
static int test_devices(void)
{
	struct stat st;

	if (mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0) {
		const int fd = open("null", O_RDWR | O_CLOEXEC);

		MUST(stat("null", &st) == 0 && S_ISCHR(st.st_mode) &&
		     st.st_rdev == makedev(1, 3));
		/* The guest's own device answers. */
		MUST(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0);
		MUST(mknod("big", S_IFBLK | 0600, makedev(259, 70000)) == 0);
		MUST(stat("big", &st) == 0 && S_ISBLK(st.st_mode) &&
		     st.st_rdev == makedev(259, 70000));
	} else {
		MUST(errno == EPERM);
	}
	MUST(mknod("white", S_IFCHR, 0) == 0);
	MUST(mode_of("white") == S_IFCHR);
	MUST(mknod("plain", S_IFREG | 0600, 0) == 0 && holds("plain", ""));
	return 0;
}

/* ---- attributes and owners */

static int test_modes(void)
{
	MUST(make_file("f", 0600, "") == 0);
	for (mode_t m = 0; m <= 07777; m += 0111) {
		MUST(chmod("f", m) == 0);
		MUST(mode_of("f") == (S_IFREG | m));
	}
	MUST(mkdir("d", 0700) == 0 && chmod("d", 03771) == 0);
	MUST(mode_of("d") == (S_IFDIR | 03771));
	return 0;
}

static int test_owners(void)
{
	MUST(make_file("f", 0600, "") == 0 && owned_by("f", 0, 0));
	MUST(chown("f", USER, GROUP) == 0 && owned_by("f", USER, GROUP));
	MUST(chown("f", (uid_t)-1, 7) == 0 && owned_by("f", USER, 7));
	MUST(chown("f", 8, (gid_t)-1) == 0 && owned_by("f", 8, 7));
	MUST(chmod("f", 06755) == 0 && chown("f", 9, 9) == 0);
	MUST(mode_of("f") == (S_IFREG | 0755));
	MUST(mkdir("d", 0755) == 0 && chown("d", 65533, 65533) == 0);
	MUST(owned_by("d", 65533, 65533));
	/* A directory's group goes down with its bit. */
	MUST(chmod("d", 02775) == 0 && mkdir("d/e", 0755) == 0);
	MUST(owned_by("d/e", 0, 65533) && mode_of("d/e") == (S_IFDIR | 02755));
	MUST(make_file("d/f", 0644, "") == 0 && owned_by("d/f", 0, 65533));
	return 0;
}

static int as_user_makes(void)
{
	MUST(make_file("open/f", 0644, "mine") == 0);
	MUST(owned_by("open/f", USER, GROUP));
	MUST(mkdir("open/d", 0755) == 0 && owned_by("open/d", USER, GROUP));
	MUST(symlink("f", "open/l") == 0);
	MUST(mkfifo("open/p", 0600) == 0 && owned_by("open/p", USER, GROUP));
	MUST(chmod("open/f", 0600) == 0);
	REFUSED(chown("open/f", 0, GROUP), EPERM);
	REFUSED(make_file("shut/f", 0600, ""), EACCES);
	REFUSED(open("secret", O_RDONLY), EACCES);
	REFUSED(chmod("secret", 0777), EPERM);
	REFUSED(unlink("open/roots"), EPERM);
	REFUSED(rename("open/roots", "open/x"), EPERM);
	REFUSED(open("none-at-all/f", O_RDONLY), ENOENT);
	MUST(unlink("open/p") == 0);
	return 0;
}

static int test_users(void)
{
	MUST(chmod(".", 0755) == 0);
	MUST(mkdir("open", 01777) == 0 && mkdir("shut", 0755) == 0);
	MUST(make_file("secret", 0600, "s") == 0);
	MUST(make_file("open/roots", 0666, "r") == 0);
	MUST(as_user(as_user_makes) == 0);
	MUST(holds("open/f", "mine") && owned_by("open/d", USER, GROUP));
	return 0;
}

static int as_user_writes(void)
{
	int fd = open("tool", O_WRONLY);

	MUST(fd >= 0 && write(fd, "y", 1) == 1 && close(fd) == 0);
	MUST(mode_of("tool") == (S_IFREG | 0777));
	MUST(truncate("cut", 1) == 0 && mode_of("cut") == (S_IFREG | 0777));
	fd = open("emptied", O_WRONLY | O_TRUNC);
	MUST(fd >= 0 && close(fd) == 0);
	MUST(mode_of("emptied") == (S_IFREG | 0777));
	return 0;
}

/* A user who writes to a program gains none of its rights. */
static int test_suid(void)
{
	MUST(chmod(".", 0777) == 0);
	MUST(make_file("tool", 0777, "x") == 0 && chmod("tool", 06777) == 0);
	MUST(make_file("cut", 0777, "xyz") == 0 && chmod("cut", 06777) == 0);
	MUST(make_file("emptied", 0777, "x") == 0 &&
	     chmod("emptied", 06777) == 0);
	MUST(as_user(as_user_writes) == 0);
	return 0;
}

static int test_times(void)
{
	struct timespec t[2] = {{.tv_sec = 1000000001, .tv_nsec = 123456789},
				{.tv_sec = 2000000002, .tv_nsec = 987654321}};
	struct stat st, before;

	MUST(make_file("f", 0600, "") == 0 && stat("f", &before) == 0);
	MUST(utimensat(AT_FDCWD, "f", t, 0) == 0 && stat("f", &st) == 0);
	MUST(st.st_atim.tv_sec == t[0].tv_sec &&
	     st.st_atim.tv_nsec == t[0].tv_nsec);
	MUST(st.st_mtim.tv_sec == t[1].tv_sec &&
	     st.st_mtim.tv_nsec == t[1].tv_nsec);
	t[0].tv_nsec = UTIME_OMIT;
	t[1].tv_nsec = UTIME_NOW;
	MUST(utimensat(AT_FDCWD, "f", t, 0) == 0 && stat("f", &st) == 0);
	MUST(st.st_atim.tv_sec == 1000000001);
	MUST(st.st_mtim.tv_sec < 2000000002);
	MUST(symlink("f", "l") == 0);
	t[0] = t[1] = (struct timespec){.tv_sec = 5};
	MUST(utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW) == 0);
	MUST(lstat("l", &st) == 0 && st.st_mtim.tv_sec == 5);
	MUST(stat("f", &st) == 0 && st.st_mtim.tv_sec != 5);
	return 0;
}

static int test_xattrs(void)
{
	char big[3000], buf[4096];

	MUST(make_file("f", 0600, "") == 0);
	if (setxattr("f", "user.a", "1", 1, 0) && errno == EOPNOTSUPP)
		return 0;
	REFUSED(setxattr("f", "user.a", "2", 1, XATTR_CREATE), EEXIST);
	REFUSED(setxattr("f", "user.b", "2", 1, XATTR_REPLACE), ENODATA);
	memset(big, 'v', sizeof(big));
	MUST(setxattr("f", "user.big", big, sizeof(big), 0) == 0);
	MUST(getxattr("f", "user.big", NULL, 0) == sizeof(big));
	REFUSED(getxattr("f", "user.big", buf, 10), ERANGE);
	MUST(getxattr("f", "user.big", buf, sizeof(buf)) == sizeof(big) &&
	     memcmp(buf, big, sizeof(big)) == 0);
	MUST(listxattr("f", NULL, 0) == 16);
	REFUSED(listxattr("f", buf, 3), ERANGE);
	MUST(listxattr("f", buf, sizeof(buf)) == 16);
	MUST(removexattr("f", "user.a") == 0);
	REFUSED(getxattr("f", "user.a", buf, 9), ENODATA);
	REFUSED(removexattr("f", "user.a"), ENODATA);
	MUST(mkdir("d", 0700) == 0 && setxattr("d", "user.d", "", 0, 0) == 0);
	MUST(getxattr("d", "user.d", buf, 9) == 0);
	return 0;
}

static int test_statfs(void)
{
	struct statfs st;

	MUST(statfs(".", &st) == 0 && st.f_blocks > 0 && st.f_bsize > 0 &&
	     st.f_namelen == 255);
	return 0;
}

/* ---- directories' contents */

#define ENTRIES 150

static int count_entries(bool *seen)
{
	DIR *dir = opendir(".");
	const struct dirent *e;
	int n = 0, i;

	memset(seen, 0, ENTRIES);
	while (dir && (e = readdir(dir))) {
		if (sscanf(e->d_name, "entry-%d", &i) == 1) {
			if (i < 0 || i >= ENTRIES || seen[i])
				n = -100000;
			seen[i] = true;
		}
		n++;
	}
	closedir(dir);
	return n;
}

static int test_readdir(void)
{
	bool seen[ENTRIES];
	const struct dirent *e;
	char name[32], third[256];
	DIR *dir;
	long at;

	for (int i = 0; i < ENTRIES; i++) {
		snprintf(name, sizeof(name), "entry-%d", i);
		MUST(make_file(name, 0600, "") == 0);
	}
	MUST(count_entries(seen) == ENTRIES + 2);
	dir = opendir(".");
	MUST(dir && readdir(dir) && readdir(dir));
	at = telldir(dir);
	e = readdir(dir);
	MUST(e != NULL);
	snprintf(third, sizeof(third), "%s", e->d_name);
	for (int i = 0; i < ENTRIES / 2; i++)
		MUST(readdir(dir));
	seekdir(dir, at);
	e = readdir(dir);
	MUST(e && strcmp(e->d_name, third) == 0);
	rewinddir(dir);
	/* Each removed as it is found: all go, none twice. */
	while ((e = readdir(dir))) {
		if (e->d_name[0] == 'e')
			MUST(unlink(e->d_name) == 0);
	}
	closedir(dir);
	MUST(count_entries(seen) == 2);
	return 0;
}

static int test_many_open(void)
{
	int fd[200];
	char name[16];

	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "%d", i);
		fd[i] = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		MUST(fd[i] >= 0 && write(fd[i], name, strlen(name)) > 0);
	}
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "%d", i);
		close(fd[i]);
		MUST(holds(name, name));
	}
	return 0;
}

/* ---- data */

static int test_holes(void)
{
	const int fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;
	char buf[8192];

	MUST(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
	MUST(pread(fd, buf, 4096, 500000) == 4096 && buf[0] == 0 &&
	     memcmp(buf, buf + 1, 4095) == 0);
	memset(buf, 'd', sizeof(buf));
	MUST(pwrite(fd, buf, 8192, 65536) == 8192 && fsync(fd) == 0);
	MUST(lseek(fd, 0, SEEK_DATA) <= 65536);
	MUST(lseek(fd, 65536, SEEK_HOLE) >= 65536 + 8192);
	REFUSED(lseek(fd, 2 << 20, SEEK_DATA), ENXIO);
	MUST(lseek(fd, -10, SEEK_END) == (1 << 20) - 10);
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65536,
		      4096) == 0)
		MUST(pread(fd, buf, 8192, 65536) == 8192 && buf[0] == 0 &&
		     buf[4095] == 0 && buf[4096] == 'd');
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 1 << 20, 1 << 20) == 0)
		MUST(fstat(fd, &st) == 0 && st.st_size == 1 << 20);
	if (fallocate(fd, 0, 0, 3 << 20) == 0)
		MUST(fstat(fd, &st) == 0 && st.st_size == 3 << 20);
	MUST(truncate("f", 10) == 0 && fstat(fd, &st) == 0 && st.st_size == 10);
	close(fd);
	return 0;
}

static int test_copy(void)
{
	const int from = open("a", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	const int to = open("b", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	static char a[100000], b[100000];
	off_t in = 100, out = 7;
	size_t left = 90000;

	pattern_fill(a, sizeof(a), 0, 3);
	MUST(pwrite(from, a, sizeof(a), 0) == sizeof(a));
	while (left > 0) {
		const ssize_t n = copy_file_range(from, &in, to, &out, left, 0);

		MUST(n > 0);
		left -= (size_t)n;
	}
	MUST(pread(to, b, sizeof(b), 7) == 90000);
	MUST(memcmp(a + 100, b, 90000) == 0);
	close(from);
	close(to);
	return 0;
}

/* Where files are not to be mapped shared (shmap says whether that is so). */
static int only_private(int fd)
{
	char *map;

	MUST(pwrite(fd, "mapped", 6, 40000) == 6);
	map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	MUST(map != MAP_FAILED && memcmp(map + 40000, "mapped", 6) == 0);
	munmap(map, 65536);
	return close(fd);
}

static int test_mmap(void)
{
	const int fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char *map, buf[8] = "";

	MUST(fd >= 0 && ftruncate(fd, 65536) == 0);
	map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED && errno == ENODEV)
		return only_private(fd);
	MUST(map != MAP_FAILED);
	memcpy(map + 40000, "mapped", 6);
	MUST(msync(map, 65536, MS_SYNC) == 0);
	MUST(pread(fd, buf, 6, 40000) == 6 && memcmp(buf, "mapped", 6) == 0);
	MUST(pwrite(fd, "writes", 6, 50000) == 6);
	MUST(memcmp(map + 50000, "writes", 6) == 0);
	munmap(map, 65536);
	map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	MUST(map != MAP_FAILED && memcmp(map + 40000, "mapped", 6) == 0);
	map[0] = 'p';
	MUST(pread(fd, buf, 1, 0) == 1 && buf[0] == 0);
	munmap(map, 65536);
	close(fd);
	return 0;
}

static int test_direct(void)
{
	const int fd = open("f", O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	char *buf;

	if (fd < 0 && errno == EINVAL)
		return 0;
	buf = aligned_alloc(4096, 1 << 18);
	MUST(fd >= 0 && buf);
	pattern_fill(buf, 1 << 18, 0, 9);
	MUST(pwrite(fd, buf, 1 << 18, 0) == 1 << 18);
	memset(buf, 0, 1 << 18);
	MUST(pread(fd, buf, 1 << 18, 0) == 1 << 18);
	MUST(pattern_check(buf, 1 << 18, 0, 9) == -1);
	free(buf);
	close(fd);
	return 0;
}

static int child_locks(void)
{
	struct flock lock = {.l_type = F_WRLCK,
			     .l_whence = SEEK_SET,
			     .l_start = 5,
			     .l_len = 10};
	const int fd = open("f", O_RDWR | O_CLOEXEC);

	MUST(fd >= 0);
	REFUSED(fcntl(fd, F_SETLK, &lock), EAGAIN);
	MUST(fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK);
	lock = (struct flock){.l_type = F_WRLCK,
			      .l_whence = SEEK_SET,
			      .l_start = 100,
			      .l_len = 1};
	MUST(fcntl(fd, F_SETLK, &lock) == 0);
	REFUSED(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	close(fd);
	return 0;
}

static int test_locks(void)
{
	struct flock lock = {.l_type = F_WRLCK,
			     .l_whence = SEEK_SET,
			     .l_start = 0,
			     .l_len = 8};
	const int fd = open("f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int status = -1;
	pid_t pid;

	MUST(fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0);
	MUST(flock(fd, LOCK_EX) == 0);
	pid = fork();
	if (pid == 0)
		_exit(child_locks() ? 1 : 0);
	MUST(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
	close(fd);
	return 0;
}

static const struct fs_test tests[] = {
	{"create", test_create},
	{"names", test_names},
	{"directories", test_directories},
	{"symlinks", test_symlinks},
	{"links", test_links},
	{"rename", test_rename},
	{"removed", test_removed},
	{"tmpfile", test_tmpfile},
	{"fifo", test_fifo},
	{"socket", test_socket},
	{"devices", test_devices},
	{"modes", test_modes},
	{"owners", test_owners},
	{"users", test_users},
	{"suid", test_suid},
	{"times", test_times},
	{"xattrs", test_xattrs},
	{"statfs", test_statfs},
	{"readdir", test_readdir},
	{"many-open", test_many_open},
	{"holes", test_holes},
	{"copy", test_copy},
	{"mmap", test_mmap},
	{"direct", test_direct},
	{"locks", test_locks},
	{NULL, NULL},
};

/* Each leaves its directory behind. */
static int run_tests(const struct fs_test *test, const char *top,
		     const char *only)
{
	char dir[PATH_MAX];
	int failed = 0;

	for (; test->name; test++) {
		if (only && strcmp(only, test->name) != 0)
			continue;
		umask(0);
		snprintf(dir, sizeof(dir), "%s/%s", top, test->name);
		if (mkdir(dir, 0755) || chdir(dir))
			return guest_fail("posix: %s", dir);
		errno = 0;
		if (test->run())
			failed = -1;
		if (chdir("/"))
			return guest_fail("posix: /");
	}
	return failed;
}

/* All of them, or the one that is named. */
static int do_posix(char **arg)
{
	const int r = run_tests(tests, arg[0], arg[1]);

	return run_tests(fs_more_tests, arg[0], arg[1]) || r ? -1 : 0;
}

/* mount:TAG:DIR[:OPTIONS] */
static int do_mount(char **arg)
{
	guest_mounts();
	if (mkdir(arg[1], 0755) && errno != EEXIST)
		return guest_fail("mount: %s", arg[1]);
	if (mount(arg[0], arg[1], "virtiofs",
		  arg[2] && strcmp(arg[2], "ro") == 0 ? MS_RDONLY : 0, NULL))
		return guest_fail("mount: %s", arg[0]);
	return 0;
}

static int do_mountdisk(char **arg)
{
	guest_mounts();
	if (mkdir(arg[1], 0755) && errno != EEXIST)
		return guest_fail("mountdisk: %s", arg[1]);
	if (mount(arg[0], arg[1], arg[2], MS_RDONLY, NULL))
		return guest_fail("mountdisk: %s", arg[0]);
	return 0;
}

/*
 * overlay:LOWER:DIR[:TOP]: what is changed below DIR stays in memory, or goes
 * to TOP/upper
 */
static int do_overlay(char **arg)
{
	const char *top = arg[2] ? arg[2] : "/ram";
	char options[PATH_MAX], upper[PATH_MAX], work[PATH_MAX];

	snprintf(upper, sizeof(upper), "%s/upper", top);
	snprintf(work, sizeof(work), "%s/work", top);
	if ((!arg[2] &&
	     (mkdir(top, 0755) || mount("ram", top, "tmpfs", 0, NULL))) ||
	    mkdir(upper, 0755) || mkdir(work, 0755) ||
	    (mkdir(arg[1], 0755) && errno != EEXIST))
		return guest_fail("overlay: directories");
	snprintf(options, sizeof(options),
		 "%slowerdir=%s,upperdir=%.999s,workdir=%.999s",
		 arg[2] ? "userxattr," : "", arg[0], upper, work);
	if (mount("overlay", arg[1], "overlay", 0, options))
		return guest_fail("overlay: %s", options);
	return 0;
}

/* change:FILE:TEXT: puts TEXT in the place of what is there */
static int do_change(char **arg)
{
	const int fd = open(arg[0], O_RDWR | O_CLOEXEC);
	const size_t bytes = strlen(arg[1]);

	if (fd < 0 || ftruncate(fd, 0) ||
	    write(fd, arg[1], bytes) != (ssize_t)bytes)
		return guest_fail("change: %s", arg[0]);
	close(fd);
	return chmod(arg[0], 0640) ? guest_fail("change: mode") : 0;
}

/* rewrite:FILE:TEXT, as a shell's > does */
static int do_rewrite(char **arg)
{
	const int fd =
		open(arg[0], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	const ssize_t bytes = (ssize_t)strlen(arg[1]);

	if (fd < 0 || write(fd, arg[1], (size_t)bytes) != bytes || close(fd))
		return guest_fail("rewrite: %s", arg[0]);
	return 0;
}

/* mount9p:TAG:DIR:CACHE, to compare with */
static int do_mount9p(char **arg)
{
	char options[64];

	guest_mounts();
	snprintf(options, sizeof(options),
		 "trans=virtio,version=9p2000.L,msize=524288,cache=%s", arg[2]);
	if (mkdir(arg[1], 0755) && errno != EEXIST)
		return guest_fail("mount9p: %s", arg[1]);
	if (mount(arg[0], arg[1], "9p", 0, options))
		return guest_fail("mount9p: %s", arg[0]);
	return 0;
}

static int do_umount(char **arg)
{
	return umount(arg[0]) ? guest_fail("umount: %s", arg[0]) : 0;
}

/* xattrs:DIR: its file system has those of users. */
static int do_xattrs(char **arg)
{
	return setxattr(arg[0], "user.test", "1", 1, 0)
		       ? guest_fail("xattrs: %s", arg[0])
		       : 0;
}

/* text:FILE:TEXT: that is what the file holds. */
static int do_text(char **arg)
{
	return holds(arg[0], arg[1]) ? 0 : guest_fail("text: %s", arg[0]);
}

/* put:FILE:TEXT */
static int do_put(char **arg)
{
	return make_file(arg[0], 0644, arg[1]) ? guest_fail("put: %s", arg[0])
					       : 0;
}

static int do_move(char **arg)
{
	return rename(arg[0], arg[1]) ? guest_fail("move: %s", arg[0]) : 0;
}

static int do_remove(char **arg)
{
	return unlink(arg[0]) ? guest_fail("remove: %s", arg[0]) : 0;
}

/* errno:NUMBER:FILE: opening FILE fails with this error. */
static int do_errno(char **arg)
{
	const int fd = open(arg[1], O_RDONLY | O_CLOEXEC);

	if (fd >= 0 || errno != (int)guest_number(arg[0]))
		return guest_fail("errno: %s", arg[1]);
	return 0;
}

static int do_readonly(char **arg)
{
	char path[PATH_MAX], new[PATH_MAX];

	snprintf(new, sizeof(new), "%s/new", arg[0]);
	REFUSED(open(new, O_WRONLY | O_CREAT, 0600), EROFS);
	REFUSED(mkdir(new, 0700), EROFS);
	REFUSED(symlink("x", new), EROFS);
	snprintf(path, sizeof(path), "%s/%s", arg[0], arg[1]);
	REFUSED(open(path, O_WRONLY), EROFS);
	REFUSED(open(path, O_RDONLY | O_TRUNC), EROFS);
	REFUSED(unlink(path), EROFS);
	REFUSED(chmod(path, 0), EROFS);
	REFUSED(truncate(path, 0), EROFS);
	REFUSED(setxattr(path, "user.x", "1", 1, 0), EROFS);
	REFUSED(rename(path, new), EROFS);
	return 0;
}

const struct action fs_actions[] = {
	{"mount", 2, do_mount, "TAG:DIR[:ro]"},
	{"mountdisk", 3, do_mountdisk, "DEVICE:DIR:TYPE"},
	{"overlay", 2, do_overlay, "LOWER:DIR[:TOP]"},
	{"move", 2, do_move, "FILE:FILE"},
	{"remove", 1, do_remove, "FILE"},
	{"change", 2, do_change, "FILE:TEXT"},
	{"rewrite", 2, do_rewrite, "FILE:TEXT"},
	{"mount9p", 3, do_mount9p, "TAG:DIR:CACHE"},
	{"umount", 1, do_umount, "DIR"},
	{"posix", 1, do_posix, "DIR[:TEST]"},
	{"xattrs", 1, do_xattrs, "DIR"},
	{"text", 2, do_text, "FILE:TEXT"},
	{"put", 2, do_put, "FILE:TEXT"},
	{"errno", 2, do_errno, "NUMBER:FILE"},
	{"readonly", 2, do_readonly, "DIR:FILE"},
	{"list", 2, do_list, "DIR:COUNT"},
	{"handles", 1, do_handles, "DIR"},
	{"acl", 1, do_acl, "DIR"},
	{"noacl", 1, do_noacl, "DIR"},
	{"fsx", 3, do_fsx, "FILE:OPERATIONS:SEED"},
	{"tree", 3, do_tree, "DIR:DIRECTORIES:FILES"},
	{NULL, 0, NULL, NULL},
};
