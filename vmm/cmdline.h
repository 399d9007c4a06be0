/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel command line: what the machine implies, then what the host needs,
 * then what the user adds, so that the user has the last word.
 */
#ifndef VMM_CMDLINE_H
#define VMM_CMDLINE_H

#include "vmm/config.h"

#include <stdbool.h>
#include <stddef.h>

struct machine;

struct cmdline_facts {
	enum config_console console;
	bool has_initrd;
	bool has_disk; /* a first virtio disk: the root unless told */
	bool disk_readonly;
	bool list_devices;  /* virtio_mmio.device=: for a PVH boot */
	const char *assist; /* what the host needs, or NULL */
	const char *append; /* the user's, or NULL */
};

/*
 * Writes the command line, NUL-terminated, to BUF. Its length, or -E2BIG
 * (logged). Pure otherwise.
 */
int cmdline_build(const struct machine *machine,
		  const struct cmdline_facts *facts, char *buf, size_t bytes);

#endif
