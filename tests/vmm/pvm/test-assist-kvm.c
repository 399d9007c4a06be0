/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One piece of code twice: in ring 0 of a guest under this host's KVM, with the
 * assists if it needs them, and natively in this process. Both have to leave
 * the same bytes. Then traps and faults, which only the guest can take. On
 * hosts with hardware virtualization this tests the test.
 */
#include "vmm/pvm/assist.h"

#include "vmm/base/bus.h"
#include "vmm/base/kvm.h"
#include "vmm/base/mem.h"
#include "vmm/base/util.h"
#include "vmm/cpu/vcpu.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Guest-physical, and by identity virtual. */
#define GDT        0x500
#define TABLES     0x1000 /* PML4, PDP, PD */
#define IDT        0x4000
#define STACK      0x20000
#define CODE       0x30000
#define SCRATCH    0x40000
#define DATA       0x100000 /* WORK_BYTES, and the words of the handlers */
#define EVENTS     0x110000
#define READ_ONLY  0x600000 /* a 2 MiB page */
#define WORK_BYTES 0x6000
#define EXIT_PORT  0x42

#define MAX_EXITS 1000

/*
 * RDI points to WORK_BYTES: 0 results, 0x1000 a state, 0x2000 to 0x5000 areas
 * for XSAVE and its relatives.
 */
extern const uint8_t work_start[], work_end[];
__asm__(".pushsection .text\n"
	"work_start:\n\t"
	"mov $0x123456789abcdef0, %rax\n\t"
	"mov $0x00ff00ff0ff0a5a5, %rcx\n\t"
	"popcnt %rax, %rdx\n\t"
	"mov %rdx, (%rdi)\n\t"
	"crc32q %rax, %rdx\n\t"
	"mov %rdx, 8(%rdi)\n\t"
	"pdep %rcx, %rax, %rdx\n\t"
	"mov %rdx, 16(%rdi)\n\t"
	"pext %rcx, %rax, %rdx\n\t"
	"mov %rdx, 24(%rdi)\n\t"
	"mulx %rax, %r8, %r9\n\t"
	"mov %r8, 32(%rdi)\n\t"
	"mov %r9, 40(%rdi)\n\t"
	"rorx $13, %rax, %rdx\n\t"
	"mov %rdx, 48(%rdi)\n\t"
	"andn (%rdi), %rax, %rdx\n\t"
	"mov %rdx, 56(%rdi)\n\t"
	"stc\n\t"
	"adcx %rax, %rdx\n\t"
	"mov %rdx, 64(%rdi)\n\t"
	/* CMPXCHG16B: once it finds what it wants, once it does not. */
	"push %rbx\n\t"
	"xor %eax, %eax\n\t"
	"xor %edx, %edx\n\t"
	"mov $5, %ebx\n\t"
	"mov $6, %ecx\n\t"
	"lock cmpxchg16b 80(%rdi)\n\t"
	"lock cmpxchg16b 80(%rdi)\n\t"
	"mov %rax, 96(%rdi)\n\t"
	"mov %rdx, 104(%rdi)\n\t"
	"pushfq\n\t"
	"pop %rbx\n\t"
	"and $0x40, %ebx\n\t"
	"mov %rbx, 112(%rdi)\n\t"
	"pop %rbx\n\t"
	"fwait\n\t"
	"xor %ecx, %ecx\n\t"
	/* The vector state in, and out in both forms; then as it was. */
	"mov $7, %eax\n\t"
	"xor %edx, %edx\n\t"
	"xsave64 0x2000(%rdi)\n\t"
	"xrstor64 0x1000(%rdi)\n\t"
	"xsavec64 0x3000(%rdi)\n\t"
	"xsave64 0x4000(%rdi)\n\t"
	"xrstor64 0x3000(%rdi)\n\t"
	"xsaveopt64 0x5000(%rdi)\n\t"
	"xrstor64 0x2000(%rdi)\n\t"
	"ret\n"
	"work_end:\n"
	/*
	 * Traps and faults. The handlers count in EVENTS and leave error code
	 * and address there.
	 */
	"trap_start:\n\t"
	"int3\n\t"
	"mov $0x600000, %esi\n\t"
	"lock cmpxchg16b (%rsi)\n\t"
	"mov $0x600008, %esi\n\t"
	"lock cmpxchg16b (%rsi)\n\t"
	"mov $1, %esi\n\t"
	"shl $62, %rsi\n\t"
	"lock cmpxchg16b (%rsi)\n\t"
	"ret\n"
	"trap_end:\n"
	"handler_bp:\n\t"
	"incl 0x110000\n\t"
	"iretq\n"
	".balign 64\n"
	"handler_gp:\n\t"
	"incl 0x110004\n\t"
	"add $8, %rsp\n\t"
	"addq $5, (%rsp)\n\t"
	"iretq\n"
	".balign 64\n"
	"handler_pf:\n\t"
	"incl 0x110008\n\t"
	"pop 0x110010\n\t"
	"mov %cr2, %rax\n\t"
	"mov %rax, 0x110018\n\t"
	"addq $5, (%rsp)\n\t"
	"iretq\n"
	"handler_end:\n"
	".popsection\n");
