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
#ifndef VMM_PVM_SHADOW_H
#define VMM_PVM_SHADOW_H

#include "vmm/base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* One that writes to guest RAM by what shadow_holds() said: an interpreter. */
struct shadow_writer {
	struct shadow_writer *next;
	_Atomic uint64_t seen; /* the epoch it goes by, plus one; 0: none */
};

struct shadow {
	const struct mem *mem;  /* borrowed */
	_Atomic uint8_t *level; /* owned; a byte a frame, 0: no table */
	atomic_uint epoch;      /* changes when a frame becomes a table */
	pthread_mutex_t lock;   /* of what changes LEVEL */
	struct shadow_writer *writers; /* borrowed */
};

int shadow_init(struct shadow *shadow, const struct mem *mem); /* -ENOMEM */
void shadow_done(struct shadow *shadow);

/*
 * Makes WRITER known, before any vCPU runs. Between begin and end what
 * shadow_holds() denied may be written to, as long as the epoch is the one that
 * begin, or the last call of seen, was about; seen says that nothing older is
 * made use of any more.
 */
void shadow_join(struct shadow *shadow, struct shadow_writer *writer);
unsigned shadow_begin(struct shadow *shadow, struct shadow_writer *writer);
void shadow_seen(struct shadow_writer *writer, unsigned epoch);
void shadow_end(struct shadow_writer *writer);

/*
 * User mode is about to run with CR3, in 4- or 5-level paging. Waits for the
 * writers that may not have noticed yet; not to be called by one.
 */
void shadow_enter(struct shadow *shadow, uint64_t cr3, unsigned levels);

/* True when a write to GPA has to be KVM's. */
bool shadow_holds(struct shadow *shadow, gpa_t gpa);

/*
 * KVM is about to write VALUE to the table at GPA. The tables that this links
 * are known from now on: other vCPUs may see the link before shadow_written()
 * is called.
 */
void shadow_writing(struct shadow *shadow, gpa_t gpa, uint64_t value);

/*
 * KVM has written to the table at GPA: BYTES from there on, where OLD was the
 * first entry before. Follows what was linked and unlinked.
 */
void shadow_written(struct shadow *shadow, gpa_t gpa, uint64_t bytes,
		    uint64_t old);

/* The entry at GPA, 0 where there is no RAM. */
uint64_t shadow_entry(const struct shadow *shadow, gpa_t gpa);

#endif
