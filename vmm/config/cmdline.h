/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel command line: what the machine implies, then what the host needs,
 * then what the user adds, so that the user has the last word.
 */
#ifndef VMM_CONFIG_CMDLINE_H
#define VMM_CONFIG_CMDLINE_H

#include "vmm/config/config.h"

#include <stdbool.h>
#include <stddef.h>

struct machine;

struct cmdline_facts {
	enum config_console console;
	bool has_initrd;
	bool has_disk; /* a first virtio disk: the root unless told */
	bool disk_readonly;
	bool list_devices;  /* virtio_mmio.device=: for a PVH boot */
	bool has_pci;       /* the kernel has, or may have, PCI */
	const char *assist; /* what the host needs, or NULL */
	const char *append; /* the user's, or NULL */
	const char *kernel; /* its file, for messages */
	size_t kernel_max;  /* bytes that the kernel takes, without NUL */
};

/*
 * Writes the command line, NUL-terminated, to BUF. Its length, or -E2BIG
 * (logged) if it has more bytes than the kernel takes or BUF holds: Linux would
 * leave out the rest without a word. Pure otherwise.
 *
 * A word that a kernel does not know becomes an argument of its init, or a
 * variable in its environment, unless there is a dot in its name. So every word
 * here is one that each Linux knows, or has a dot, or is for kernels that
 * certainly know it; `assist` is the caller's.
 */
int cmdline_build(const struct machine *machine,
		  const struct cmdline_facts *facts, char *buf, size_t bytes);

#endif
