/* SPDX-License-Identifier: Apache-2.0 */
/* Name servers of the guest's loopback whose answers come from the host. */
#ifndef FIRMWARE_INIT_NAMES_H
#define FIRMWARE_INIT_NAMES_H

struct init_strings;

/*
 * AGENT_OWN_NAMES: listens at port 53 of the addresses that are the arguments
 * ARGS from the second one on, by UDP and TCP; writes queries to standard
 * output and takes answers from standard input, until that ends. The exit
 * status.
 */
int names_run(const struct init_strings *args);

#endif
