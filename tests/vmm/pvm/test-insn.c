/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder: lengths and fields against bytes whose meaning the assembler
 * gave; truncation at every byte; encodings that are none.
 */
#include "vmm/pvm/insn.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct expect {
	const char *what;
	uint8_t bytes[INSN_MAX_BYTES + 1];
	uint8_t len;
	enum insn_mode mode;
	enum insn_map map;
	uint8_t opcode, prefix, operand;
};

static const struct expect cases[] = {
	{"nop", {0x90}, 1, INSN_64, INSN_ONE_BYTE, 0x90, 0, 4},
	{"int3", {0xcc}, 1, INSN_64, INSN_ONE_BYTE, 0xcc, 0, 4},
	{"fwait", {0x9b}, 1, INSN_32, INSN_ONE_BYTE, 0x9b, 0, 4},
	{"clac", {0x0f, 0x01, 0xca}, 3, INSN_64, INSN_0F, 0x01, 0, 4},
	{"popcnt %rax, %rbx",
	 {0xf3, 0x48, 0x0f, 0xb8, 0xd8},
	 5,
	 INSN_64,
	 INSN_0F,
	 0xb8,
	 0xf3,
	 8},
	{"popcnt %ax, %bx",
	 {0x66, 0xf3, 0x0f, 0xb8, 0xd8},
	 5,
	 INSN_64,
	 INSN_0F,
	 0xb8,
	 0xf3,
	 2},
	{"movabs $imm64, %rax",
	 {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8},
	 10,
	 INSN_64,
	 INSN_ONE_BYTE,
	 0xb8,
	 0,
	 8},
	{"mov $imm16, %ax",
	 {0xb8, 1, 2},
	 3,
	 INSN_16,
	 INSN_ONE_BYTE,
	 0xb8,
	 0,
	 2},
	{"movabs moffs64, %al",
	 {0xa0, 1, 2, 3, 4, 5, 6, 7, 8},
	 9,
	 INSN_64,
	 INSN_ONE_BYTE,
	 0xa0,
	 0,
	 4},
	{"test $imm32, %eax",
	 {0xf7, 0xc0, 1, 2, 3, 4},
	 6,
	 INSN_64,
	 INSN_ONE_BYTE,
	 0xf7,
	 0,
	 4},
	{"not %eax", {0xf7, 0xd0}, 2, INSN_64, INSN_ONE_BYTE, 0xf7, 0, 4},
	{"jz rel32", {0x0f, 0x84, 1, 2, 3, 4}, 6, INSN_64, INSN_0F, 0x84, 0, 4},
	{"jz rel16", {0x0f, 0x84, 1, 2}, 4, INSN_16, INSN_0F, 0x84, 0, 2},
	{"enter", {0xc8, 1, 0, 2}, 4, INSN_64, INSN_ONE_BYTE, 0xc8, 0, 4},
	{"ljmp",
	 {0xea, 1, 2, 3, 4, 5, 6},
	 7,
	 INSN_32,
	 INSN_ONE_BYTE,
	 0xea,
	 0,
	 4},
	{"les (%eax), %eax",
	 {0xc4, 0x00},
	 2,
	 INSN_32,
	 INSN_ONE_BYTE,
	 0xc4,
	 0,
	 4},
	{"mov %cr4, %rax", {0x0f, 0x20, 0xe0}, 3, INSN_64, INSN_0F, 0x20, 0, 4},
	{"clwb 8(%rax)",
	 {0x66, 0x0f, 0xae, 0x70, 0x08},
	 5,
	 INSN_64,
	 INSN_0F,
	 0xae,
	 0x66,
	 2},
	{"rorx $3, %rax, %rcx",
	 {0xc4, 0xe3, 0xfb, 0xf0, 0xc8, 0x03},
	 6,
	 INSN_64,
	 INSN_0F3A,
	 0xf0,
	 0xf2,
	 8},
	{"andn %eax, %ebx, %ecx",
	 {0xc4, 0xe2, 0x60, 0xf2, 0xc8},
	 5,
	 INSN_64,
	 INSN_0F38,
	 0xf2,
	 0,
	 4},
	{"vzeroupper", {0xc5, 0xf8, 0x77}, 3, INSN_64, INSN_0F, 0x77, 0, 4},
	{"vmovdqu64 (%rdi), %zmm0",
	 {0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x07},
	 6,
	 INSN_64,
	 INSN_0F,
	 0x6f,
	 0xf3,
	 8},
	{"pclmulqdq $0, %xmm0, %xmm1",
	 {0x66, 0x0f, 0x3a, 0x44, 0xc8, 0x00},
	 6,
	 INSN_64,
	 INSN_0F3A,
	 0x44,
	 0x66,
	 2},
};

static void test_cases(void **state)
{
	struct insn insn;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct expect *c = &cases[i];

		print_message("%s\n", c->what);
		assert_int_equal(
			insn_decode(&insn, c->bytes, INSN_MAX_BYTES, c->mode),
			0);
		assert_int_equal(insn.len, c->len);
		assert_int_equal(insn.map, c->map);
		assert_int_equal(insn.opcode, c->opcode);
		assert_int_equal(insn.prefix, c->prefix);
		assert_int_equal(insn.operand, c->operand);
		assert_memory_equal(insn.bytes, c->bytes, c->len);
		for (size_t n = 0; n < c->len; n++)
			assert_int_equal(
				insn_decode(&insn, c->bytes, n, c->mode),
				-ENODATA);
	}
}

