/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter's memory of code: blocks of decoded instructions, found by
 * their address. Guests change their code, and so do devices and other vCPUs:
 * a block is compared with the code's bytes when it is first come to after
 * anything that may have changed them (interp_forget_code()).
 */
#include "vmm/pvm/interp-operands.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE UINT64_C(4096)

#define ARENA_BYTES (512 * KIB)
#define BLOCK_INSNS 24u
#define BLOCK_BYTES 96u
/* Guests choose which addresses share a bucket: no search takes long. */
#define BUCKET_BLOCKS 16u
/* So many are looked at: then the last instruction is there in full. */
#define FETCH_BYTES (BLOCK_BYTES + INSN_MAX_BYTES)

static void empty(struct interp *in)
{
	for (unsigned i = 0; i < INTERP_BUCKETS; i++)
		in->bucket[i] = &in->none;
	in->arena_used = 0;
}

bool interp_code_init(struct interp *in)
{
	in->code_generation = 1;
	/* An instruction at the end may be decoded again. */
	in->arena = malloc(ARENA_BYTES + INSN_PADDING);
	in->alone = calloc(1, sizeof(*in->alone) + 2 * sizeof(struct uop) +
				      INSN_MAX_BYTES + INSN_PADDING);
	empty(in);
	return in->arena && in->alone;
}

void interp_code_done(struct interp *in)
{
	free(in->arena);
	free(in->alone);
}

/* ---- fetching ------------------------------------------------------------ */

/* The host's view of the page of code at VA, or NULL. */
static struct interp_fetch *fetch_page(struct interp *in, uint64_t va)
{
	uint64_t page = va & ~(PAGE - 1);
	struct interp_fetch *f =
		&in->fetch[page >> 12 & (INTERP_FETCH_TLB - 1)];
	uint8_t *host;
	gpa_t gpa;

	if (f->tag == (page | in->generation))
		return f;
	if (!interp_translate(in, page, INTERP_FETCH, &gpa))
		return NULL;
	host = mem_at(in->mmu.mem, gpa, PAGE);
	if (!host)
		return NULL;
	*f = (struct interp_fetch){page | in->generation, host, 0};
	return f;
}

/* From now on no write to F's page goes unnoticed. */
static void note(struct interp *in, struct interp_fetch *f)
{
	if (f->noted == in->code_generation)
		return;
	interp_charge(in, INTERP_COST_FORGET);
	if (in->ncode == INTERP_CODE_PAGES)
		interp_forget_code(in);
	f->noted = in->code_generation;
	in->code_page[in->ncode++] = f->host;
	interp_filter_add(in->code_filter, f->host);
	interp_flush_writes(in, f->host);
}

/*
 * The bytes at RIP, which lies near the end of the page at HOST: fewer only
 * where the next page cannot be fetched from.
 */
static unsigned fetch_across(struct interp *in, uint64_t rip,
			     const uint8_t *host, uint8_t bytes[INSN_MAX_BYTES])
{
	unsigned off = rip & (PAGE - 1);
	unsigned here = (unsigned)min_u64(PAGE - off, INSN_MAX_BYTES);
	const struct interp_fetch *f;

	memcpy(bytes, host + off, here);
	if (here == INSN_MAX_BYTES)
		return here;
	f = fetch_page(in, rip + here);
	if (!f)
		return here;
	memcpy(bytes + here, f->host, INSN_MAX_BYTES - here);
	return INSN_MAX_BYTES;
}

/* ---- decoding ------------------------------------------------------------ */

_Static_assert((unsigned)INSN_NO_REG == (unsigned)INTERP_ZERO,
	       "uops have registers as the decoder has them");

/* FS or GS, which LEA does not add. */
static void decode_segment(struct uop *u, const struct insn *insn)
{
	if (insn->map == INSN_ONE_BYTE && insn->opcode == 0x8d)
		return;
	u->segment = insn->segment == INSN_GS ? INTERP_GS : INTERP_FS;
	u->odd |= u->index != INTERP_ZERO;
	if (!u->odd)
		u->index = u->segment;
}

