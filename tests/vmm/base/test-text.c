/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a text that a terminal gets to see. */
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* As RFC 3629 3 has it, well-formed or not: how many bytes. */
static unsigned encode(uint32_t code, char ret[5])
{
	unsigned n = code < 0x80      ? 1
		     : code < 0x800   ? 2
		     : code < 0x10000 ? 3
				      : 4;

	memset(ret, 0, 5);
	ret[0] = (char)(n == 1 ? code
			       : (0xf00u >> n & 0xff) | code >> 6 * (n - 1));
	for (unsigned i = 1; i < n; i++)
		ret[i] = (char)(0x80 | (code >> 6 * (n - 1 - i) & 0x3f));
	return n;
}

static bool expected(uint32_t code)
{
	return !(code < 0x20 || (code >= 0x7f && code < 0xa0) ||
		 (code >= 0x2028 && code <= 0x202e) ||
		 (code >= 0x2066 && code <= 0x2069) ||
		 (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff);
}

static void test_every_character(void **state)
{
	char text[5], shown[5];

	(void)state;
	for (uint32_t code = 1; code < 0x1fffff; code++) {
		const unsigned n = encode(code, text);
		const unsigned bytes = text_character(text);

		if (bytes != (expected(code) ? n : 0))
			fail_msg("U+%04X: %u bytes", code, bytes);
		memcpy(shown, text, 5);
		text_make_printable(shown);
		assert_true((strcmp(shown, text) == 0) ==
			    (expected(code) || code == '?'));
	}
}

static void test_raw_bytes(void **state)
{
	static const char *const bad[] = {"\x80",
					  "\x85",
					  "\x9b",
					  "\xff",
					  "\xc2",
					  "\xc0\x80",
					  "\xc1\xbf",
					  "\xe0\x80\x80",
					  "\xe2\x82",
					  "\xed\xa0\x80",
					  "\xf0\x80\x80\x80",
					  "\xf4\x90\x80\x80",
					  "\xf8\x88\x80\x80\x80",
					  "\xc2\x9b"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		autofree char *text = text_printable(bad[i]);

		assert_int_equal(text_character(bad[i]), 0);
		for (const char *p = text; *p; p++)
			assert_int_equal(*p, '?');
		assert_int_equal(strlen(text), strlen(bad[i]));
	}
	assert_null(text_printable(NULL));
}

static void test_lengths(void **state)
{
	const char *text = "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80z";

	(void)state;
	assert_int_equal(text_length(text), 5);
	assert_int_equal(text_prefix(text, 0), 0);
	assert_int_equal(text_prefix(text, 1), 1);
	assert_int_equal(text_prefix(text, 2), 3);
	assert_int_equal(text_prefix(text, 3), 6);
	assert_int_equal(text_prefix(text, 4), 10);
	assert_int_equal(text_prefix(text, 9), 11);
	assert_int_equal(text_length(""), 0);
}

static void test_escape(void **state)
{
	const char *text = "a\x1b\"\\\n\xc2\x9b\x9b\xc3\xbc\xe2\x80\xae";
	char out[128];

	(void)state;
	text_escape(out, sizeof(out), text, false);
	assert_string_equal(out, "a\\x1b\"\\\\x0a\\xc2\\x9b\\x9b\xc3\xbc"
				 "\\xe2\\x80\\xae");
	text_escape(out, sizeof(out), text, true);
	assert_string_equal(out, "a\\u001b\\\"\\\\\\u000a\\u00c2\\u009b\\u009b"
				 "\xc3\xbc\\u00e2\\u0080\\u00ae");
	for (size_t room = 8; room < sizeof(out); room++) {
		out[room] = 'x';
		assert_true(text_escape(out, room, text, true) < room);
		assert_int_equal(out[room], 'x');
		if (room == sizeof(out) - 1)
			break;
	}
}

static void test_json(void **state)
{
	autofree char *text = text_json("[\n \"\x7f\xc2\x9b\xc3\xbc\xe2\x80\xae"
					"\\u001b\xf0\x9f\x98\x80\"\n]");

	(void)state;
	assert_string_equal(text, "[\n \"\\u007f\\u009b\xc3\xbc\\u202e\\u001b"
				  "\xf0\x9f\x98\x80\"\n]");
	assert_null(text_json(NULL));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_character),
		cmocka_unit_test(test_raw_bytes),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
