/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reports what this host offers a monitor, what is lost without the rest, and
 * what to do about it. Looks only; changes nothing on the host.
 */
#ifndef VMM_CPU_HOSTCHECK_H
#define VMM_CPU_HOSTCHECK_H

#include <stdbool.h>

#define HOSTCHECK_LINES_MAX 32

enum hostcheck_state {
	HOSTCHECK_OK,
	HOSTCHECK_LOSS, /* guests run, something is slower or missing */
	HOSTCHECK_BAD,  /* no guest runs */
};

struct hostcheck_line {
	const char *topic; /* static */
	enum hostcheck_state state;
	char found[704];    /* what is there */
	const char *advice; /* static: what to do; NULL: nothing */
};

enum hostcheck_kind {
	HOSTCHECK_UNKNOWN,
	HOSTCHECK_HARDWARE,     /* guest kernels run natively */
	HOSTCHECK_INTERPRETING, /* KVM interprets guest kernels */
};

struct hostcheck {
	struct hostcheck_line line[HOSTCHECK_LINES_MAX];
	unsigned nlines;
	enum hostcheck_kind kind;
	bool usable; /* no line is bad */
};

/* Fills RET. Makes a small VM for a moment. */
void hostcheck_run(struct hostcheck *ret);

#endif
