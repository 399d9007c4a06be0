/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power-off and reset: the registers of a hardware-reduced ACPI machine (ACPI
 * 6.4 4.8.3.6, 4.8.3.7), and two plain ones for kernels that learn of them from
 * the device tree. There is no sleep to wake from: all of them read as zero.
 */
#include "devices/platform/platform.h"

#include "firmware/machine.h"
#include "vmm/base/log.h"
#include "vmm/base/stop.h"

#include <endian.h>
#include <string.h>

#define SLP_EN         0x20
#define SLP_TYP(value) ((value) >> 2 & 7)

static void pm_read(void *dev, uint64_t off, void *buf, unsigned len)
{
	(void)dev;
	(void)off;
	memset(buf, 0, len);
}

static void write_byte(struct stop *stop, uint64_t reg, uint8_t value)
{
	if (reg == MACHINE_PM_RESET && value == MACHINE_RESET_VALUE) {
		stop_request(stop, STOP_RESET, 0);
	} else if (reg == MACHINE_PM_SLEEP_CTRL && (value & SLP_EN)) {
		if (SLP_TYP(value) == MACHINE_S5)
			stop_request(stop, STOP_POWEROFF, 0);
		else
			log_debug("the guest asks for sleep type %u, which "
				  "this machine does not have",
				  SLP_TYP(value));
	}
}

static void pm_write(void *dev, uint64_t off, const void *buf, unsigned len)
{
	const uint8_t *byte = buf;

	for (unsigned i = 0; i < len; i++)
		write_byte(dev, MACHINE_PORT_PM + off + i, byte[i]);
}

const struct bus_ops pm_bus_ops = {
	.name = "power management",
	.read = pm_read,
	.write = pm_write,
};

static void pm_mmio_write(void *dev, uint64_t off, const void *buf,
			  unsigned len)
{
	uint64_t value = 0;

	memcpy(&value, buf, len);
	value = le64toh(value);
	if (off == MACHINE_PM_MMIO_POWEROFF && value == MACHINE_S5)
		stop_request(dev, STOP_POWEROFF, 0);
	else if (off == MACHINE_PM_MMIO_RESET && value == MACHINE_RESET_VALUE)
		stop_request(dev, STOP_RESET, 0);
}

const struct bus_ops pm_mmio_bus_ops = {
	.name = "power management (MMIO)",
	.read = pm_read,
	.write = pm_mmio_write,
};
