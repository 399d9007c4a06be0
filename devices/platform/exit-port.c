/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exit port: the guest's own word on the VM's exit status, for tests and
 * for guests that run one program.
 */
#include "devices/platform/platform.h"

#include "vmm/base/stop.h"

#include <string.h>

static void exit_read(void *dev, uint64_t off, void *buf, unsigned len)
{
	(void)dev;
	(void)off;
	memset(buf, 0xff, len);
}

/* Wider writes carry the status in their lowest byte. */
static void exit_write(void *dev, uint64_t off, const void *buf, unsigned len)
{
	const uint8_t *status = buf;

	(void)off;
	(void)len;
	stop_request(dev, STOP_EXIT, *status);
}

const struct bus_ops exit_port_bus_ops = {
	.name = "exit port",
	.read = exit_read,
	.write = exit_write,
};