extern const uint8_t trap_start[], trap_end[];
extern const uint8_t handler_bp[], handler_gp[], handler_pf[], handler_end[];

struct machine_under_test {
	struct kvm kvm;
	struct mem mem;
	struct vcpu vcpu;
	struct bus bus;
	struct assist *assist;
	bool usable;
};

static bool processor_fits(void)
{
	unsigned a, b, c, d, wanted = 1u << 23 | 1u << 27 | 1u << 13 | 1u << 20;

	__cpuid(1, a, b, c, d);
	if ((c & wanted) != wanted || !(c >> 28 & 1))
		return false;
	__cpuid_count(7, 0, a, b, c, d);
	if (!(b >> 3 & 1) || !(b >> 8 & 1) || !(b >> 19 & 1))
		return false;
	__cpuid_count(13, 1, a, b, c, d);
	return (a & 3) == 3;
}

static void write_gate(const struct mem *mem, unsigned vector, uint64_t to)
{
	uint64_t gate[2] = {(to & 0xffff) | 8u << 16 | UINT64_C(0x8e00) << 32 |
				    (to >> 16) << 48,
			    0};

	assert_int_equal(mem_write(mem, IDT + 16 * vector, gate, 16), 0);
}

static void write_tables(const struct mem *mem)
{
	static const uint64_t gdt[] = {0, UINT64_C(0x00af9b000000ffff),
				       UINT64_C(0x00cf93000000ffff)};
	static const uint64_t pml4 = TABLES + 0x1003, pdp = TABLES + 0x2003;
	uint64_t to = SCRATCH;

	assert_int_equal(mem_write(mem, GDT, gdt, sizeof(gdt)), 0);
	assert_int_equal(mem_write(mem, TABLES, &pml4, 8), 0);
	assert_int_equal(mem_write(mem, TABLES + 0x1000, &pdp, 8), 0);
	for (uint64_t i = 0; i < 16; i++) {
		uint64_t entry = i << 21 | 0x83;

		if (i << 21 == READ_ONLY)
			entry &= ~UINT64_C(2);
		assert_int_equal(
			mem_write(mem, TABLES + 0x2000 + 8 * i, &entry, 8), 0);
	}
	assert_int_equal(mem_write(mem, to, handler_bp,
				   (size_t)(handler_end - handler_bp)),
			 0);
	write_gate(mem, 3, to);
	write_gate(mem, 13, to + (uint64_t)(handler_gp - handler_bp));
	write_gate(mem, 14, to + (uint64_t)(handler_pf - handler_bp));
}

