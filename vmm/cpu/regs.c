/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the boot CPU starts: the state Linux's 64-bit boot protocol
 * (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol") and the PVH entry
 * (Xen's docs/misc/pvh.pandoc) ask for.
 */
#include "vmm/base/util.h"
#include "vmm/cpu/vcpu.h"

#include "vmm/base/log.h"
#include "vmm/pvm/x86.h"

#include <endian.h>
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

/* Selectors: __BOOT_CS, __BOOT_DS as Linux wants them, and a TSS. */
enum { SEL_CODE = 0x10, SEL_DATA = 0x18, SEL_TSS = 0x20, GDT_ENTRIES = 6 };

static struct kvm_segment code_segment(bool is_long)
{
	return (struct kvm_segment){
		.selector = SEL_CODE,
		.limit = 0xffffffff,
		.type = 11, /* execute, read, accessed */
		.present = 1,
		.s = 1,
		.l = is_long,
		.db = !is_long,
		.g = 1,
	};
}

static struct kvm_segment data_segment(void)
{
	return (struct kvm_segment){
		.selector = SEL_DATA,
		.limit = 0xffffffff,
		.type = 3, /* read, write, accessed */
		.present = 1,
		.s = 1,
		.db = 1,
		.g = 1,
	};
}

static struct kvm_segment task_segment(void)
{
	return (struct kvm_segment){
		.selector = SEL_TSS,
		.limit = 0x67,
		.type = 11, /* busy TSS */
		.present = 1,
	};
}

/* A segment as its descriptor (SDM 3A 3.4.5). Bases are zero. */
static uint64_t descriptor(const struct kvm_segment *s)
{
	uint64_t limit = s->g ? s->limit >> 12 : s->limit;
	uint64_t access = (uint64_t)s->type | (uint64_t)s->s << 4 |
			  (uint64_t)s->dpl << 5 | (uint64_t)s->present << 7;
	uint64_t flags = (uint64_t)s->l << 1 | (uint64_t)s->db << 2 |
			 (uint64_t)s->g << 3;

	return (limit & 0xffff) | access << 40 | (limit >> 16 & 0xf) << 48 |
	       flags << 52;
}

static int write_gdt(const struct mem *mem, const struct vcpu_start *start)
{
	struct kvm_segment code = code_segment(start->mode == VCPU_LONG);
	struct kvm_segment data = data_segment(), task = task_segment();
	uint64_t gdt[GDT_ENTRIES] = {
		[SEL_CODE / 8] = htole64(descriptor(&code)),
		[SEL_DATA / 8] = htole64(descriptor(&data)),
		[SEL_TSS / 8] = htole64(descriptor(&task)),
	};

	return mem_write(mem, start->gdt, gdt, sizeof(gdt));
}

/* Maps the first 4 GiB onto themselves with 2 MiB pages: six tables. */
static int write_page_tables(const struct mem *mem, gpa_t base)
{
	enum { DIRECTORIES = 4, ENTRIES = 512 };
	uint64_t *table = mem_at(mem, base, (2 + DIRECTORIES) * 4096);
	const uint64_t link = PTE_P | PTE_W;

	if (!table)
		return -EFAULT;
	table[0] = htole64((base + 4096) | link);
	for (unsigned d = 0; d < DIRECTORIES; d++)
		table[ENTRIES + d] = htole64((base + (2 + d) * 4096) | link);
	for (unsigned i = 0; i < DIRECTORIES * ENTRIES; i++)
		table[2 * ENTRIES + i] = htole64(i * 2 * MIB | link | PTE_PS);
	return 0;
}

int regs_write_tables(const struct mem *mem, struct vcpu_start *start)
{
	int r = write_gdt(mem, start);

	if (r == 0 && start->mode == VCPU_LONG)
		r = write_page_tables(mem, start->page_tables);
	return r < 0 ? log_ret(r, "no memory for the boot CPU's tables") : 0;
}

/*
 * Firmware would leave the MTRRs on, with write-back as the default type; a
 * kernel that finds them off treats RAM as uncached. Fast strings are on after
 * a reset; KVM leaves the bit to us.
 */
static int set_msrs(const struct vcpu *vcpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[2];
	} msrs = {
		.entry = {{.index = MSR_MTRR_DEF_TYPE,
			   .data = MTRR_ENABLED_WRITEBACK},
			  {.index = MSR_IA32_MISC_ENABLE,
			   .data = MISC_ENABLE_FAST_STRING}},
	};

	/*
	 * An AMD host's KVM may not know the second MSR, which may stay unset.
	 */
	msrs.head.nmsrs = ARRAY_LEN(msrs.entry);
	if (ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) < 1)
		return log_ret(-errno, "vCPU %u: KVM_SET_MSRS: %s", vcpu->id,
			       strerror(errno));
	return 0;
}

int regs_set(struct vcpu *vcpu, const struct vcpu_start *start)
{
	bool is_long = start->mode == VCPU_LONG;
	struct kvm_regs regs = {.rip = start->entry, .rflags = 2};
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return log_ret(-errno, "vCPU %u: KVM_GET_SREGS: %s", vcpu->id,
			       strerror(errno));
	sregs.gdt.base = start->gdt;
	sregs.gdt.limit = GDT_ENTRIES * 8 - 1;
	sregs.idt.base = 0;
	sregs.idt.limit = 0;
	sregs.cs = code_segment(is_long);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data_segment();
	sregs.tr = task_segment();
	sregs.cr0 = CR0_PE | CR0_ET | CR0_NE;
	if (is_long) {
		sregs.cr0 |= CR0_PG | CR0_WP;
		sregs.cr3 = start->page_tables;
		sregs.cr4 = CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
		regs.rsi = start->info;
	} else {
		regs.rbx = start->info;
	}
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0)
		return log_ret(-errno, "vCPU %u: KVM_SET_SREGS: %s", vcpu->id,
			       strerror(errno));
	if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return log_ret(-errno, "vCPU %u: KVM_SET_REGS: %s", vcpu->id,
			       strerror(errno));
	return set_msrs(vcpu);
}
