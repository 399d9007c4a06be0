/* SPDX-License-Identifier: Apache-2.0 */
/* A process for reading what strangers wrote. */
#ifndef TOOLS_IMAGE_WALLS_H
#define TOOLS_IMAGE_WALLS_H

#include <signal.h>
#include <stddef.h>

/* The signals that end a walled process, though the caller has them blocked. */
sigset_t unpack_signals(void);

/*
 * Runs FN(ARG) in a process of its own, which can open files below the
 * directory TREE and write there, read below SOURCE (-1: nothing), and use the
 * descriptors it has; where the host offers that. Its process ends with this
 * one. FN leaves RESULT, of BYTES (up to PIPE_BUF), which comes back. PATH is
 * for messages. 0 or -errno, logged; -EINTR: a signal is pending.
 */
int walled(const char *path, int tree, int source,
	   void (*fn)(void *arg, void *result), void *arg, void *result,
	   size_t bytes);

#endif
