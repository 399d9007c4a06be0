/* SPDX-License-Identifier: Apache-2.0 */
/* The two ways in which the agent and its host come together (docs/AGENT). */
#ifndef FIRMWARE_INIT_HOST_SOCKET_H
#define FIRMWARE_INIT_HOST_SOCKET_H

/* A socket where the host can connect: its descriptor, or -errno. */
int host_listen(void);
/*
 * Tells the host that the agent is there. The host need not listen. A
 * connection, or -errno; -ENODEV: there is no such device.
 */
int host_report(void);

#endif
