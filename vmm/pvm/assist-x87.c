/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control words of the x87 FPU and of SSE, where KVM's emulator refuses them.
 * Nothing here computes. Offsets are the FXSAVE area's (SDM 1 10.5.1).
 */
#include "vmm/pvm/assist-exec.h"

#include "vmm/pvm/x86.h"

#include <errno.h>
#include <string.h>

#define AREA_FCW       0
#define AREA_FSW       2
#define AREA_FTW       4
#define AREA_MXCSR     24
#define AREA_XSTATE_BV 512

#define FSW_BUSY       0x8000u
#define FSW_SUMMARY    0x0080u
#define FSW_EXCEPTIONS 0x00ffu /* with stack fault and summary */
#define FSW_TOP        0x3800u

/* The vector state, once it is certain that the instruction may run. */
static int load(struct exec *x, uint64_t forbidden_cr0)
{
	if (x->sregs->cr0 & forbidden_cr0)
		return fault_set(&x->fault, EXC_NM);
	return x->host->get_fpu(x->host_arg, x->area);
}

static uint16_t get16(const struct exec *x, unsigned offset)
{
	uint16_t value;

	memcpy(&value, x->area + offset, sizeof(value));
	return value;
}

/* Writes a field and says that its component is no longer in initial state. */
static int store(struct exec *x, unsigned offset, const void *value, size_t len,
		 uint64_t component)
{
	uint64_t in_use;

	memcpy(x->area + offset, value, len);
	memcpy(&in_use, x->area + AREA_XSTATE_BV, sizeof(in_use));
	in_use |= component;
	memcpy(x->area + AREA_XSTATE_BV, &in_use, sizeof(in_use));
	return x->host->set_fpu(x->host_arg, x->area);
}

/* An unmasked exception that waits is raised by the next waiting one. */
static int pending(struct exec *x)
{
	return get16(x, AREA_FSW) & FSW_SUMMARY ? fault_set(&x->fault, EXC_MF)
						: 0;
}

int exec_fwait(struct exec *x)
{
	uint64_t cr0 = x->sregs->cr0;
	int r;

	if ((cr0 & CR0_MP) && (cr0 & CR0_TS))
		return fault_set(&x->fault, EXC_NM);
	r = load(x, 0);
	return r < 0 ? r : pending(x);
}

int exec_fnclex(struct exec *x)
{
	uint16_t fsw;
	int r = load(x, CR0_EM | CR0_TS);

	if (r < 0)
		return r;
	fsw = get16(x, AREA_FSW) & (uint16_t) ~(FSW_EXCEPTIONS | FSW_BUSY);
	return store(x, AREA_FSW, &fsw, sizeof(fsw), 1);
}

int exec_fldcw(struct exec *x)
{
	uint64_t value;
	uint16_t word;
	int r = load(x, CR0_EM | CR0_TS);

	if (r < 0 || (r = pending(x)) < 0 || (r = exec_rm(x, 2, &value)) < 0)
		return r;
	word = (uint16_t)((value & 0x1f3f) | 0x40);
	return store(x, AREA_FCW, &word, sizeof(word), 1);
}

int exec_fnstcw(struct exec *x)
{
	int r = load(x, CR0_EM | CR0_TS);

	return r < 0 ? r : exec_set_rm(x, 2, get16(x, AREA_FCW));
}

int exec_fnstsw(struct exec *x)
{
	int r = load(x, CR0_EM | CR0_TS);

	return r < 0 ? r : exec_set_rm(x, 2, get16(x, AREA_FSW));
}

int exec_fnstsw_ax(struct exec *x)
{
	int r = load(x, CR0_EM | CR0_TS);

	if (r == 0)
		exec_set_reg(x, 0, 2, get16(x, AREA_FSW));
	return r;
}

/* All registers empty; values stay. */
int exec_emms(struct exec *x)
{
	static const uint8_t empty;
	uint16_t fsw;
	int r;

	if (x->sregs->cr0 & CR0_EM)
		return exec_ud(x);
	r = load(x, CR0_TS);
	if (r < 0 || (r = pending(x)) < 0)
		return r;
	fsw = get16(x, AREA_FSW) & (uint16_t)~FSW_TOP;
	memcpy(x->area + AREA_FSW, &fsw, sizeof(fsw));
	return store(x, AREA_FTW, &empty, sizeof(empty), 1);
}

static int load_sse(struct exec *x)
{
	if ((x->sregs->cr0 & CR0_EM) || !(x->sregs->cr4 & CR4_OSFXSR))
		return exec_ud(x);
	return load(x, CR0_TS);
}

int exec_ldmxcsr(struct exec *x)
{
	uint64_t value;
	uint32_t mxcsr;
	int r = load_sse(x);

	if (r < 0 || (r = exec_rm(x, 4, &value)) < 0)
		return r;
	if (value & ~(uint64_t)x->layout->mxcsr_mask)
		return exec_gp(x);
	mxcsr = (uint32_t)value;
	return store(x, AREA_MXCSR, &mxcsr, sizeof(mxcsr), 2);
}

int exec_stmxcsr(struct exec *x)
{
	uint32_t mxcsr;
	int r = load_sse(x);

	if (r < 0)
		return r;
	memcpy(&mxcsr, x->area + AREA_MXCSR, sizeof(mxcsr));
	return exec_set_rm(x, 4, mxcsr);
}
