/* SPDX-License-Identifier: Apache-2.0 */
/* KVM's interrupt controllers, timer and clock: made, saved and loaded. */
#include "vmm/cpu/irqchip.h"

#include "firmware/machine.h"
#include "vmm/base/kvm.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#define IOAPIC_SMI 2 /* delivery mode: 82093AA 3.2.4 */

/*
 * All pins masked and in SMI mode, as firmware leaves pins it uses itself:
 * Linux reads these once and leaves them alone until it gives one to a device,
 * instead of writing each of them and reading it again, 8 exits a pin.
 */
static int rest_ioapic(int fd)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};

	if (ioctl(fd, KVM_GET_IRQCHIP, &chip) < 0)
		return log_ret(-errno, "KVM_GET_IRQCHIP: %s", strerror(errno));
	for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++) {
		chip.chip.ioapic.redirtbl[i].fields.mask = 1;
		chip.chip.ioapic.redirtbl[i].fields.delivery_mode = IOAPIC_SMI;
	}
	if (ioctl(fd, KVM_SET_IRQCHIP, &chip) < 0)
		return log_ret(-errno, "KVM_SET_IRQCHIP: %s", strerror(errno));
	return 0;
}

int irqchip_create(const struct kvm *kvm)
{
	const struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	uint64_t identity_map = MACHINE_IDENTITY_MAP;
	int fd = kvm->vm_fd;

	if (ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
	    ioctl(fd, KVM_SET_TSS_ADDR, MACHINE_TSS) < 0)
		return log_ret(-errno, "KVM_SET_TSS_ADDR: %s", strerror(errno));
	if (ioctl(fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return log_ret(-errno, "KVM_CREATE_IRQCHIP: %s",
			       strerror(errno));
	if (ioctl(fd, KVM_CREATE_PIT2, &pit) < 0)
		return log_ret(-errno, "KVM_CREATE_PIT2: %s", strerror(errno));
	return rest_ioapic(fd);
}

static void visit_chip(int fd, struct visitor *v, const char *name,
		       uint32_t chip_id)
{
	struct kvm_irqchip chip = {.chip_id = chip_id};

	if (!visit_loads(v) && ioctl(fd, KVM_GET_IRQCHIP, &chip) < 0)
		visit_wrong(v, "KVM_GET_IRQCHIP: %s", strerror(errno));
	visit_bytes(v, name, &chip, sizeof(chip));
	chip.chip_id = chip_id;
	if (visit_loads(v) && visit_goes_on(v) &&
	    ioctl(fd, KVM_SET_IRQCHIP, &chip) < 0)
		visit_wrong(v, "KVM_SET_IRQCHIP: %s", strerror(errno));
}

static void visit_pit(int fd, struct visitor *v)
{
	struct kvm_pit_state2 pit = {0};

	if (!visit_loads(v) && ioctl(fd, KVM_GET_PIT2, &pit) < 0)
		visit_wrong(v, "KVM_GET_PIT2: %s", strerror(errno));
	visit_bytes(v, "pit", &pit, sizeof(pit));
	if (visit_loads(v) && visit_goes_on(v) &&
	    ioctl(fd, KVM_SET_PIT2, &pit) < 0)
		visit_wrong(v, "KVM_SET_PIT2: %s", strerror(errno));
}

void irqchip_visit(const struct kvm *kvm, struct visitor *v)
{
	visit_part(v, "irqchip");
	visit_chip(kvm->vm_fd, v, "pic_master", KVM_IRQCHIP_PIC_MASTER);
	visit_chip(kvm->vm_fd, v, "pic_slave", KVM_IRQCHIP_PIC_SLAVE);
	visit_chip(kvm->vm_fd, v, "ioapic", KVM_IRQCHIP_IOAPIC);
	visit_pit(kvm->vm_fd, v);
	visit_part_end(v);
}

void irqchip_visit_clock(const struct kvm *kvm, uint64_t passed_ns,
			 struct visitor *v)
{
	struct kvm_clock_data clock = {0};

	if (!visit_loads(v) && ioctl(kvm->vm_fd, KVM_GET_CLOCK, &clock) < 0)
		visit_wrong(v, "KVM_GET_CLOCK: %s", strerror(errno));
	visit_bytes(v, "clock", &clock.clock, sizeof(clock.clock));
	/*
	 * Without KVM_CLOCK_REALTIME, by which KVM would add the time that has
	 * passed: the TSCs would not go along.
	 */
	clock = (struct kvm_clock_data){.clock = clock.clock + passed_ns};
	if (visit_loads(v) && visit_goes_on(v) &&
	    ioctl(kvm->vm_fd, KVM_SET_CLOCK, &clock) < 0)
		visit_wrong(v, "KVM_SET_CLOCK: %s", strerror(errno));
}
