/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of instances: of all processes below this one, which adopts those
 * whose parents have ended, and of those that a driver names. Proportional set
 * sizes add up: what several share counts once.
 */
#include "tools/bench/bench.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct process {
	pid_t pid, parent;
	bool counts;
};

struct processes {
	struct process *item;
	unsigned count;
};

/* The parent of PID; 0: it is gone. */
static pid_t parent_of(pid_t pid)
{
	char path[40], text[512];
	const char *end;
	FILE *f;
	size_t n;
	int parent = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	/* A program's name may have anything in it, but ends before this. */
	end = strrchr(text, ')');
	if (!end || sscanf(end + 1, " %*c %d", &parent) != 1)
		return 0;
	return parent;
}

static int add(struct processes *all, pid_t pid)
{
	struct process *more =
		reallocarray(all->item, all->count + 1, sizeof(*more));

	if (!more)
		return log_ret(-ENOMEM, "out of memory");
	all->item = more;
	more[all->count++] = (struct process){pid, parent_of(pid), false};
	return 0;
}

static int read_processes(struct processes *all)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	int r = dir ? 0 : log_ret(-errno, "'/proc': %s", strerror(errno));

	while (r == 0 && (entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]))
			r = add(all, atoi(entry->d_name));
	if (dir)
		closedir(dir);
	return r;
}

static bool has(const struct bench_pids *pids, pid_t pid)
{
	for (unsigned i = 0; i < pids->count; i++)
		if (pids->item[i] == pid)
			return true;
	return false;
}

/* Marks the roots, and then children of marked ones until there are no more. */
static void mark(struct processes *all, const struct bench_pids *roots,
		 const struct bench_pids *before)
{
	bool more = true;

	for (unsigned i = 0; i < all->count; i++)
		all->item[i].counts = has(roots, all->item[i].pid) ||
				      (all->item[i].parent == getpid() &&
				       !has(before, all->item[i].pid));
	while (more) {
		more = false;
		for (unsigned i = 0; i < all->count; i++)
			for (unsigned k = 0;
			     !all->item[i].counts && k < all->count; k++)
				if (all->item[k].counts &&
				    all->item[k].pid == all->item[i].parent)
					all->item[i].counts = more = true;
	}
}

static void add_memory(pid_t pid, struct bench_memory *ret)
{
	char path[48], line[128];
	unsigned long long kib;
	bool any = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	if (!f) {
		ret->denied += errno == EACCES || errno == EPERM;
		return;
	}
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Pss: %llu", &kib) == 1) {
			ret->pss_kib += kib;
			any = true;
		}
		if (sscanf(line, "Private_Clean: %llu", &kib) == 1 ||
		    sscanf(line, "Private_Dirty: %llu", &kib) == 1)
			ret->private_kib += kib;
	}
	fclose(f);
	/* One that has ended, and waits for its parent, has none. */
	ret->processes += any;
}

int bench_memory_below(struct bench_pids *ret)
{
	const struct bench_pids none = {0};
	struct processes all = {0};
	int r = read_processes(&all);

	*ret = (struct bench_pids){
		.item = calloc(all.count + 1, sizeof(*ret->item))};
	if (r == 0 && !ret->item)
		r = log_ret(-ENOMEM, "out of memory");
	if (r == 0) {
		mark(&all, &none, &none);
		for (unsigned i = 0; i < all.count; i++)
			if (all.item[i].counts)
				ret->item[ret->count++] = all.item[i].pid;
	}
	free(all.item);
	return r;
}

int bench_memory_look(const struct bench_pids *roots,
		      const struct bench_pids *before, struct bench_memory *ret)
{
	struct processes all = {0};
	int r = read_processes(&all);

	ret->pss_kib = ret->private_kib = 0;
	ret->processes = ret->denied = 0;
	if (r == 0) {
		mark(&all, roots, before);
		for (unsigned i = 0; i < all.count; i++)
			if (all.item[i].counts)
				add_memory(all.item[i].pid, ret);
	}
	free(all.item);
	return r;
}
