/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupt lines by irqfd (KVM API 4.75, KVM_IRQFD). */
#include "vmm/base/irq.h"

#include "vmm/base/log.h"
#include "vmm/base/loop.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

int irq_init(struct irq *irq, int vm_fd, uint32_t gsi)
{
	struct kvm_irqfd request = {.gsi = gsi};

	irq->gsi = gsi;
	irq->event_fd = loop_eventfd();
	if (irq->event_fd < 0)
		return log_ret(irq->event_fd, "interrupt %u: eventfd: %s", gsi,
			       strerror(-irq->event_fd));
	request.fd = (uint32_t)irq->event_fd;
	if (vm_fd >= 0 && ioctl(vm_fd, KVM_IRQFD, &request) < 0)
		return log_ret(-errno, "interrupt %u: KVM_IRQFD: %s", gsi,
			       strerror(errno));
	return 0;
}

int irq_share(struct irq *irq, const struct irq *of)
{
	irq->gsi = of->gsi;
	irq->event_fd = fcntl(of->event_fd, F_DUPFD_CLOEXEC, 0);
	if (irq->event_fd < 0)
		return log_ret(-errno, "interrupt %u: %s", irq->gsi,
			       strerror(errno));
	return 0;
}

void irq_done(struct irq *irq)
{
	util_close(&irq->event_fd);
}

void irq_raise(const struct irq *irq)
{
	loop_signal(irq->event_fd);
}
