/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads procfs. Names and command lines are the container's to choose, so they
 * are cut to a length, and nothing of them ends a line or a field.
 */
#include "firmware/init/top.h"

#include "firmware/init/failure.h"
#include "firmware/init/users.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* "Groups:" has up to 65536 numbers of up to ten digits before "NSpid:". */
#define STATUS_BYTES (1u << 20)
#define NAMES        16
#define PTS_MAJOR    136 /* to 143 */

struct process {
	int pid, parent; /* in PROC */
	int inside;      /* in the container */
	uint32_t uid;
};

struct top {
	FILE *out;
	int proc_fd; /* owned */
	unsigned level;
	const char *group, *passwd;
	struct process *list; /* owned; by ascending pid */
	size_t count, room;
	struct {
		bool known;
		uint32_t uid;
		char text[USERS_NAME_MAX + 1];
	} names[NAMES]; /* by uid % NAMES */
	uint64_t now_ms;
	uint64_t tick_ms;
	char *status; /* owned, STATUS_BYTES */
};

/* A file of a process's, with a NUL behind: its bytes, or -1. */
static ssize_t read_file(const struct top *t, int pid, const char *name,
			 char *text, size_t room)
{
	char path[64];
	autofd int fd = -1;
	size_t n = 0;

	snprintf(path, sizeof(path), "%d/%s", pid, name);
	fd = openat(t->proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while (n < room - 1) {
		ssize_t more = read(fd, text + n, room - 1 - n);

		if (more < 0 && errno == EINTR)
			continue;
		if (more < 0)
			return -1;
		if (more == 0)
			break;
		n += (size_t)more;
	}
	text[n] = 0;
	return (ssize_t)n;
}

/* ---- which processes there are */

/* The text behind "NAME:" at a line's beginning; NULL: there is none. */
static const char *field_of(const char *text, const char *name)
{
	const size_t n = strlen(name);

	while (text) {
		if (strncmp(text, name, n) == 0 && text[n] == ':')
			return text + n + 1;
		text = strchr(text, '\n');
		text += text != NULL;
	}
	return NULL;
}

/* The LEVELth number in a line; 0: it has fewer. */
static int number_at(const char *line, unsigned level)
{
	long value = 0;

	for (unsigned i = 0; line && i < level; i++) {
		char *end;

		line += strspn(line, " \t");
		if (*line < '0' || *line > '9')
			return 0;
		value = strtol(line, &end, 10);
		line = end;
	}
	return value > 0 && value <= INT32_MAX ? (int)value : 0;
}

static int add(struct top *t, const struct process *p)
{
	if (t->count == t->room) {
		const size_t room = t->room ? 2 * t->room : 64;
		struct process *more =
			reallocarray(t->list, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		t->list = more;
		t->room = room;
	}
	t->list[t->count++] = *p;
	return 0;
}

/* By its line "0::/PATH"; others (of cgroup v1) have names. */
static bool is_in_group(const struct top *t, int pid)
{
	static const char own[] = "0::/";
	char text[8192];
	size_t n;

	if (!t->group)
		return true;
	if (read_file(t, pid, "cgroup", text, sizeof(text)) < 0)
		return false;
	n = strlen(t->group);
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, own, strlen(own)) != 0)
			continue;
		line += strlen(own);
		return strncmp(line, t->group, n) == 0 &&
		       (line[n] == '/' || line[n] == '\n');
	}
	return false;
}

/* 0, also for one that has ended or is not the container's; -ENOMEM. */
static int look_at(struct top *t, int pid)
{
	struct process p = {.pid = pid};
	const char *text = t->status;
	const char *uid;

	if (read_file(t, pid, "status", t->status, STATUS_BYTES) < 0)
		return 0;
	p.inside = number_at(field_of(text, "NSpid"), t->level);
	uid = field_of(text, "Uid");
	if (p.inside == 0 || !uid || !is_in_group(t, pid))
		return 0;
	p.parent = number_at(field_of(text, "PPid"), 1);
	p.uid = (uint32_t)strtoul(uid, NULL, 10);
	return add(t, &p);
}

static int compare_pids(const void *a, const void *b)
{
	const struct process *p = a, *q = b;

	return (p->pid > q->pid) - (p->pid < q->pid);
}

static int compare_inside(const void *a, const void *b)
{
	const struct process *const *p = a, *const *q = b;

	return ((*p)->inside > (*q)->inside) - ((*p)->inside < (*q)->inside);
}

static int find_all(struct top *t)
{
	int copy = openat(t->proc_fd, ".", O_RDONLY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *entry;
	int r = 0;

	if (!dir) {
		r = -errno;
		util_close(&copy);
		return r;
	}
	while (r == 0 && (entry = readdir(dir))) {
		const long pid = strtol(entry->d_name, NULL, 10);

		if (pid > 0 && pid <= INT32_MAX)
			r = look_at(t, (int)pid);
	}
	closedir(dir);
	if (r == 0 && t->count > 0)
		qsort(t->list, t->count, sizeof(*t->list), compare_pids);
	return r;
}

/* The container's number of its parent; 0: that is outside. */
static int parent_inside(const struct top *t, const struct process *p)
{
	const struct process key = {.pid = p->parent};
	const struct process *parent = bsearch(&key, t->list, t->count,
					       sizeof(*t->list), compare_pids);

	return parent ? parent->inside : 0;
}

/* ---- what is told of one */

static void make_plain(char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = '?';
	}
}