/* The operand's address; RIP is that of the next instruction. */
static void decode_address(struct uop *u, const struct insn *insn, uint64_t rip)
{
	bool from_rip = insn->base == INSN_RIP;

	u->disp = (int64_t)((from_rip ? rip : 0) + (uint64_t)insn->disp);
	u->base = from_rip ? INTERP_ZERO : insn->base;
	u->index = insn->index;
	u->scale = insn->scale;
	u->segment = INTERP_ZERO;
	u->odd = insn->address != 8;
	if (insn->segment == INSN_FS || insn->segment == INSN_GS)
		decode_segment(u, insn);
}

static bool is_relative_branch(const struct insn *insn)
{
	unsigned op = insn->opcode;

	if (insn->map == INSN_0F)
		return (op & 0xf0) == 0x80;
	return (op & 0xf0) == 0x70 || op == 0xe8 || op == 0xe9 || op == 0xeb;
}

/*
 * The instruction at RIP, of whose N bytes some may not be its own;
 * INSN_PADDING more follow them. -ENODATA: it is longer. Any other error: it is
 * KVM's; u->len is what is known of it.
 */
static int decode(struct uop *u, uint64_t rip, const uint8_t *bytes, unsigned n)
{
	struct insn insn;
	int r = insn_decode_padded(&insn, bytes, n, INSN_64);
	interp_fn *run = r == 0 ? interp_find(&insn) : NULL;

	if (!run) {
		*u = (struct uop){
			.run = interp_op_unknown,
			.len = r == 0 ? insn.len
				      : (uint8_t)min_u64(n, INSN_MAX_BYTES)};
		return r < 0 ? r : -ENOENT;
	}
	*u = (struct uop){
		.run = run,
		.imm = insn.imm,
		.len = insn.len,
		.opcode = insn.opcode,
		.prefix = insn.prefix,
		.operand = insn.operand,
		.mod = insn.mod,
		.reg = insn.reg,
		.rm = insn.rm,
		.address = insn.address,
		/* XCHG on memory is locked without saying so. */
		.lock = insn.lock || (insn.map == INSN_ONE_BYTE &&
				      (insn.opcode & 0xfe) == 0x86),
		.rex = insn.rex,
	};
	decode_address(u, &insn, rip + insn.len);
	if (is_relative_branch(&insn))
		u->disp = (int64_t)(rip + insn.len + (uint64_t)insn.imm);
	u->run = interp_fast(u, insn.map);
	return 0;
}

/* Has comparisons do the branch that follows them. */
static void fuse(struct interp_block *b)
{
	for (unsigned i = 0; i + 1 < b->n; i++) {
		interp_fn *run = NULL;

		if (b->uop[i + 1].run == interp_op_jcc)
			run = interp_fused(&b->uop[i]);
		if (run)
			b->uop[i].run = run;
	}
}

static const uint8_t *code_of(const struct interp_block *b)
{
	return (const uint8_t *)&b->uop[b->n + 1];
}

/*
 * Makes B the instructions that the N bytes at in->rip begin with; INSN_PADDING
 * more follow them. False: there is not even one in full.
 */
static bool decode_block(struct interp *in, struct interp_block *b,
			 const uint8_t *bytes, unsigned n)
{
	unsigned off = 0, i = 0;
	int r = 0;

	while (i < BLOCK_INSNS && off < BLOCK_BYTES) {
		struct uop *u = &b->uop[i];

		r = decode(u, in->rip + off, bytes + off, n - off);
		if (r < 0)
			break;
		u->off = (uint8_t)off;
		off += u->len;
		i++;
		if (interp_is_last(u))
			break;
	}
	if (i == 0 && r == -ENODATA)
		return false;
	interp_charge(in, (i + 1) * INTERP_COST_DECODE);
	b->rip = in->rip;
	b->n = (uint8_t)i;
	b->crosses = false;
	if (i == 0)
		off = b->uop[0].len;
	else
		b->uop[i] =
			(struct uop){.run = interp_op_end, .off = (uint8_t)off};
	b->bytes = (uint8_t)off;
	memcpy((uint8_t *)&b->uop[i + 1], bytes, off);
	fuse(b);
	return true;
}

