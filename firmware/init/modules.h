/* SPDX-License-Identifier: Apache-2.0 */
/* Modules in the initial RAM disk, as a distribution's kernel needs them. */
#ifndef FIRMWARE_INIT_MODULES_H
#define FIRMWARE_INIT_MODULES_H

#include "vmm/base/util.h"

/*
 * Loads what /modules/LIST names, in its order (tools/guest/modules.h), and
 * removes those files if REMOVE is set. The kernel's log names the ones that
 * fail; the rest is loaded all the same. 0; -1: there is no such list.
 */
int modules_load(const char *list, int remove);

/*
 * A line of the kernel's log, which goes to its console, as an error. LOG_FD,
 * which may be -1, is from modules_open_log(): it still works where there is no
 * /dev any more.
 */
int modules_open_log(void);
void modules_say_to(int log_fd, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The same with a log that is opened for this line. */
#define modules_say(...)                                                       \
	do {                                                                   \
		autofd int log_ = modules_open_log();                          \
		modules_say_to(log_, __VA_ARGS__);                             \
	} while (0)

#endif
