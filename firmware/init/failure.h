/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by all of bulkhead-init: how it reports that something went wrong. */
#ifndef FIRMWARE_INIT_FAILURE_H
#define FIRMWARE_INIT_FAILURE_H

#include "firmware/agent/agent.h"

/*
 * Statuses of `docker run`: our own failure; the command cannot be run; there
 * is none.
 */
#define INIT_STATUS_SETUP     125
#define INIT_STATUS_NOT_RUN   126
#define INIT_STATUS_NOT_FOUND 127

/* Why a request failed; becomes an AGENT_FAILED. */
struct init_failure {
	int status;
	int error; /* errno, or 0 */
	char text[AGENT_TEXT_MAX];
};

/*
 * Fills in the failure, with ERROR's text behind the message if it is not 0.
 * Always -1: `return init_fail(f, INIT_STATUS_SETUP, errno, "mount '%s'", p)`.
 */
int init_fail(struct init_failure *f, int status, int error, const char *format,
	      ...) __attribute__((format(printf, 4, 5)));

/* "WHAT 'PATH': ERROR's text", of our own trouble. Always -1. */
int init_fail_path(struct init_failure *f, int error, const char *what,
		   const char *path);

/* One line on the guest's console. */
void init_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
