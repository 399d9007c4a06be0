/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions of system calls and context switches that KVM is spared. */
#include "vmm/pvm/assist-quick.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#define KERNEL UINT64_C(0xffff888012345678)
#define USER   UINT64_C(0x00007f1122334455)
#define TSC    UINT64_C(0x1122334455667788)

struct world {
	struct quick q;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	unsigned asked;
	int fails;
};

static int get_msr(void *arg, uint32_t index, uint64_t *ret_value)
{
	struct world *w = arg;

	w->asked++;
	if (w->fails)
		return w->fails;
	assert_true(index == MSR_TSC || index == MSR_KERNEL_GS_BASE);
	*ret_value = index == MSR_TSC ? TSC : KERNEL;
	return 0;
}

static int run(struct world *w, const char *code)
{
	static const struct exec_host host = {.get_msr = get_msr};
	uint8_t bytes[QUICK_BYTES];

	memcpy(bytes, code, sizeof(bytes));
	return quick_run(&w->q, &host, w, &w->regs, &w->sregs, bytes);
}

static struct world new_world(void)
{
	return (struct world){
		.regs = {.rip = 0x1000, .rflags = 0x10002},
		.sregs = {.cr4 = 0x10000, .gs.base = USER},
	};
}

static void test_swapgs(void **state)
{
	struct world w = new_world();

	(void)state;
	assert_int_equal(run(&w, "\x0f\x01\xf8\x90\x90"), 1);
	assert_true(w.sregs.gs.base == KERNEL);
	assert_true(w.q.kernel_gs == USER);
	assert_true(w.q.known && w.q.changed);
	assert_int_equal(w.regs.rip, 0x1003);
	assert_int_equal(w.regs.rflags, 2);
	/* And back: it is known now. */
	assert_int_equal(run(&w, "\x0f\x01\xf8\x90\x90"), 1);
	assert_true(w.sregs.gs.base == USER);
	assert_true(w.q.kernel_gs == KERNEL);
	assert_int_equal(w.asked, 1);
	w.q.known = false;
	w.fails = -EIO;
	assert_int_equal(run(&w, "\x0f\x01\xf8\x90\x90"), -EIO);
	assert_true(w.sregs.gs.base == USER);
	assert_int_equal(w.regs.rip, 0x1006);
}

static void test_rdtsc(void **state)
{
	struct world w = new_world();

	(void)state;
	w.regs.rax = w.regs.rdx = UINT64_MAX;
	assert_int_equal(run(&w, "\x0f\x31\x90\x90\x90"), 1);
	assert_int_equal(w.regs.rax, 0x55667788);
	assert_int_equal(w.regs.rdx, 0x11223344);
	assert_int_equal(w.regs.rip, 0x1002);
	assert_false(w.q.changed);
}

static void test_bases(void **state)
{
	struct world w = new_world();

	(void)state;
	w.regs.rcx = 0x1234;
	w.regs.r9 = KERNEL;
	assert_int_equal(run(&w, "\xf3\x48\x0f\xae\xd1"), 1); /* wrfsbase rcx */
	assert_int_equal(w.sregs.fs.base, 0x1234);
	assert_int_equal(run(&w, "\xf3\x49\x0f\xae\xd9"), 1); /* wrgsbase r9 */
	assert_true(w.sregs.gs.base == KERNEL);
	assert_int_equal(w.regs.rip, 0x100a);
	/* KVM runs those that fault, or are written another way. */
	w.regs.rcx = UINT64_C(1) << 47;
	assert_int_equal(run(&w, "\xf3\x48\x0f\xae\xd1"), 0);
	assert_int_equal(run(&w, "\xf3\x0f\xae\xd1\x90"), 0);
	w.regs.rcx = 0;
	w.sregs.cr4 = 0;
	assert_int_equal(run(&w, "\xf3\x48\x0f\xae\xd1"), 0);
	assert_int_equal(w.sregs.fs.base, 0x1234);
	assert_int_equal(w.regs.rip, 0x100a);
}

static void test_others(void **state)
{
	static const char *const code[] = {
		"\x0f\x01\xf9\x90\x90", /* rdtscp */
		"\x0f\x01\x38\x90\x90", /* invlpg */
		"\x0f\x30\x90\x90\x90", /* wrmsr */
		"\x0f\x33\x90\x90\x90", /* rdpmc */
		"\x66\x0f\x01\xf8\x90",
		"\xf3\x48\x0f\xae\xc1", /* rdfsbase: the interpreter's */
		"\xf3\x48\x0f\xae\xe8", /* incssp */
		"\xf3\x48\x0f\xae\x11", /* memory */
		"\xf2\x48\x0f\xae\xd1",
		"\xf4\x90\x90\x90\x90",
	};
	struct world w = new_world(), before = w;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(code); i++)
		assert_int_equal(run(&w, code[i]), 0);
	assert_memory_equal(&w, &before, sizeof(w));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_swapgs),
		cmocka_unit_test(test_rdtsc),
		cmocka_unit_test(test_bases),
		cmocka_unit_test(test_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