/* Addressing: base, index, scale, displacement. */
static void test_memory(void **state)
{
	static const struct {
		uint8_t bytes[10], len;
		enum insn_mode mode;
		uint8_t base, index, scale;
		int32_t disp;
	} m[] = {
		/* after 0f ae: ModRM and on */
		{{0x27}, 1, INSN_64, 7, INSN_NO_REG, 0, 0},
		{{0x67, 0x80}, 2, INSN_64, 7, INSN_NO_REG, 0, -128},
		{{0xa7, 1, 0, 0, 0x80},
		 5,
		 INSN_64,
		 7,
		 INSN_NO_REG,
		 0,
		 INT32_MIN + 1},
		{{0x25, 1, 0, 0, 0}, 5, INSN_64, INSN_RIP, INSN_NO_REG, 0, 1},
		{{0x25, 1, 0, 0, 0},
		 5,
		 INSN_32,
		 INSN_NO_REG,
		 INSN_NO_REG,
		 0,
		 1},
		{{0x24, 0x24}, 2, INSN_64, 4, INSN_NO_REG, 0, 0},
		{{0x24, 0xc8}, 2, INSN_64, 0, 1, 3, 0},
		{{0x24, 0x25, 2, 0, 0, 0},
		 6,
		 INSN_64,
		 INSN_NO_REG,
		 INSN_NO_REG,
		 0,
		 2},
		{{0x64, 0x4d, 9}, 3, INSN_64, 5, 1, 1, 9},
		{{0x27}, 1, INSN_16, 3, INSN_NO_REG, 0, 0},
		{{0x26, 0xfe, 0xff},
		 3,
		 INSN_16,
		 INSN_NO_REG,
		 INSN_NO_REG,
		 0,
		 -2},
		{{0x60, 5}, 2, INSN_16, 3, 6, 0, 5},
	};
	struct insn insn;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(m); i++) {
		uint8_t bytes[INSN_MAX_BYTES] = {0x0f, 0xae};

		memcpy(bytes + 2, m[i].bytes, m[i].len);
		assert_int_equal(
			insn_decode(&insn, bytes, sizeof(bytes), m[i].mode), 0);
		assert_int_equal(insn.len, 2 + m[i].len);
		assert_int_equal(insn.base, m[i].base);
		assert_int_equal(insn.index, m[i].index);
		assert_int_equal(insn.scale, m[i].scale);
		assert_int_equal(insn.disp, m[i].disp);
		assert_int_equal(insn.reg, 4);
	}
}

static void test_extensions(void **state)
{
	/* xsaves64 %gs:0x10(%r9, %r12, 4) */
	static const uint8_t bytes[] = {0x65, 0x4b, 0x0f, 0xc7,
					0x6c, 0xa1, 0x10};
	/* shlx %r8, (%r9), %r10 */
	static const uint8_t vex[] = {0xc4, 0x42, 0xb9, 0xf7, 0x11};
	/* mov %ds:%gs:(%eax), %ecx, as nobody writes it */
	static const uint8_t ignored[] = {0x65, 0x3e, 0x8b, 0x08};
	struct insn insn;

	(void)state;
	assert_int_equal(insn_decode(&insn, bytes, sizeof(bytes), INSN_64), 0);
	assert_int_equal(insn.segment, INSN_GS);
	assert_int_equal(insn.reg, 5);
	assert_int_equal(insn.base, 9);
	assert_int_equal(insn.index, 12);
	assert_int_equal(insn.scale, 2);
	assert_int_equal(insn.disp, 0x10);
	assert_true(insn.w);

	/* The other segments are none in 64-bit mode: GS it stays. */
	assert_int_equal(insn_decode(&insn, ignored, sizeof(ignored), INSN_64),
			 0);
	assert_int_equal(insn.segment, INSN_GS);
	assert_int_equal(insn_decode(&insn, ignored, sizeof(ignored), INSN_32),
			 0);
	assert_int_equal(insn.segment, INSN_DS);

	assert_int_equal(insn_decode(&insn, vex, sizeof(vex), INSN_64), 0);
	assert_int_equal(insn.encoding, INSN_VEX);
	assert_int_equal(insn.vvvv, 8);
	assert_int_equal(insn.base, 9);
	assert_int_equal(insn.reg, 10);
	assert_int_equal(insn.prefix, 0x66);
}

static void test_none(void **state)
{
	uint8_t prefixes[INSN_MAX_BYTES + 1];
	static const uint8_t rex_vex[] = {0x48, 0xc5, 0xf8, 0x77};
	static const uint8_t vex_map[] = {0xc4, 0xe7, 0x78, 0x10, 0};
	struct insn insn;

	(void)state;
	memset(prefixes, 0x66, sizeof(prefixes));
	assert_int_equal(
		insn_decode(&insn, prefixes, sizeof(prefixes), INSN_64),
		-EINVAL);
	assert_int_equal(insn_decode(&insn, rex_vex, sizeof(rex_vex), INSN_64),
			 -EINVAL);
	assert_int_equal(insn_decode(&insn, vex_map, sizeof(vex_map), INSN_64),
			 -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_extensions),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
