/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMGenID: tells guests of one snapshot apart. Its interrupt does not go
 * through an irqfd like others: KVM hands those of its IOAPIC to a work queue,
 * and a guest could run before that gets its turn. KVM_IRQ_LINE returns when
 * the interrupt is pending in the CPU's APIC.
 */
#include "devices/platform/platform.h"

#include "firmware/machine.h"
#include "vmm/base/log.h"
#include "vmm/base/visit.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>

int vmgenid_init(struct vmgenid *g, int vm_fd, uint8_t *page)
{
	g->vm_fd = vm_fd;
	g->page = page;
	if (getrandom(page, MACHINE_VMGENID_BYTES, 0) != MACHINE_VMGENID_BYTES)
		return log_ret(-errno, "VMGenID: getrandom: %s",
			       strerror(errno));
	return 0;
}

static void raise_line(struct vmgenid *g, struct visitor *v)
{
	for (unsigned level = 2; level-- > 0;) {
		struct kvm_irq_level line = {.irq = MACHINE_IRQ_VMGENID,
					     .level = level};

		if (ioctl(g->vm_fd, KVM_IRQ_LINE, &line) < 0)
			visit_wrong(v, "KVM_IRQ_LINE: %s", strerror(errno));
	}
}

void vmgenid_visit(struct vmgenid *g, struct visitor *v)
{
	static const uint64_t address = MACHINE_VMGENID;
	static const uint32_t interrupt = MACHINE_IRQ_VMGENID;

	visit_part(v, "vmgenid");
	visit_same(v, "address", &address, sizeof(address));
	visit_same(v, "interrupt", &interrupt, sizeof(interrupt));
	if (visit_loads(v) && visit_goes_on(v) && g->vm_fd >= 0)
		raise_line(g, v);
	visit_part_end(v);
}

static void vmgenid_read(void *dev, uint64_t off, void *buf, unsigned len)
{
	const struct vmgenid *g = dev;

	memcpy(buf, g->page + off, len);
}

static void vmgenid_write(void *dev, uint64_t off, const void *buf,
			  unsigned len)
{
	(void)dev;
	(void)off;
	(void)buf;
	(void)len;
}

const struct bus_ops vmgenid_bus_ops = {
	.name = "VMGenID",
	.read = vmgenid_read,
	.write = vmgenid_write,
};
