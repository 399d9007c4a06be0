/* SPDX-License-Identifier: Apache-2.0 */
/* A connection of the host's to a port of the guest's loopback. */
#ifndef FIRMWARE_INIT_CONNECT_H
#define FIRMWARE_INIT_CONNECT_H

struct init_strings;

/*
 * AGENT_OWN_CONNECT: connects to the port that is the second of ARGS, at
 * 127.0.0.1 or else ::1, by TCP; writes standard input there and what comes
 * from there to standard output, until the other end sends no more. The exit
 * status: 0, or 1 where nothing listens there or the connection broke.
 */
int connect_run(const struct init_strings *args);

#endif
