/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages over a Unix socket that carry descriptors (unix(7), SCM_RIGHTS). One
 * has as many as its kind says, or none.
 */
#ifndef VMM_BASE_DESCRIPTORS_H
#define VMM_BASE_DESCRIPTORS_H

#include <stddef.h>
#include <sys/types.h>

#define DESCRIPTORS_MAX 64 /* in a message */

/*
 * Sends BYTES at DATA with COUNT descriptors at FDS, borrowed; with none where
 * COUNT is 0. The bytes that went, or -errno; no SIGPIPE. Any thread.
 */
ssize_t descriptors_send(int socket, const void *data, size_t bytes,
			 const int *fds, unsigned count);

/*
 * Takes a message, of at most BYTES, with FLAGS (MSG_DONTWAIT, or 0). FDS gets
 * the COUNT descriptors that came, owned, closed by exec; any other number of
 * them is closed, and all of FDS is -1. The bytes that came, 0 at the end, or
 * -errno. Any thread.
 */
ssize_t descriptors_receive(int socket, void *data, size_t bytes, int *fds,
			    unsigned count, int flags);

#endif
