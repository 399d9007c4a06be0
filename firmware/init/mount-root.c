/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does for a root what Linux's init/do_mounts.c and init/main.c do without an
 * initial RAM disk (admin-guide/kernel-parameters: root=, rootfstype=,
 * rootflags=, rootwait, rootdelay=, ro, rw, init=).
 */
#include "firmware/init/mount-root.h"

#include "firmware/init/modules.h"
#include "vmm/base/streams.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#define COMMAND_LINE_MAX 4096
#define WAIT_MS          10000 /* for a device, without rootwait */
#define STEP_MS          10
#define NEW_ROOT         "/new-root"

/* ---- the command line */

/* The next word of *AT, its quotes taken out; NULL: there is none. */
static char *next_word(char **at)
{
	char *word = *at + strspn(*at, " \t\n");
	char *from = word, *to = word;
	bool quoted = false;

	if (!*word)
		return NULL;
	for (; *from && (quoted || !strchr(" \t\n", *from)); from++) {
		if (*from == '"')
			quoted = !quoted;
		else
			*to++ = *from;
	}
	*at = from + (*from != '\0');
	*to = '\0';
	return word;
}

/* The value where WORD is "NAME=VALUE". */
static bool value_of(const char *word, const char *name, const char **ret)
{
	const size_t n = strlen(name);

	if (strncmp(word, name, n) != 0 || word[n] != '=')
		return false;
	*ret = word + n + 1;
	return true;
}

void root_parse(char *text, struct root_words *ret)
{
	const char *delay = NULL;
	char *word;

	*ret = (struct root_words){0};
	while ((word = next_word(&text)) && strcmp(word, "--") != 0) {
		if (value_of(word, "root", &ret->root) ||
		    value_of(word, "rootfstype", &ret->type) ||
		    value_of(word, "rootflags", &ret->flags) ||
		    value_of(word, "init", &ret->init) ||
		    value_of(word, "rootdelay", &delay))
			continue;
		if (strcmp(word, "ro") == 0 || strcmp(word, "rw") == 0)
			ret->write = word[1] == 'w';
		else if (strcmp(word, "rootwait") == 0)
			ret->wait = true;
	}
	if (delay)
		ret->delay = (unsigned)strtoul(delay, NULL, 10);
}

static int read_command_line(char text[COMMAND_LINE_MAX])
{
	autofd int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, COMMAND_LINE_MAX - 1);

	text[n < 0 ? 0 : n] = '\0';
	return n < 0 ? -1 : 0;
}

/* ---- file systems */

static const struct magic {
	const char *type;
	size_t at;
	const char *bytes;
} magics[] = {
	{"ext4", 1080, "\x53\xef"},   {"erofs", 1024, "\xe2\xe1\xf5\xe0"},
	{"squashfs", 0, "hsqs"},      {"xfs", 0, "XFSB"},
	{"btrfs", 65600, "_BHRfS_M"},
};

const char *root_type(const uint8_t *head, size_t len)
{
	for (unsigned i = 0; i < ARRAY_LEN(magics); i++) {
		const size_t n = strlen(magics[i].bytes);

		if (magics[i].at + n <= len &&
		    memcmp(head + magics[i].at, magics[i].bytes, n) == 0)
			return magics[i].type;
	}
	return NULL;
}

static const char *type_of_device(const char *path)
{
	autofree uint8_t *head = malloc(ROOT_HEAD_BYTES);
	autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = head && fd >= 0 ? pread(fd, head, ROOT_HEAD_BYTES, 0) : -1;

	return n < 0 ? NULL : root_type(head, (size_t)n);
}

/*
 * The next type in FILE, opened from /proc/filesystems: "nodev\tNAME" or
 * "\tNAME".
 */
static bool next_type(FILE *file, char ret[64], bool *ret_nodev)
{
	char line[128];

	if (!fgets(line, sizeof(line), file))
		return false;
	*ret_nodev = line[0] != '\t';
	line[strcspn(line, "\n")] = '\0';
	snprintf(ret, 64, "%s", line + strcspn(line, "\t") + 1);
	return true;
}

static bool is_nodev(const char *type)
{
	FILE *file = fopen("/proc/filesystems", "re");
	bool found = false, nodev = false;
	char name[64];

	while (file && !found && next_type(file, name, &nodev))
		found = strcmp(name, type) == 0;
	if (file)
		fclose(file);
	return found && nodev;
}

/* ---- mounting */

/* 0 or the error. Read-only where the device is. */
static int mount_as(const struct root_words *w, const char *source,
		    const char *type)
{
	const unsigned long flags = MS_SILENT | (w->write ? 0 : MS_RDONLY);
	char list[80];

	snprintf(list, sizeof(list), "fs-%s", type);
	(void)modules_load(list, 0);
	if (mount(source, NEW_ROOT, type, flags, w->flags) == 0)
		return 0;
	if ((errno == EACCES || errno == EROFS) && w->write &&
	    mount(source, NEW_ROOT, type, flags | MS_RDONLY, w->flags) == 0)
		return 0;
	return errno;
}

/* By each type of rootfstype=, "ext4,xfs". */
static int mount_as_told(const struct root_words *w, const char *source)
{
	char types[256], *rest = types, *type;
	int error = EINVAL;

	snprintf(types, sizeof(types), "%s", w->type);
	while (error && (type = strsep(&rest, ",")))
		if (*type)
			error = mount_as(w, source, type);
	return error;
}