struct interp_block *interp_block_alone(struct interp *in,
					const struct interp_block *b,
					unsigned off)
{
	struct interp_block *a = in->alone;
	struct uop *u = a->uop;
	const uint8_t *code = code_of(b) + off;

	interp_charge(in, INTERP_COST_DECODE);
	decode(u, b->rip + off, code, b->bytes - off);
	a->rip = b->rip + off;
	a->n = 1;
	a->bytes = u->len;
	/* B may be the one that is alone already. */
	memmove(&u[2], code, u->len);
	u[1] = (struct uop){.run = interp_op_end, .off = u->len};
	return a;
}

/* ---- blocks -------------------------------------------------------------- */

static struct interp_block *new_block(struct interp *in)
{
	const size_t most = sizeof(struct interp_block) +
			    (BLOCK_INSNS + 1) * sizeof(struct uop) +
			    FETCH_BYTES;

	if (in->arena_used + most > ARENA_BYTES)
		empty(in);
	return (struct interp_block *)(in->arena + in->arena_used);
}

static void add_block(struct interp *in, struct interp_block *b,
		      struct interp_block **bucket)
{
	const size_t align = _Alignof(struct interp_block);
	size_t bytes = (size_t)(code_of(b) + b->bytes - (uint8_t *)b);

	in->arena_used += align_up(bytes, align);
	b->next = *bucket;
	*bucket = b;
}

/*
 * The block at in->rip, which is then before all others in its BUCKET, or NULL.
 * Those that were not asked for for longest are forgotten.
 */
static struct interp_block *take(struct interp *in,
				 struct interp_block **bucket)
{
	struct interp_block **link = bucket, *b = *link;

	for (unsigned n = 1; b != &in->none && b->rip != in->rip; n++) {
		link = &b->next;
		if (n == BUCKET_BLOCKS)
			*link = &in->none;
		b = *link;
	}
	if (b == &in->none)
		return NULL;
	*link = b->next;
	b->next = *bucket;
	*bucket = b;
	return b;
}

/* An instruction at the end of a page that it may not end in. */
static struct interp_block *block_across(struct interp *in,
					 struct interp_block **bucket,
					 struct interp_block *b,
					 const uint8_t *host)
{
	uint8_t bytes[INSN_MAX_BYTES + INSN_PADDING] = {0};
	unsigned n = fetch_across(in, in->rip, host, bytes);

	/* One that was not there in full may be now. */
	if (b && b->n > 0 && b->bytes <= n &&
	    memcmp(code_of(b), bytes, b->bytes) == 0)
		return b;
	if (b)
		*bucket = b->next;
	b = new_block(in);
	/* As a block of this one alone, whatever else the bytes have. */
	decode(b->uop, in->rip, bytes, n);
	n = b->uop->len;
	if (!decode_block(in, b, bytes, n)) {
		/* Not there in full: KVM says why. */
		b->rip = in->rip;
		b->n = 0;
		b->bytes = (uint8_t)n;
		memcpy((uint8_t *)&b->uop[1], bytes, n);
	}
	b->crosses = true;
	b->checked = 0;
	add_block(in, b, bucket);
	return b;
}

struct interp_block *interp_block_slow(struct interp *in)
{
	unsigned at = in->rip & (PAGE - 1);
	unsigned n = (unsigned)min_u64(PAGE - at, FETCH_BYTES);
	struct interp_block **bucket =
		&in->bucket[(in->rip ^ in->rip >> 11) & (INTERP_BUCKETS - 1)];
	struct interp_block *b = take(in, bucket);
	struct interp_fetch *f = fetch_page(in, in->rip);
	uint8_t bytes[FETCH_BYTES + INSN_PADDING];

	if (!f)
		return NULL;
	interp_charge(in, INTERP_COST_COMPARE);
	if (b && b->crosses)
		return block_across(in, bucket, b, f->host);
	note(in, f);
	if (b && b->bytes <= n &&
	    memcmp(code_of(b), f->host + at, b->bytes) == 0) {
		b->checked = in->code_generation;
		return b;
	}
	if (b)
		*bucket = b->next;
	/* Once copied: the guest may patch it while it is decoded. */
	memcpy(bytes, f->host + at, n);
	memset(bytes + n, 0, INSN_PADDING);
	b = new_block(in);
	if (!decode_block(in, b, bytes, n))
		return block_across(in, bucket, NULL, f->host);
	b->checked = in->code_generation;
	add_block(in, b, bucket);
	return b;
}
