/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of what is left to KVM, and what the log shows of them. */
#include "vmm/pvm/assist-left.h"

#include "vmm/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The lines of left_log(), as one string. */
static void logged(const struct left *left, char *text, size_t size)
{
	int file = memfd_create("stderr", MFD_CLOEXEC);
	int saved = dup(STDERR_FILENO);
	ssize_t n;

	assert_true(file >= 0 && saved >= 0);
	assert_true(dup2(file, STDERR_FILENO) >= 0);
	log_setup(LOG_DEBUG, false);
	left_log(left, 3);
	log_setup(LOG_ERROR, false);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	n = pread(file, text, size - 1, 0);
	assert_true(n >= 0);
	text[n] = '\0';
	close(file);
}

static void test_left(void **state)
{
	static const uint8_t wrmsr[LEFT_BYTES] = {0x0f, 0x30},
			     iret[LEFT_BYTES] = {0x48, 0xcf},
			     fences[LEFT_BYTES] = {0x66, 0x67, 0x0f, 0xae},
			     prefixes[LEFT_BYTES] = {0x66, 0x66, 0x66, 0x66};
	static struct left left;
	char text[4096];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		left_count(&left, INTERP_UNKNOWN, wrmsr);
	left_count(&left, INTERP_BUDGET, iret);
	left_count(&left, INTERP_UNKNOWN, iret);
	left_count(&left, INTERP_EVENT, fences);
	left_count(&left, INTERP_ACCESS, prefixes);
	logged(&left, text, sizeof(text));
	assert_non_null(strstr(text, "vCPU 3: left to KVM: 4 not known, 1 that "
				     "fault or are for a device, 0 writes to "
				     "page tables, 1 after so many, 1 when"));
	assert_non_null(strstr(text, "3 of 0f 30 WRMSR"));
	assert_non_null(strstr(text, "2 of cf IRET"));
	assert_non_null(strstr(text, "1 of 0f ae XSAVE"));
	assert_true(strstr(text, "WRMSR") < strstr(text, "IRET"));
}

/* However many there are, a dozen are shown, each once. */
static void test_commonest(void **state)
{
	static struct left left;
	char text[8192];
	unsigned lines = 0;

	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		const uint8_t code[LEFT_BYTES] = {0x0f, (uint8_t)(0x80 + i)};

		left_count(&left, INTERP_UNKNOWN, code);
	}
	logged(&left, text, sizeof(text));
	for (const char *p = strstr(text, " of 0f "); p;
	     p = strstr(p + 1, " of 0f "))
		lines++;
	assert_int_equal(lines, 12);
	assert_non_null(strstr(text, "1 of 0f bf"));
	assert_null(strstr(strstr(text, "0f bf") + 1, "0f bf"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_left),
		cmocka_unit_test(test_commonest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