static const char *name_of(struct top *t, uint32_t uid)
{
	const unsigned i = uid % NAMES;
	char *text = t->names[i].text;

	if (t->names[i].known && t->names[i].uid == uid)
		return text;
	t->names[i].known = true;
	t->names[i].uid = uid;
	if (!t->passwd || !users_name(t->passwd, uid, text))
		snprintf(text, sizeof(t->names[i].text), "%u", uid);
	make_plain(text, strlen(text));
	return text;
}

static void print_terminal(const struct top *t, unsigned long number)
{
	/* As proc(5) has it: the minor's upper bits are above the major's. */
	const unsigned long major = number >> 8 & 0xfff;
	const unsigned long minor = (number & 0xff) | (number >> 12 & 0xfff00);

	if (number == 0)
		fputc('?', t->out);
	else if (major >= PTS_MAJOR && major < PTS_MAJOR + 8)
		fprintf(t->out, "pts/%lu", (major - PTS_MAJOR) * 256 + minor);
	else
		fprintf(t->out, "%lu:%lu", major, minor);
}

/* Its arguments; one without any has its name, as ps(1) shows it. */
static void print_command(const struct top *t, const struct process *p,
			  const char *name, size_t name_bytes)
{
	char text[AGENT_TOP_COMMAND];
	ssize_t n = read_file(t, p->pid, "cmdline", text, sizeof(text));

	while (n > 0 && text[n - 1] == 0)
		n--;
	for (ssize_t i = 0; i < n; i++)
		text[i] = (char)(text[i] == 0 ? ' ' : text[i]);
	if (n <= 0)
		n = snprintf(text, sizeof(text), "[%.*s]", (int)name_bytes,
			     name);
	make_plain(text, (size_t)n);
	fwrite(text, 1, (size_t)n, t->out);
}

/* One that has ended meanwhile is left out. */
static void print_one(struct top *t, const struct process *p)
{
	unsigned long terminal, user, kernel;
	unsigned long long start;
	char text[STATUS_BYTES];
	const char *name, *end;
	uint64_t age_ms;

	if (read_file(t, p->pid, "stat", text, sizeof(text)) < 0)
		return;
	/* "12 (name) S 1 ...": the name may have anything in it. */
	name = strchr(text, '(');
	end = strrchr(text, ')');
	if (!name || !end || end < name ||
	    sscanf(end + 1,
		   " %*c %*d %*d %*d %lu %*d %*u %*u %*u %*u %*u %lu %lu %*d "
		   "%*d %*d %*d %*d %*d %llu",
		   &terminal, &user, &kernel, &start) != 4)
		return;
	age_ms = (uint64_t)start * t->tick_ms;
	age_ms = t->now_ms > age_ms ? t->now_ms - age_ms : 0;
	fprintf(t->out, "%d %d %u %" PRIu64 " %" PRIu64 " ", p->inside,
		parent_inside(t, p), p->uid, age_ms,
		((uint64_t)user + kernel) * t->tick_ms);
	print_terminal(t, terminal);
	fprintf(t->out, "\t%s\t", name_of(t, p->uid));
	print_command(t, p, name + 1, (size_t)(end - name - 1));
	fputc('\n', t->out);
}

static int print_all(struct top *t)
{
	struct process **order = calloc(t->count + 1, sizeof(*order));

	if (!order)
		return -ENOMEM;
	for (size_t i = 0; i < t->count; i++)
		order[i] = &t->list[i];
	qsort(order, t->count, sizeof(struct process *), compare_inside);
	for (size_t i = 0; i < t->count; i++)
		print_one(t, order[i]);
	free(order);
	return 0;
}

int top_print(FILE *out, const char *proc, unsigned level, const char *group,
	      const char *passwd)
{
	struct top t = {
		.out = out,
		.level = level,
		.group = group,
		.passwd = passwd,
		.tick_ms = 1000 / (uint64_t)sysconf(_SC_CLK_TCK),
	};
	struct timespec now;
	int r;

	clock_gettime(CLOCK_BOOTTIME, &now);
	t.now_ms =
		(uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	t.proc_fd = open(proc, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	t.status = malloc(STATUS_BYTES);
	r = t.proc_fd < 0 ? -errno : t.status ? find_all(&t) : -ENOMEM;
	if (r == 0)
		r = print_all(&t);
	free(t.list);
	free(t.status);
	util_close(&t.proc_fd);
	if (r == 0)
		return 0;
	fprintf(stderr, "list processes: %s\n", strerror(-r));
	return INIT_STATUS_SETUP;
}
