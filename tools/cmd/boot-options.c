/* SPDX-License-Identifier: Apache-2.0 */
/* The options of `bulkhead boot`. */
#include "tools/cmd/boot.h"

#include "vmm/base/util.h"

#include <stddef.h>

static const struct boot_option options[] = {
	{"kernel", 0, "FILE", BOOT_SET, "kernel", NULL, "What to boot",
	 "vmlinux or bzImage; distro: the system's [the project's]"},
	{"initrd", 0, "FILE", BOOT_SET, "initrd", NULL, NULL,
	 "initial RAM disk [none]"},
	{"append", 0, "TEXT", BOOT_SET, "append", NULL, NULL,
	 "add TEXT to the kernel command line"},
	{"entry", 0, "auto|linux|pvh", BOOT_SET, "entry", NULL, NULL,
	 "how the kernel is entered [auto]"},
	{"config", 0, "FILE", BOOT_CONFIG, NULL, NULL, NULL,
	 "read options from a JSON file, see bulkhead-config(5)"},
	{"memory", 'm', "SIZE", BOOT_SET, "memory", NULL, "The machine",
	 "guest RAM, 32M or more [256M]"},
	{"cpus", 0, "N", BOOT_SET, "cpus", NULL, NULL,
	 "virtual CPUs, 1 to 32 [1]"},
	{"hugetlb", 0, NULL, BOOT_SET, "hugetlb", "true", NULL,
	 "take RAM from the host's reserved huge pages"},
	{"prefault", 0, NULL, BOOT_SET, "prefault", "true", NULL,
	 "take all RAM from the host before the guest starts"},
	{"name", 0, "NAME", BOOT_SET, "name", NULL, NULL,
	 "the VM's name in messages [bulkhead]"},
	{"control", 0, "SOCKET", BOOT_SET, "control", NULL, NULL,
	 "Unix socket for pause, resume and snapshot [none]"},
	{"on-reboot", 0, "exit|restart", BOOT_SET, "on-reboot", NULL, NULL,
	 "when the guest reboots, end or boot it anew [exit]"},
	{"reboot-status", 0, "N", BOOT_SET, "reboot-status", NULL, NULL,
	 "exit status after a reboot [0]"},
	{"disk", 0, "FILE[,KEY...]", BOOT_DEVICE, "blk", NULL, "Devices",
	 "add a disk; the first is /dev/vda"},
	{"net", 0, "tap=NAME|user[,KEY...]", BOOT_DEVICE, "net", NULL, NULL,
	 "add a network interface; \"none\" adds none"},
	{"share", 0, "DIR,tag=TAG[,KEY...]", BOOT_DEVICE, "fs", NULL, NULL,
	 "share a directory: mount -t virtiofs TAG /mnt"},
	{"vsock", 0, "PATH[,KEY...]", BOOT_DEVICE, "vsock", NULL, NULL,
	 "sockets between guest and host, by Unix sockets"},
	{"device", 0, "TYPE[,KEY...]", BOOT_DEVICE, NULL, NULL, NULL,
	 "add a device of any type, see --list-devices"},
	{"no-rng", 0, NULL, BOOT_NO_RNG, NULL, NULL, NULL,
	 "leave out the random number device"},
	{"console", 0, "auto|serial|virtio|none", BOOT_SET, "console", NULL,
	 NULL, "where standard input and output go [auto]"},
	{"no-sandbox", 0, NULL, BOOT_SET, "sandbox", "false", "The host",
	 "do not confine the monitor (for debugging it)"},
	{"assist", 0, "auto|on|off", BOOT_SET, "assist", NULL, NULL,
	 "finish what KVM's emulator cannot [auto]"},
	{"trace", 0, "boot", BOOT_TRACE, NULL, NULL, NULL,
	 "print where its time goes, at the end"},
	{"log-level", 0, "LEVEL", BOOT_LOG_LEVEL, NULL, NULL, NULL,
	 "error, warn, info or debug [warn]"},
	{"json", 0, NULL, BOOT_JSON, NULL, NULL, NULL,
	 "messages (and --list-devices) as JSON"},
	{"dump-config", 0, NULL, BOOT_DUMP_CONFIG, NULL, NULL,
	 "Instead or besides",
	 "print the configuration for --config; boot nothing"},
	{"dump-dtb", 0, "FILE", BOOT_SET, "dump-dtb", NULL, NULL,
	 "write the guest's device tree to FILE, and boot"},
	{"list-devices", 0, NULL, BOOT_LIST_DEVICES, NULL, NULL, NULL,
	 "print device types and their keys; boot nothing"},
	{"help", 0, NULL, BOOT_HELP, NULL, NULL, NULL, "print this"},
	{0},
};

const struct boot_option *boot_options(void)
{
	_Static_assert(ARRAY_LEN(options) <= BOOT_OPTIONS_MAX,
		       "too many options");
	return options;
}
