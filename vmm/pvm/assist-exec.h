/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries out one decoded instruction on registers and memory: what the
 * handlers in assist-int.c, assist-sys.c, assist-x87.c and assist-xsave.c
 * share. Which handler belongs to which instruction: assist-table.c. No KVM in
 * here: what only KVM knows comes through struct exec_host.
 */
#ifndef VMM_PVM_ASSIST_EXEC_H
#define VMM_PVM_ASSIST_EXEC_H

#include "vmm/pvm/mmu.h"
#include "vmm/pvm/insn.h"

#include <linux/kvm.h>

/* State that is not in kvm_regs and kvm_sregs. All return 0 or -errno. */
struct exec_host {
	int (*get_xcr0)(void *arg, uint64_t *ret_xcr0);
	/* The vector state, XSAVE's standard form, layout->bytes of it. */
	int (*get_fpu)(void *arg, uint8_t *area);
	int (*set_fpu)(void *arg, const uint8_t *area);
	int (*get_msr)(void *arg, uint32_t index, uint64_t *ret_value);
};

#define EXEC_COMPONENTS 32

/* One sub-leaf of CPUID leaf 0xd (SDM 2A, CPUID; SDM 1 13.2). */
struct exec_xsave_leaf {
	uint32_t eax, ebx, ecx, edx;
};

/*
 * Where the components of the vector state lie, in XSAVE's standard form; 0 and
 * 1 are not told. Kept, as CPUID is slow inside a VM.
 */
struct exec_layout {
	size_t bytes; /* of KVM's area: the standard form, everything in it */
	uint32_t mxcsr_mask; /* the bits that MXCSR has; what areas say of it */
	struct {
		uint32_t bytes, offset;
		bool aligned; /* to 64 bytes in the compacted form */
	} component[EXEC_COMPONENTS];
};

/* This processor's. */
void exec_layout_init(struct exec_layout *layout);
/*
 * That of a processor with these sub-leaves and this MXCSR_MASK. Components
 * that do not fit into the size that sub-leaf 0 tells are left out.
 */
void exec_layout_from(struct exec_layout *layout,
		      const struct exec_xsave_leaf leaf[EXEC_COMPONENTS],
		      uint32_t mxcsr_mask);

struct exec {
	struct kvm_regs *regs;
	struct kvm_sregs *sregs;
	struct mmu mmu;
	const struct exec_host *host;
	void *host_arg;
	const struct exec_layout *layout;
	uint8_t *area; /* for get_fpu and set_fpu; 64-byte aligned */
	struct insn insn;
	struct fault fault; /* to deliver, on EXEC_TRAP and -EFAULT */
	bool sregs_changed;
	bool flush_tlb; /* the guest's address translations */
};

#define EXEC_TRAP 1

/* One line of the table. */
struct exec_op {
	uint8_t map, opcode;
	uint8_t prefix; /* 0, 0x66, 0xf2, 0xf3 or EXEC_ANY_PREFIX */
	uint8_t encoding;
	uint8_t modrm_mask, modrm; /* what ModRM must be */
	uint8_t form;              /* EXEC_MEMORY, EXEC_REGISTER or either */
	const char *name;
	/*
	 * NULL: known by name only. 0 done; EXEC_TRAP done, deliver the
	 * fault after it; -EFAULT deliver the fault, nothing is done; -ENOSYS
	 * not supported in this form; -ENXIO not RAM; another -errno the
	 * host's.
	 */
	int (*run)(struct exec *x);
};

#define EXEC_ANY_PREFIX 1

enum { EXEC_EITHER, EXEC_MEMORY, EXEC_REGISTER };

/* assist-table.c */
const struct exec_op *exec_find(const struct insn *insn);
/* Its number in the table, for counting. */
unsigned exec_index(const struct exec_op *op);
unsigned exec_count(void);
const char *exec_name(unsigned index);

/*
 * Runs OP on X, whose insn it was found for; advances RIP as the processor
 * does. Result as of exec_op.run.
 */
int exec_run(struct exec *x, const struct exec_op *op);

/* The building blocks of handlers (assist-exec.c). */

unsigned exec_cpl(const struct exec *x);
uint64_t exec_mask(unsigned bytes);
void exec_flags(struct exec *x, uint64_t affected, uint64_t set);

/* General registers by number. Writing 4 bytes clears the upper 4. */
uint64_t exec_reg(const struct exec *x, unsigned n, unsigned bytes);
void exec_set_reg(struct exec *x, unsigned n, unsigned bytes, uint64_t value);

/* The linear address of the memory operand. */
uint64_t exec_address(const struct exec *x);
int exec_read(struct exec *x, uint64_t va, void *buf, size_t len);
int exec_write(struct exec *x, uint64_t va, const void *buf, size_t len);
/* Writable guest RAM itself, within a page. */
int exec_pointer(struct exec *x, uint64_t va, size_t len, void **ret_host);

/* The ModRM operand, register or memory, BYTES (1, 2, 4, 8) of it. */
int exec_rm(struct exec *x, unsigned bytes, uint64_t *ret_value);
int exec_set_rm(struct exec *x, unsigned bytes, uint64_t value);

int exec_gp(struct exec *x); /* raises #GP(0) */
int exec_ud(struct exec *x); /* raises #UD */

/* Handlers. assist-int.c: */
int exec_popcnt(struct exec *x);
int exec_lzcnt(struct exec *x);
int exec_tzcnt(struct exec *x);
int exec_crc32(struct exec *x);
int exec_movbe_load(struct exec *x);
int exec_movbe_store(struct exec *x);
int exec_adx(struct exec *x);
int exec_andn(struct exec *x);
int exec_bextr(struct exec *x);
int exec_bls(struct exec *x);
int exec_bzhi(struct exec *x);
int exec_mulx(struct exec *x);
int exec_pdep_pext(struct exec *x);
int exec_rorx(struct exec *x);
int exec_shift_x(struct exec *x);
int exec_cmpxchg16b(struct exec *x);
int exec_store_reg(struct exec *x);
int exec_movdir64b(struct exec *x);
int exec_clzero(struct exec *x);

/* assist-sys.c: */
int exec_nop(struct exec *x);
int exec_int3(struct exec *x);
int exec_int1(struct exec *x);
int exec_clac(struct exec *x);
int exec_stac(struct exec *x);
int exec_clts(struct exec *x);
int exec_fsgsbase(struct exec *x);
int exec_xgetbv(struct exec *x);
int exec_rdtscp(struct exec *x);
int exec_rdpid(struct exec *x);
int exec_random(struct exec *x);
int exec_invpcid(struct exec *x);
int exec_lar_lsl(struct exec *x);
int exec_ver(struct exec *x);

/* assist-x87.c: */
int exec_fwait(struct exec *x);
int exec_fnclex(struct exec *x);
int exec_fldcw(struct exec *x);
int exec_fnstcw(struct exec *x);
int exec_fnstsw(struct exec *x);
int exec_fnstsw_ax(struct exec *x);
int exec_emms(struct exec *x);
int exec_ldmxcsr(struct exec *x);
int exec_stmxcsr(struct exec *x);

/* assist-xsave.c: */
int exec_xsave(struct exec *x);   /* XSAVE, XSAVEOPT */
int exec_xsavec(struct exec *x);  /* XSAVEC */
int exec_xsaves(struct exec *x);  /* XSAVES */
int exec_xrstor(struct exec *x);  /* XRSTOR */
int exec_xrstors(struct exec *x); /* XRSTORS */

#endif
