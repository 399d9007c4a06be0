/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel command line: what each fact adds, order, and the limit. */
#include "vmm/cmdline.h"

#include "firmware/machine.h"

#include <errno.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct machine machine = {
	.virtio = {{0xd0000000, 0x1000, 5}, {0xd0001000, 0x1000, 6}},
	.nvirtio = 2,
};

static void has(const char *line, const char *word)
{
	const char *at = strstr(line, word);

	if (!at || (at != line && at[-1] != ' '))
		fail_msg("'%s' is not in '%s'", word, line);
}

static void lacks(const char *line, const char *word)
{
	if (strstr(line, word))
		fail_msg("'%s' is in '%s'", word, line);
}

static void test_consoles(void **state)
{
	struct cmdline_facts facts = {.console = CONFIG_CONSOLE_AUTO};
	char line[512];

	(void)state;
	assert_true(cmdline_build(&machine, &facts, line, sizeof(line)) > 0);
	has(line, "console=hvc0");
	has(line, "earlycon=uart8250,io,0x3f8");
	lacks(line, "virtio_mmio.device");
	lacks(line, "root=");
	facts.console = CONFIG_CONSOLE_SERIAL;
	assert_true(cmdline_build(&machine, &facts, line, sizeof(line)) > 0);
	has(line, "console=ttyS0");
	lacks(line, "hvc0");
	facts.console = CONFIG_CONSOLE_VIRTIO;
	assert_true(cmdline_build(&machine, &facts, line, sizeof(line)) > 0);
	has(line, "console=hvc0");
	lacks(line, "earlycon");
	facts.console = CONFIG_CONSOLE_NONE;
	assert_true(cmdline_build(&machine, &facts, line, sizeof(line)) > 0);
	lacks(line, "hvc0");
	lacks(line, "ttyS0");
}

static void test_one_cpu(void **state)
{
	struct machine m = {.cpus = 1};
	struct cmdline_facts facts = {0};
	char line[512];

	(void)state;
	assert_true(cmdline_build(&m, &facts, line, sizeof(line)) > 0);
	has(line, "noreplace-smp");
	m.cpus = 2;
	assert_true(cmdline_build(&m, &facts, line, sizeof(line)) > 0);
	lacks(line, "noreplace-smp");
}

static void test_root(void **state)
{
	struct cmdline_facts facts = {.has_disk = true};
	char line[512];

	(void)state;
	assert_true(cmdline_build(&machine, &facts, line, sizeof(line)) > 0);
	has(line, "root=/dev/vda rw");
	facts.disk_readonly = true;
	assert_true(cmdline_build(&machine, &facts, line, sizeof(line)) > 0);
	has(line, "root=/dev/vda ro");
	facts.append = "root=/dev/vdb"; /* the user's root is the root */
	assert_true(cmdline_build(&machine, &facts, line, sizeof(line)) > 0);
	lacks(line, "/dev/vda");
	facts.append = "chroot=x"; /* not a mention of root */
	assert_true(cmdline_build(&machine, &facts, line, sizeof(line)) > 0);
	has(line, "root=/dev/vda");
	facts.append = NULL;
	facts.has_initrd = true;
	assert_true(cmdline_build(&machine, &facts, line, sizeof(line)) > 0);
	lacks(line, "root=");
}

static void test_order_and_devices(void **state)
{
	const struct cmdline_facts facts = {
		.list_devices = true,
		.assist = " nopti",
		.append = "quiet=no last",
	};
	char line[512];
	int n;

	(void)state;
	n = cmdline_build(&machine, &facts, line, sizeof(line));
	assert_int_equal(n, strlen(line));
	has(line, "virtio_mmio.device=4096@0xd0000000:5");
	has(line, "virtio_mmio.device=4096@0xd0001000:6");
	has(line, "nopti");
	lacks(line, "  ");
	assert_string_equal(line + n - 4, "last");
}

static void test_limit(void **state)
{
	char append[4096], line[4096], small[16];
	struct cmdline_facts facts = {.append = append};
	int n;

	(void)state;
	append[0] = '\0';
	n = cmdline_build(&machine, &facts, line, sizeof(line));
	assert_true(n > 0);
	assert_int_equal(cmdline_build(&machine, &facts, small, sizeof(small)),
			 -E2BIG);
	memset(append, 'x', sizeof(append));
	append[sizeof(append) - 1] = '\0';
	assert_int_equal(cmdline_build(&machine, &facts, line, sizeof(line)),
			 -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_consoles),
		cmocka_unit_test(test_one_cpu),
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_order_and_devices),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
