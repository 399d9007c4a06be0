/* SPDX-License-Identifier: Apache-2.0 */
/* KVM's interrupt controllers, timer and clock. */
#include "vmm/cpu/irqchip.h"

#include "firmware/machine.h"
#include "vmm/base/kvm.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

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
