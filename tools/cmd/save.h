/* SPDX-License-Identifier: Apache-2.0 */
/* How a machine that runs is saved: of `bulkhead snapshot` and `clone`. */
#ifndef TOOLS_CMD_SAVE_H
#define TOOLS_CMD_SAVE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct instance;
struct instance_state;
struct vm_saved;

#define SAVE_SIGNALS 4 /* SIGINT, SIGTERM, SIGHUP, SIGQUIT */

/*
 * They end what follows with -EINTR, so that the caller can take away what was
 * made. BEFORE: what they did.
 */
void save_take_signals(struct sigaction before[SAVE_SIGNALS]);
/* From here on they do that again. */
void save_release_signals(const struct sigaction before[SAVE_SIGNALS]);
/* Whether one came; ARG is unused. */
bool save_is_told_to_end(void *arg);

/*
 * Refuses containers of which a part would be missing, by that part. DONE is
 * what they cannot be: "saved". 0 or -errno, logged.
 */
int save_check(const struct instance *instance,
	       const struct instance_state *state, const char *done);

struct save_how {
	bool live;        /* it goes on while its memory is written */
	const char *base; /* for messages, of BASE_ID; or NULL */
	/*
	 * The snapshot that it was started from, or tracks, whose memory is in
	 * FILES[1] already: see vm_save_to().
	 */
	uint8_t base_id[16];
	/* The file of FILES[1], open for reading, is its base then; or -1. */
	int track_fd;
};

/*
 * Saves the machine at the socket PATH in FILES: its state, its memory. NAME is
 * for messages. 0 or -errno, logged.
 */
int save_machine_files(const char *name, const char *path, const int files[2],
		       const struct save_how *how, struct vm_saved *ret);
/*
 * The same with an instance that runs, whose processes stand still before its
 * machine does, and go on after it.
 */
int save_instance_files(const struct instance *instance, const int files[2],
			const struct save_how *how, struct vm_saved *ret);

#endif
