/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's few devices that are not virtio: each a `struct bus_ops` and
 * the state it needs. One file each; this header is all that vm.c sees.
 */
#ifndef DEVICES_PLATFORM_PLATFORM_H
#define DEVICES_PLATFORM_PLATFORM_H

#include "devices/host/terminal.h"
#include "vmm/base/bus.h"
#include "vmm/base/irq.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct stop;
struct visitor;

/*
 * 16550A at MACHINE_PORT_SERIAL, 8 ports. Not there: the modem's lines outside
 * loopback (always connected), baud rates, breaks, parity.
 */
#define SERIAL_FIFO 16
struct serial_fifo {
	uint8_t data[SERIAL_FIFO];
	unsigned head, count;
};
struct serial {
	pthread_mutex_t lock;
	struct irq irq;            /* owned */
	struct terminal *terminal; /* borrowed; NULL: output vanishes */
	struct terminal_writer writer;
	bool input; /* this device gets the terminal's input */
	bool paused;
	uint8_t ier, lcr, mcr, scr, fcr, dll, dlm;
	uint8_t msr_changes; /* MSR's low half */
	bool thri;           /* transmitter-empty interrupt pending */
	bool line;           /* the interrupt line, as last computed */
	bool overrun;
	unsigned polls;        /* LSR reads in a row that found nothing */
	struct serial_fifo rx; /* for the guest */
	bool rx_seen;          /* the guest knows of what is in it */
	/* Input that the guest was about to throw away, unknowingly. */
	struct serial_fifo ahead;
	struct serial_fifo tx; /* what the terminal did not take yet */
};
/* Before the loop runs, as serial_done() after. 0 or -errno (logged). */
int serial_init(struct serial *s, int vm_fd, uint32_t gsi,
		struct terminal *terminal, bool input);
void serial_done(struct serial *s);
/*
 * While it is paused, its registers and its line change by nothing that the
 * terminal does: input waits outside, output inside. No vCPU runs meanwhile.
 */
void serial_pause(struct serial *s);
void serial_resume(struct serial *s);
/*
 * The state of one that is paused; see visit.h. Its interrupt is raised once
 * more after loading where the line is up, in case it was under way when this
 * was saved: the driver finds nothing to do then.
 */
void serial_visit(struct serial *s, struct visitor *v);
extern const struct bus_ops serial_bus_ops;

/*
 * i8042 at 0x60..0x64, without keyboard and mouse: enough for detection to end
 * fast, and reset (0xfe). Port 0x61 in between is KVM's PIT's, if there is one.
 */
struct i8042 {
	struct stop *stop; /* borrowed */
	uint8_t command;   /* 0, or the one that waits for its data byte */
	uint8_t ram[32];   /* [0]: the controller's configuration */
	uint8_t output;
	bool output_full, output_aux, expect_data;
	pthread_mutex_t lock;
};
void i8042_init(struct i8042 *k, struct stop *stop);
/* The state, of a guest that stands still. */
void i8042_visit(struct i8042 *k, struct visitor *v);
extern const struct bus_ops i8042_bus_ops;

/*
 * The sleep control, sleep status and reset registers at MACHINE_PORT_PM (ACPI
 * 6.4 4.8.3.7, 4.8.3.6), and the same for kernels without ACPI at
 * MACHINE_PM_MMIO. DEV: struct stop.
 */
extern const struct bus_ops pm_bus_ops;
extern const struct bus_ops pm_mmio_bus_ops;
/*
 * VMGenID: a number of 128 bits that is another one in each machine, restored
 * ones too, and a line that tells a restored guest to look at it (Microsoft,
 * "Virtual Machine Generation ID"). Linux mixes it into its random numbers. It
 * is memory that the guest cannot write, outside what its memory map calls RAM;
 * where KVM has no such memory, the bus answers reads.
 */
struct vmgenid {
	int vm_fd;     /* borrowed; KVM's, or -1 in tests */
	uint8_t *page; /* borrowed; at MACHINE_VMGENID */
};
/* A new number into PAGE. 0 or -errno (logged). */
int vmgenid_init(struct vmgenid *g, int vm_fd, uint8_t *page);
/*
 * The number is not loaded: the one that vmgenid_init() made stays. Its
 * interrupt is in KVM's chips when this returns from loading, so it has to be
 * after these and the vCPUs were loaded and before the first KVM_RUN.
 */
void vmgenid_visit(struct vmgenid *g, struct visitor *v);
extern const struct bus_ops vmgenid_bus_ops;

/* The exit port: a byte written is the exit status; DEV: struct stop. */
extern const struct bus_ops exit_port_bus_ops;
/* QEMU's pvpanic (MMIO, one byte): the guest says it panicked; DEV: stop. */
extern const struct bus_ops pvpanic_bus_ops;

#endif