static int mount_as_found(const struct root_words *w, const char *source)
{
	const char *known = type_of_device(source);
	bool nodev = false;
	char type[64];
	int error = EINVAL;
	FILE *file;

	if (known)
		return mount_as(w, source, known);
	file = fopen("/proc/filesystems", "re");
	while (file && error && next_type(file, type, &nodev))
		if (!nodev)
			error = mount_as(w, source, type);
	if (file)
		fclose(file);
	return error;
}

static void sleep_ms(unsigned ms)
{
	const struct timespec time = {
		.tv_sec = ms / 1000,
		.tv_nsec = (long)(ms % 1000) * 1000000,
	};

	(void)nanosleep(&time, NULL);
}

/* "254:1", as the kernel takes it. False: it is no such text. */
static bool make_node(const char *text, const char *path)
{
	unsigned major, minor;
	char end;

	if (sscanf(text, "%u:%u%c", &major, &minor, &end) != 2)
		return false;
	(void)mknod(path, S_IFBLK | 0600, makedev(major, minor));
	return true;
}

/* The device's path, once it is there; NULL: it is not, and it is said. */
static const char *find_device(const struct root_words *w)
{
	const char *path = w->root;
	struct stat st;

	if (make_node(path, "/dev/root"))
		return "/dev/root";
	if (path[0] != '/') {
		modules_say("root=%s: the distribution's kernel is started "
			    "with devices named by path, like /dev/vda1, or "
			    "by numbers, like 254:1; shares with "
			    "rootfstype=virtiofs",
			    path);
		return NULL;
	}
	for (unsigned ms = 0; stat(path, &st) < 0; ms += STEP_MS) {
		if (ms >= WAIT_MS && !w->wait) {
			modules_say("root=%s: there is no such device", path);
			return NULL;
		}
		sleep_ms(STEP_MS);
	}
	return path;
}

/* 0; -1: it is not mounted, and it is said why. */
static int mount_root(const struct root_words *w)
{
	const char *source = w->root;
	int error;

	if (!source || !*source) {
		modules_say("the guest has no root: give --disk FILE, "
			    "or root= with --append");
		return -1;
	}
	if (w->delay)
		sleep_ms(w->delay * 1000);
	mkdir(NEW_ROOT, 0755);
	/* As a share, which has a tag and no device. */
	if (!w->type || !is_nodev(w->type)) {
		source = find_device(w);
		if (!source)
			return -1;
	}
	error = w->type ? mount_as_told(w, source) : mount_as_found(w, source);
	if (error)
		modules_say("root=%s: mount as %s: %s", w->root,
			    w->type ? w->type : "whatever it holds",
			    error == ENODEV ? "the distribution's kernel has "
					      "no such file system here"
					    : strerror(error));
	return error ? -1 : 0;
}

/* ---- going there */

/* The initial RAM disk's files, whose memory nobody needs any more. */
static void remove_files(void)
{
	const struct dirent *entry;
	DIR *dir = opendir("/modules");

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir("/modules");
	unlink("/mount-root");
	unlink("/init");
}

/* The root becomes "/", with the devices in its /dev, where it has one. */
static int enter_root(void)
{
	if (mount("/dev", NEW_ROOT "/dev", NULL, MS_MOVE, NULL) < 0)
		umount2("/dev", MNT_DETACH);
	umount2("/proc", MNT_DETACH);
	remove_files();
	if (chdir(NEW_ROOT) == 0 && mount(".", "/", NULL, MS_MOVE, NULL) == 0 &&
	    chroot(".") == 0 && chdir("/") == 0)
		return 0;
	modules_say("entering the root: %s", strerror(errno));
	return -1;
}

/* The console; the kernel could open none before its driver was loaded. */
static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	(void)streams_set((const int[]){fd, fd, fd});
	if (fd > STDERR_FILENO)
		close(fd);
}

static void run(const char *path, char **argv)
{
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%s", path);
	argv[0] = name;
	execv(path, argv);
}

static void run_init(const struct root_words *w, char **argv, int log_fd)
{
	static const char *const inits[] = {"/sbin/init", "/etc/init",
					    "/bin/init", "/bin/sh"};

	if (w->init) {
		run(w->init, argv);
		modules_say_to(log_fd, "init=%s: %s", w->init, strerror(errno));
		return;
	}
	for (unsigned i = 0; i < ARRAY_LEN(inits); i++)
		run(inits[i], argv);
	modules_say_to(log_fd, "the root has no init: put one to /sbin/init, "
			       "or name it by init= with --append");
}

int root_mount_and_run(char **argv)
{
	char text[COMMAND_LINE_MAX];
	struct root_words words;
	autofd int log_fd = -1;

	mkdir("/dev", 0755);
	mkdir("/proc", 0555);
	if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) < 0 ||
	    mount("proc", "/proc", "proc", 0, NULL) < 0 ||
	    read_command_line(text) < 0) {
		modules_say("/dev, /proc: %s", strerror(errno));
		return 1;
	}
	root_parse(text, &words);
	(void)modules_load("load", 1);
	open_console();
	log_fd = modules_open_log();
	if (mount_root(&words) < 0 || enter_root() < 0)
		return 1;
	run_init(&words, argv, log_fd);
	return 1;
}
