/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's pvpanic device (QEMU's docs/specs/pvpanic) with its one register: the
 * guest says that it panicked, that its crash kernel takes over, or that it is
 * shut down.
 */
#include "devices/platform/platform.h"

#include "vmm/base/log.h"
#include "vmm/base/stop.h"

#include <string.h>

#define PANICKED     0x01
#define CRASH_LOADED 0x02
#define SHUT_DOWN    0x04

/* The events that are supported. */
static void pvpanic_read(void *dev, uint64_t off, void *buf, unsigned len)
{
	const uint8_t events = PANICKED | CRASH_LOADED | SHUT_DOWN;

	(void)dev;
	(void)off;
	memset(buf, 0, len);
	memcpy(buf, &events, 1);
}

static void pvpanic_write(void *dev, uint64_t off, const void *buf,
			  unsigned len)
{
	const uint8_t events = *(const uint8_t *)buf;
	struct stop *stop = dev;

	(void)off;
	(void)len;
	if (events & PANICKED) {
		/* It may write until its vCPU stops: one line is enough. */
		if (stop_reason(stop, NULL) == STOP_NONE)
			log_warn("the guest panicked");
		stop_request(stop, STOP_CRASH, 1);
	} else if (events & CRASH_LOADED) {
		/* At debug only: the guest goes on, and could go on writing. */
		log_debug("the guest panicked; its crash kernel takes over");
	} else if (events & SHUT_DOWN) {
		stop_request(stop, STOP_POWEROFF, 0);
	}
}

const struct bus_ops pvpanic_bus_ops = {
	.name = "pvpanic",
	.read = pvpanic_read,
	.write = pvpanic_write,
};
