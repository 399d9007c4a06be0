/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-init reads a command line, and a disk's first bytes. */
#include "firmware/init/mount-root.h"

#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void same(const char *a, const char *b)
{
	if (b)
		assert_string_equal(a, b);
	else
		assert_null(a);
}

static void test_words(void **state)
{
	static const struct {
		const char *text, *root, *type, *flags, *init;
		bool write, wait;
		unsigned delay;
	} cases[] = {
		{.text = ""},
		{.text = "quiet console=hvc0\n"},
		{.text = "root=/dev/vda rw\n",
		 .root = "/dev/vda",
		 .write = true},
		{.text = "rw root=a ro root=b", .root = "b"},
		{.text = "root=r rootfstype=virtiofs rootflags=dax,x=1",
		 .root = "r",
		 .type = "virtiofs",
		 .flags = "dax,x=1"},
		{.text = "init=/bin/a rootwait rootdelay=3",
		 .init = "/bin/a",
		 .wait = true,
		 .delay = 3},
		{.text = "x=\"root=no rw\" \"init=/a b\" root=\"/c d\"",
		 .root = "/c d",
		 .init = "/a b"},
		{.text = "noroot=1 xinit=2 rootx=3 initx=4 rwx roo"},
		{.text = "root=/a -- root=/b rw", .root = "/a"},
		{.text = "root= init=", .root = "", .init = ""},
		{.text = "root=\"unended rw", .root = "unended rw"},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct root_words w;
		char text[256];

		snprintf(text, sizeof(text), "%s", cases[i].text);
		root_parse(text, &w);
		same(w.root, cases[i].root);
		same(w.type, cases[i].type);
		same(w.flags, cases[i].flags);
		same(w.init, cases[i].init);
		assert_int_equal(w.write, cases[i].write);
		assert_int_equal(w.wait, cases[i].wait);
		assert_int_equal(w.delay, cases[i].delay);
	}
}

static void test_type(void **state)
{
	static uint8_t head[ROOT_HEAD_BYTES];

	(void)state;
	assert_null(root_type(head, sizeof(head)));
	memcpy(head + 65600, "_BHRfS_M", 8);
	assert_string_equal(root_type(head, sizeof(head)), "btrfs");
	assert_null(root_type(head, 65600 + 7));
	memcpy(head, "XFSB", 4);
	assert_string_equal(root_type(head, sizeof(head)), "xfs");
	memcpy(head, "hsqs", 4);
	assert_string_equal(root_type(head, 4), "squashfs");
	assert_null(root_type(head, 0));
	memcpy(head + 1024, "\xe2\xe1\xf5\xe0", 4);
	assert_string_equal(root_type(head, sizeof(head)), "erofs");
	memcpy(head + 1080, "\x53\xef", 2);
	assert_string_equal(root_type(head, sizeof(head)), "ext4");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_type),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