static void set_registers(struct vcpu *vcpu)
{
	struct kvm_segment flat = {
		.limit = UINT32_MAX,
		.selector = 8,
		.type = 11,
		.present = 1,
		.s = 1,
		.l = 1,
		.g = 1,
	};
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.value = 7}}};
	struct kvm_sregs s;

	assert_int_equal(ioctl(vcpu->fd, KVM_GET_SREGS, &s), 0);
	s.cr0 = 0x80010033;
	s.cr3 = TABLES;
	s.cr4 = 0x40620; /* OSXSAVE, OSXMMEXCPT, OSFXSR, PAE */
	s.efer = 0x500;
	s.cs = flat;
	flat.selector = 16;
	flat.type = 3;
	flat.l = 0;
	flat.db = 1;
	s.ds = s.es = s.fs = s.gs = s.ss = flat;
	s.gdt.base = GDT;
	s.gdt.limit = 23;
	s.idt.base = IDT;
	s.idt.limit = 0xfff;
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_SREGS, &s), 0);
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs), 0);
}

/* Runs the LEN bytes at CODE, whose RET leads to an OUT. */
static void run_guest(struct machine_under_test *m, const uint8_t *code,
		      size_t len)
{
	static const uint8_t out[] = {0xe6, EXIT_PORT};
	uint64_t back = CODE + 0x8000;
	struct kvm_regs regs = {
		.rip = CODE, .rflags = 2, .rdi = DATA, .rsp = STACK - 8};
	struct kvm_run *run = m->vcpu.run;

	assert_int_equal(mem_write(&m->mem, CODE, code, len), 0);
	assert_int_equal(mem_write(&m->mem, back, out, sizeof(out)), 0);
	assert_int_equal(mem_write(&m->mem, STACK - 8, &back, 8), 0);
	assert_int_equal(ioctl(m->vcpu.fd, KVM_SET_REGS, &regs), 0);
	run->kvm_dirty_regs = 0;
	for (unsigned i = 0; i < MAX_EXITS; i++) {
		int reason = vcpu_run_once(&m->vcpu);

		if (reason == KVM_EXIT_INTERNAL_ERROR && m->assist) {
			assert_int_equal(
				assist_emulation_failure(m->assist, &m->vcpu),
				0);
			continue;
		}
		if (reason == -EINTR || reason == -EAGAIN)
			continue;
		assert_int_equal(reason, KVM_EXIT_IO);
		assert_int_equal(run->io.port, EXIT_PORT);
		run->immediate_exit = 1;
		assert_int_equal(vcpu_run_once(&m->vcpu), -EINTR);
		run->immediate_exit = 0;
		return;
	}
	fail_msg("the guest does not end");
}

static struct machine_under_test *usable(void **state)
{
	struct machine_under_test *m = *state;

	if (!m->usable) {
		print_message("no /dev/kvm, or a processor without BMI2, ADX "
			      "or XSAVEC: skipped\n");
		skip();
	}
	return m;
}

static void test_same(void **state)
{
	static uint8_t native[WORK_BYTES] __attribute__((aligned(64)));
	struct machine_under_test *m = usable(state);
	static const uint64_t in_use = 7;
	static const uint32_t control = 0x37f, mxcsr = 0x1f80;
	uint8_t *guest = mem_at(&m->mem, DATA, WORK_BYTES);

	memset(native, 0, sizeof(native));
	for (unsigned i = 0x1020; i < 0x1000 + 832; i++)
		native[i] = (uint8_t)(i * 37);
	memset(native + 0x1000 + 416, 0, 160);
	for (unsigned i = 0; i < 8; i++)
		memset(native + 0x1000 + 32 + 16 * i + 10, 0, 6);
	memcpy(native + 0x1000, &control, 2);
	memcpy(native + 0x1000 + 24, &mxcsr, 4);
	memcpy(native + 0x1000 + 512, &in_use, 8);
	memcpy(guest, native, WORK_BYTES);
	((void (*)(uint8_t *))(uintptr_t)work_start)(native);
	run_guest(m, work_start, (size_t)(work_end - work_start));
	/* The area at 0x2000 holds what each had before: not compared. */
	assert_memory_equal(guest, native, 0x2000);
	assert_memory_equal(guest + 0x3000, native + 0x3000,
			    WORK_BYTES - 0x3000);
}

