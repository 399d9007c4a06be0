/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's first process before there is a program for it. Machines are
 * saved while it waits, and go on with different programs, names and networks.
 */
#include "firmware/init/prepare.h"

#include "firmware/init/container.h"
#include "firmware/init/mount.h"
#include "vmm/base/descriptors.h"
#include "vmm/base/util.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Larger programs are not read whole by their start either. */
#define WARM_MAX  (16 * MIB)
#define WARM_STEP (128 * KIB)

static int fail(struct init_failure *f, int error, const char *what)
{
	return init_fail(f, INIT_STATUS_SETUP, error, "%s", what);
}

/* ---- the program's file, so that it is in the guest's memory */

/* The file's interpreter, of at most PATH_MAX bytes. False: it has none. */
static bool find_interpreter(int fd, char ret[PATH_MAX])
{
	Elf64_Ehdr head;
	Elf64_Phdr part;

	if (pread(fd, &head, sizeof(head), 0) != sizeof(head) ||
	    memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
	    head.e_ident[EI_CLASS] != ELFCLASS64)
		return false;
	for (unsigned i = 0; i < head.e_phnum; i++) {
		const off_t at = (off_t)(head.e_phoff + i * sizeof(part));

		if (pread(fd, &part, sizeof(part), at) != sizeof(part))
			return false;
		if (part.p_type != PT_INTERP)
			continue;
		if (part.p_filesz == 0 || part.p_filesz > PATH_MAX ||
		    pread(fd, ret, part.p_filesz, (off_t)part.p_offset) !=
			    (ssize_t)part.p_filesz)
			return false;
		ret[part.p_filesz - 1] = '\0';
		return true;
	}
	return false;
}

/* A descriptor of what was read, or -1. */
static int read_file(int root, const char *path)
{
	autofd int fd = root_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	autofree char *data = malloc(WARM_STEP);
	struct stat st;

	if (fd < 0 || !data || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_size > (off_t)WARM_MAX)
		return -1;
	while (read(fd, data, WARM_STEP) > 0)
		;
	return take_fd(&fd);
}

static void read_one(int root, const char *path)
{
	int fd = read_file(root, path);

	util_close(&fd);
}

/* The first of PATHS that is there, and what a start reads; none need be. */
static void warm(int root, const struct init_strings *paths)
{
	char interpreter[PATH_MAX];
	int fd = -1;

	for (size_t i = 0; fd < 0 && i < paths->n; i++)
		fd = read_file(root, paths->list[i]);
	if (fd >= 0 && find_interpreter(fd, interpreter))
		read_one(root, interpreter);
	util_close(&fd);
	read_one(root, "/etc/passwd");
	read_one(root, "/etc/group");
}

/* ---- what comes later */

/* So many bytes of FD, allocated; NULL: there are not so many. */
static uint8_t *take_bytes(int fd, size_t bytes)
{
	uint8_t *data = malloc(bytes + 1);

	if (data && read(fd, data, bytes) == (ssize_t)bytes)
		return data;
	free(data);
	return NULL;
}

static int take_requests(int fd, const struct process_go *go,
			 struct prepared *p, struct init_failure *f)
{
	uint8_t *bytes = take_bytes(fd, go->config_bytes);

	if (!bytes)
		return fail(f, ENOMEM, "the container's configuration");
	if (init_config_parse(bytes, go->config_bytes, &p->config, f))
		return -1;
	bytes = take_bytes(fd, go->start_bytes);
	if (!bytes)
		return fail(f, ENOMEM, "the program's arguments");
	return init_start_parse(bytes, go->start_bytes, &p->start, f);
}

static int await_go(struct prepared *p, struct init_failure *f)
{
	int *const stream[3] = {&p->side.in, &p->side.out, &p->side.err};
	autofd int requests = -1;
	struct process_go go;
	char byte;

	/* The agent does not end before the machine. */
	if (descriptors_receive(p->side.report_fd, &go, sizeof(go), &requests,
				1, 0) != sizeof(go) ||
	    requests < 0)
		return fail(f, EPROTO, "wait for the program");
	for (unsigned i = 0; i < ARRAY_LEN(stream); i++) {
		if (go.has[i] && descriptors_receive(p->side.report_fd, &byte,
						     1, stream[i], 1, 0) != 1)
			return fail(f, EPROTO, "wait for its streams");
	}
	return take_requests(requests, &go, p, f);
}

int prepare_wait(const struct process_side *early, struct prepared *p,
		 struct init_failure *f)
{
	const struct process_report ready = {.kind = PROCESS_PREPARED};
	const struct init_config *before = early->box->config;
	const bool plain = early->box->plain;
	autofd int oom_fd = process_open_oom_score();
	/* Not the host's connections, which it would keep open. */
	const int ours[] = {early->report_fd, oom_fd};
	autofd int root = -1;

	process_reset_signals();
	if (process_keep_only(ours, ARRAY_LEN(ours)) < 0)
		return fail(f, errno, "close_range");
	if (!plain && unshare(CLONE_NEWCGROUP) < 0)
		return fail(f, errno, "a control group's namespace");
	if (!plain)
		root = container_make(before, f);
	if (!plain && root < 0)
		return -1;
	if (!plain)
		warm(root, &before->warm);
	*p = (struct prepared){.box = *early->box, .side = *early};
	p->box.config = &p->config;
	p->side.box = &p->box;
	p->side.start = &p->start;
	if (process_tell(p->side.report_fd, &ready, (const int[]){-1, -1}) < 0)
		return fail(f, errno, "report");
	if (await_go(p, f))
		return -1;
	if (process_set_oom_score(&p->start, oom_fd, f))
		return -1;
	return plain ? 0 : container_finish(root, before, &p->config, f);
}
