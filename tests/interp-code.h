/* SPDX-License-Identifier: Apache-2.0 */
/* A guest of tests/interp.h in a cmocka test, and code for it. */
#ifndef TESTS_INTERP_CODE_H
#define TESTS_INTERP_CODE_H

#include "tests/interp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CODE  (IG_VA + 0x1000)
#define DATA  (IG_VA + 0x4000)
#define STACK (IG_VA + 0xe000)
#define STOP  0xf4 /* HLT: never known here */

#define FLAG_DF UINT64_C(0x400)
#define FLAG_ID UINT64_C(0x200000)

static inline struct iguest *new_guest(void)
{
	struct iguest *g = test_calloc(1, sizeof(*g));

	assert_true(ig_init(g));
	g->regs.rip = CODE;
	g->regs.rsp = STACK;
	return g;
}

static inline void free_guest(struct iguest *g)
{
	ig_done(g);
	test_free(g);
}

static inline void code_at(struct iguest *g, uint64_t va, const uint8_t *bytes,
			   size_t n)
{
	memcpy(ig_at(g, va), bytes, n);
	*ig_at(g, va + n) = STOP;
}

/* Places the bytes given at CODE, a HLT behind them, RIP before them. */
#define set_code(g, ...)                                                       \
	do {                                                                   \
		const uint8_t code_[] = {__VA_ARGS__};                         \
		code_at(g, CODE, code_, sizeof(code_));                        \
		(g)->regs.rip = CODE;                                          \
	} while (0)

#endif