static void test_faults(void **state)
{
	struct machine_under_test *m = usable(state);
	uint64_t event[4];

	memset(mem_at(&m->mem, EVENTS, 32), 0, 32);
	run_guest(m, trap_start, (size_t)(trap_end - trap_start));
	assert_int_equal(mem_read(&m->mem, EVENTS, event, sizeof(event)), 0);
	assert_int_equal(event[0] & UINT32_MAX, 1); /* INT3 */
	assert_int_equal(event[0] >> 32, 2); /* misaligned, not canonical */
	assert_int_equal(event[1], 1);       /* read-only page */
	assert_int_equal(event[2], 3);
	assert_int_equal(event[3], READ_ONLY);
}

static void test_conflict(void **state)
{
	(void)state;
	assert_null(assist_conflict(NULL));
	assert_null(assist_conflict("quiet nopti xpti=on pti=only noxsaves"));
	assert_string_equal(assist_conflict("pti=on"), "pti=on");
	assert_string_equal(assist_conflict("pti=only pti=auto"), "pti=auto");
	assert_string_equal(assist_conflict("a noxsave b"), "noxsave");
}

static void expect_merged(const char *append, const char *before,
			  const char *after)
{
	const char *own =
		strstr(assist_command_line(true, true), "clearcpuid=");
	char wanted[400];
	char *merged = NULL;

	assert_non_null(own);
	own = strchr(own, '=') + 1;
	snprintf(wanted, sizeof(wanted), "%s%s%s", before, own, after);
	assert_int_equal(assist_merge(append, &merged), 0);
	assert_non_null(merged);
	assert_string_equal(merged, wanted);
	free(merged);
}

static void test_merge(void **state)
{
	char *merged = NULL;
	char list[160] = "clearcpuid=";

	(void)state;
	assert_int_equal(assist_merge(NULL, &merged), 0);
	assert_null(merged);
	assert_int_equal(assist_merge("quiet xclearcpuid=1", &merged), 0);
	assert_null(merged);
	expect_merged("clearcpuid=smap", "clearcpuid=", ",smap");
	expect_merged("a clearcpuid=1,fsrm b", "a clearcpuid=", ",1,fsrm b");
	expect_merged("clearcpuid=1 clearcpuid=2 c",
		      "clearcpuid=1 clearcpuid=", ",2 c");
	memset(list + strlen(list), '1', 100);
	assert_int_equal(assist_merge(list, &merged), -E2BIG);
	assert_null(merged);
}

static int setup(void **state)
{
	static struct machine_under_test m;
	const struct mem_options none = {0};

	*state = &m;
	memset(&m, 0, sizeof(m));
	m.vcpu.fd = -1;
	kvm_init(&m.kvm);
	if (!processor_fits() || kvm_open(&m.kvm) < 0 ||
	    kvm_create_vm(&m.kvm) < 0)
		return 0;
	assert_int_equal(assist_prepare(&m.kvm), 0);
	assert_int_equal(mem_init(&m.mem, 32 * MIB, &none), 0);
	assert_int_equal(kvm_add_memory(&m.kvm, 0, m.mem.region[0].host,
					32 * MIB, false),
			 0);
	assert_int_equal(vcpu_init(&m.vcpu, &m.kvm, 0, 1), 0);
	m.vcpu.mem = &m.mem;
	m.vcpu.bus = &m.bus;
	write_tables(&m.mem);
	set_registers(&m.vcpu);
	if (assist_probe(&m.vcpu, &m.mem, CODE) > 0) {
		m.assist = assist_new(&m.mem, 1);
		assert_non_null(m.assist);
		m.vcpu.assist = m.assist;
	}
	m.usable = true;
	return 0;
}

static int teardown(void **state)
{
	struct machine_under_test *m = *state;

	vcpu_done(&m->vcpu);
	assist_free(m->assist);
	mem_done(&m->mem);
	kvm_done(&m->kvm);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same, setup, teardown),
		cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
		cmocka_unit_test(test_conflict),
		cmocka_unit_test(test_merge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
