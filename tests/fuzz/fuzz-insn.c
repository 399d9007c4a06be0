/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoder and executor on any bytes, any registers, any page tables: no access
 * outside the guest's RAM or the vector state, no endless loop, and a result
 * that keeps the rules of assist-exec.h.
 *
 * Input: a mode byte, the instruction (15 bytes), 16 general registers of 8
 * bytes, control bits, then page tables and data.
 */
#include "tests/assist.h"

#include "vmm/pvm/assist-syscall.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define HEAD (1 + INSN_MAX_BYTES)

static void check(bool condition)
{
	if (!condition)
		abort();
}

struct input {
	const uint8_t *at;
	size_t left;
};

/* Missing bytes read as zero. */
static void take(struct input *in, void *to, size_t len)
{
	size_t n = min_u64(len, in->left);

	memset(to, 0, len);
	if (n > 0)
		memcpy(to, in->at, n);
	in->at += n;
	in->left -= n;
}

static void take_registers(struct input *in, struct guest *g)
{
	uint64_t v[16];
	uint32_t bits;

	take(in, v, sizeof(v));
	for (unsigned i = 0; i < ARRAY_LEN(v); i++) {
		/* Small numbers: pages that may be mapped. */
		if ((v[i] >> 56) == 0)
			v[i] = GUEST_VA + (v[i] & 0xffff);
	}
	memcpy(&g->regs, v, sizeof(v)); /* RAX to R15 lie in a row */
	take(in, &bits, sizeof(bits));
	g->regs.rflags = (bits & 0x40dd5) | 2;
	g->sregs.cr0 = CR0_DEFAULT ^ (bits >> 8 & 0xc);
	g->sregs.cr4 = CR4_DEFAULT ^ ((uint64_t)(bits >> 20 & 7) << 18);
	g->sregs.ss.dpl = bits & 1 ? 3 : 0;
	g->sregs.fs.base = bits & 2 ? UINT64_C(1) << 47 : 0;
	g->xcr0 = bits >> 24;
	if ((g->xcr0 & 6) == 6 && g->layout.component[18].bytes != 0)
		g->xcr0 |= 3u << 17;
	take(in, g->fpu, 640);
}

static void one_instruction(struct guest *g, const uint8_t *code)
{
	struct kvm_regs before;
	size_t n = 1 + g->regs.r15 % INSN_MAX_BYTES;
	int r;

	/* Short input must not be read beyond its end. */
	uint8_t *copy = malloc(n);

	check(copy != NULL);
	memcpy(copy, code, n);
	before = g->regs;
	r = guest_run(g, copy, n);
	free(copy);
	if (r == -EFAULT) {
		check(g->regs.rip == before.rip);
		check(g->exec.fault.vector < 32);
	}
	if (r == 0 || r == EXEC_TRAP) {
		check(g->exec.insn.len >= 1 && g->exec.insn.len <= n);
		check(g->regs.rip != before.rip);
	}
}

/* One with this processor's vector state, one with AMX's. */
static void make_guests(struct guest guests[2])
{
	struct exec_xsave_leaf leaf[EXEC_COMPONENTS] = {
		[0] = {.ecx = 11008},      [2] = {256, 576, 0, 0},
		[5] = {64, 1088, 0, 0},    [6] = {512, 1152, 0, 0},
		[7] = {1024, 1664, 0, 0},  [17] = {64, 2752, 2, 0},
		[18] = {8192, 2816, 2, 0},
	};
	struct exec_layout amx;

	exec_layout_from(&amx, leaf, 0xffff);
	for (unsigned i = 0; i < 2; i++) {
		uint8_t *ram = aligned_alloc(4096, GUEST_BYTES);

		check(ram != NULL);
		memset(ram, 0, GUEST_BYTES);
		guest_init(&guests[i], ram, i == 0 ? NULL : &amx);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const uint64_t star = UINT64_C(0x0023001000000000);
	struct input in = {data, bytes};
	static struct guest guests[2]; /* kept: large to make anew each time */
	struct guest *g;
	uint8_t head[HEAD];
	struct syscall_stub stub = {0};
	struct syscall_cpu cpu = {0};
	struct fault fault;

	if (guests[0].fpu == NULL)
		make_guests(guests);
	take(&in, head, sizeof(head));
	g = &guests[head[0] >> 6 & 1];
	memset(g->mem.region[0].host, 0, GUEST_DATA + 0x10000);
	guest_reset(g);
	g->sregs.cs.l = !(head[0] & 3);
	g->sregs.cs.db = head[0] & 1;
	take_registers(&in, g);
	if (in.left > 0) {
		/* Entries of the page table, then what data pages hold. */
		take(&in, guest_pte(g, 0), 64);
		take(&in, g->mem.region[0].host + GUEST_DATA,
		     min_u64(in.left, 0x10000));
	}
	one_instruction(g, head + 1);
	if (head[0] & 0x80) {
		struct mmu mmu = {&g->mem, &g->sregs, 0};

		(void)syscall_go_fast(&stub, &cpu, &mmu);
		(void)syscall_enter(&cpu, &g->regs, &g->sregs, star,
				    g->regs.rcx, &fault);
	}
	return 0;
}
