/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's few devices that are not virtio: each a `struct bus_ops` and
 * the state it needs. One file each; this header is all that vm.c sees.
 */
#ifndef DEVICES_PLATFORM_H
#define DEVICES_PLATFORM_H

#include "vmm/bus.h"
#include "vmm/irq.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct stop;
struct terminal;

/* 16550A at MACHINE_PORT_SERIAL, 8 ports. */
#define SERIAL_FIFO 64
struct serial {
	pthread_mutex_t lock;
	struct irq irq;            /* owned */
	struct terminal *terminal; /* borrowed; NULL: output only to log_fd */
	bool input;                /* this device gets the terminal's input */
	uint8_t ier, lcr, mcr, scr, fcr, dll, dlm;
	bool thri; /* transmitter-empty interrupt pending */
	uint8_t fifo[SERIAL_FIFO];
	unsigned head, count;
	bool overrun;
};
int serial_init(struct serial *s, int vm_fd, uint32_t gsi,
		struct terminal *terminal, bool input);
void serial_done(struct serial *s);
extern const struct bus_ops serial_bus_ops;

/* i8042 at 0x60..0x64: enough for detection to end fast, and reset (0xfe). */
struct i8042 {
	struct stop *stop; /* borrowed */
	uint8_t command, ram[32], output;
	bool output_full, expect_data;
	pthread_mutex_t lock;
};
void i8042_init(struct i8042 *k, struct stop *stop);
extern const struct bus_ops i8042_bus_ops;

/* ACPI sleep control/status and reset registers at MACHINE_PORT_PM; DEV: stop.
 */
extern const struct bus_ops pm_bus_ops;
/* The exit port: a byte written is the exit status; DEV: struct stop. */
extern const struct bus_ops exit_port_bus_ops;
/* QEMU's pvpanic (MMIO, one byte): the guest says it panicked; DEV: stop. */
extern const struct bus_ops pvpanic_bus_ops;

#endif
