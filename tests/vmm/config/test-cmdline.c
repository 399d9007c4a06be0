/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel command line: what each fact adds, order, and the limit. */
#include "vmm/config/cmdline.h"

#include "firmware/machine.h"
#include "vmm/base/util.h"

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
	struct cmdline_facts facts = {.console = CONFIG_CONSOLE_AUTO,
				      .kernel_max = 2047};
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
	struct cmdline_facts facts = {.kernel_max = 2047};
	char line[512];

	(void)state;
	assert_true(cmdline_build(&m, &facts, line, sizeof(line)) > 0);
	has(line, "noreplace-smp.");
	m.cpus = 2;
	assert_true(cmdline_build(&m, &facts, line, sizeof(line)) > 0);
	lacks(line, "noreplace-smp");
}

static void test_root(void **state)
{
	struct cmdline_facts facts = {.has_disk = true, .kernel_max = 2047};
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
		.kernel_max = 2047,
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
	struct cmdline_facts facts = {
		.append = append,
		.kernel = "vmlinux",
		.kernel_max = 2047,
	};
	size_t own;
	int n;

	(void)state;
	append[0] = '\0';
	n = cmdline_build(&machine, &facts, line, sizeof(line));
	assert_true(n > 0);
	own = (size_t)n;
	assert_int_equal(cmdline_build(&machine, &facts, small, sizeof(small)),
			 -E2BIG);
	/* One byte more than the kernel takes, and just as many. */
	memset(append, 'x', sizeof(append));
	append[2048 - own] = '\0';
	assert_int_equal(cmdline_build(&machine, &facts, line, sizeof(line)),
			 -E2BIG);
	append[2047 - own] = '\0';
	assert_int_equal(cmdline_build(&machine, &facts, line, sizeof(line)),
			 2047);
	assert_int_equal(strlen(line), 2047);
	/* A kernel that says more gets more, as far as there is room. */
	append[2047 - own] = append[2048 - own] = 'x';
	append[4095 - own] = '\0';
	facts.kernel_max = 65535;
	assert_int_equal(cmdline_build(&machine, &facts, line, sizeof(line)),
			 4095);
	append[4095 - own] = 'x';
	append[sizeof(append) - 1] = '\0';
	assert_int_equal(cmdline_build(&machine, &facts, line, sizeof(line)),
			 -E2BIG);
}

/*
 * A kernel gives the words that it does not know to init, unless the name has a
 * dot. Every Linux for x86 knows the words without one.
 */
static void test_nothing_for_init(void **state)
{
	static const char *const known[] = {"quiet",  "console", "panic",
					    "reboot", "root",    "ro",
					    "rw",     "earlycon"};
	const struct machine m = {.cpus = 1};
	struct cmdline_facts facts = {.has_disk = true, .kernel_max = 2047};
	char line[512], *save;

	(void)state;
	facts.has_pci = true;
	assert_true(cmdline_build(&m, &facts, line, sizeof(line)) > 0);
	has(line, "pci=off");
	facts.has_pci = false;
	for (int console = CONFIG_CONSOLE_AUTO; console <= CONFIG_CONSOLE_NONE;
	     console++) {
		facts.console = (enum config_console)console;
		assert_true(cmdline_build(&m, &facts, line, sizeof(line)) > 0);
		for (char *word = strtok_r(line, " ", &save); word;
		     word = strtok_r(NULL, " ", &save)) {
			const size_t len = strcspn(word, "=");
			bool found = memchr(word, '.', len) != NULL;

			for (unsigned i = 0; i < ARRAY_LEN(known); i++)
				found |= strlen(known[i]) == len &&
					 memcmp(known[i], word, len) == 0;
			if (!found)
				fail_msg("init may be given '%s'", word);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_consoles),
		cmocka_unit_test(test_one_cpu),
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_order_and_devices),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_nothing_for_init),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
