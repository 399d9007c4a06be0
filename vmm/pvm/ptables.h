/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which frames of guest RAM are page tables of user mode. An interpreting KVM
 * runs user mode by shadows of them, which it keeps current by what its own
 * emulator writes: the interpreter (interp.h) has to leave those writes to it.
 *
 * A table is known before user mode may run by it, and until it is empty and
 * unlinked, as the shadow of an empty table is empty, too. Kernel mode's half
 * of the address space is never shadowed and not followed.
 *
 * Shared by a VM's vCPUs. Needs guest RAM, no KVM.
 */
#ifndef VMM_PVM_PTABLES_H
#define VMM_PVM_PTABLES_H

#include "vmm/base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* One that writes to guest RAM by what ptables_holds() said: an interpreter. */
struct ptables_writer {
	struct ptables_writer *next;
	_Atomic uint64_t seen; /* the epoch it goes by, plus one; 0: none */
};

struct ptables {
	const struct mem *mem;  /* borrowed */
	_Atomic uint8_t *level; /* owned; a byte a frame, 0: no table */
	atomic_uint epoch;      /* changes when a frame becomes a table */
	pthread_mutex_t lock;   /* of what changes LEVEL */
	struct ptables_writer *writers; /* borrowed */
};

int ptables_init(struct ptables *ptables, const struct mem *mem); /* -ENOMEM */
void ptables_done(struct ptables *ptables);

/*
 * Makes WRITER known, before any vCPU runs. Between begin and end what
 * ptables_holds() denied may be written to, as long as the epoch is the one
 * that begin, or the last call of seen, was about; seen says that nothing older
 * is made use of any more.
 */
void ptables_join(struct ptables *ptables, struct ptables_writer *writer);
unsigned ptables_begin(struct ptables *ptables, struct ptables_writer *writer);
void ptables_seen(struct ptables_writer *writer, unsigned epoch);
void ptables_end(struct ptables_writer *writer);

/*
 * User mode is about to run with CR3, in 4- or 5-level paging. Waits for the
 * writers that may not have noticed yet; not to be called by one.
 */
void ptables_enter(struct ptables *ptables, uint64_t cr3, unsigned levels);

/* True when a write to GPA has to be KVM's. */
bool ptables_holds(struct ptables *ptables, gpa_t gpa);

/*
 * KVM is about to write VALUE to the table at GPA. The tables that this links
 * are known from now on: other vCPUs may see the link before ptables_written()
 * is called.
 */
void ptables_writing(struct ptables *ptables, gpa_t gpa, uint64_t value);

/*
 * KVM has written to the table at GPA: BYTES from there on, where OLD was the
 * first entry before. Follows what was linked and unlinked.
 */
void ptables_written(struct ptables *ptables, gpa_t gpa, uint64_t bytes,
		     uint64_t old);

/* The entry at GPA, 0 where there is no RAM. */
uint64_t ptables_entry(const struct ptables *ptables, gpa_t gpa);

#endif
