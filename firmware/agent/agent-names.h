/* SPDX-License-Identifier: Apache-2.0 */
/* Names of capabilities and limits: users write them, OCI runtimes want them.
 */
#ifndef FIRMWARE_AGENT_AGENT_NAMES_H
#define FIRMWARE_AGENT_AGENT_NAMES_H

/*
 * "NET_ADMIN", without "CAP_", as capabilities(7) has them; NULL beyond the
 * last one.
 */
const char *agent_capability_name(unsigned number);

/* "NOFILE", without "RLIMIT_", as getrlimit(2) has them; NULL beyond. */
const char *agent_limit_name(unsigned resource);

#endif
