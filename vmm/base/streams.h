/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process's standard input, output and error, and its way out of a terminal's
 * session. For the one thread of a process that has just been forked, or that
 * goes on behind the back of its parent.
 */
#ifndef VMM_BASE_STREAMS_H
#define VMM_BASE_STREAMS_H

#define STREAM_NULL (-1) /* "/dev/null" */
#define STREAM_KEEP (-2) /* as it is */

/*
 * FROM become descriptors 0, 1 and 2, which a program that is executed keeps.
 * They may have each other's numbers; the caller's own stay open. 0 or -errno.
 */
int streams_set(const int from[3]);

/*
 * The same in a session of its own: a signal of the terminal does not reach the
 * process any more, and the terminal's end does not end it. The process does
 * not lead a group, as after a fork(). 0 or -errno.
 */
int streams_detach(const int from[3]);

#endif
