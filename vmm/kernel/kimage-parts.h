/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the kernel loader (image*.c), and by no others. */
#ifndef VMM_KERNEL_KIMAGE_PARTS_H
#define VMM_KERNEL_KIMAGE_PARTS_H

#include "vmm/kernel/kimage.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <stddef.h>
#include <stdint.h>

/* COMMAND_LINE_SIZE less the NUL, where no header says it. */
#define LINUX_CMDLINE_MAX 2047

/* The monitor writes tables, command line and device tree below. */
#define KIMAGE_LOAD_MIN MIB

/* ---- image-source.c */

/* Where the kernel's bytes come from: a descriptor, or memory (DATA). */
struct kimage_source {
	int fd;
	const uint8_t *data;
	uint64_t bytes;
	const char *name; /* for messages */
};

/* "kernel 'vmlinux' is ...": one line, and -EINVAL. */
#define kimage_bad(src, format, ...)                                           \
	log_ret(-EINVAL, "kernel '%s' " format, (src)->name, ##__VA_ARGS__)

/* In MiB, rounded up: for messages. */
unsigned long long kimage_mib(uint64_t bytes);

/* Whole reads only: 0 or -errno (logged). */
int kimage_read(const struct kimage_source *src, void *buf, size_t len,
		uint64_t offset);

/*
 * BYTES of RAM at GPA below 4 GiB for the kernel, above what the monitor writes
 * into the first MiB: 0 and a pointer, or -EINVAL, -E2BIG (logged).
 */
int kimage_place(const struct kimage_source *src, const struct mem *mem,
		 gpa_t gpa, uint64_t bytes, uint8_t **ret_host);

/* ---- image-elf.c */

/* Header and program headers have to lie in so much of the file's start. */
#define ELF_HEAD_BYTES   8192
#define ELF_SEGMENTS_MAX 64
#define ELF_NOTES_MAX    4096

/* A part of the file and where its bytes belong. */
struct elf_piece {
	uint64_t offset, bytes;
	uint8_t *dest; /* guest RAM, or the plan's notes */
};

struct elf_segment {
	gpa_t base;
	uint64_t bytes, file_bytes;
	uint64_t vaddr;
	bool executable;
};

/*
 * Lists what has to be read, and to where, before anything is read. It holds
 * pointers into itself: not to be copied.
 */
struct elf_plan {
	struct elf_piece piece[ELF_SEGMENTS_MAX];
	unsigned npieces;
	uint64_t file_end; /* past the last piece */
	struct elf_segment segment[ELF_SEGMENTS_MAX];
	unsigned nsegments;
	gpa_t start, end;
	uint64_t entry;
	uint8_t notes[ELF_NOTES_MAX]; /* of all PT_NOTE segments */
	unsigned nnotes;
};

/* Plans from the first HEAD_BYTES of the ELF file. 0 or -errno (logged). */
int kimage_elf_plan(struct elf_plan *plan, const struct kimage_source *src,
		    const uint8_t *head, size_t head_bytes,
		    const struct mem *mem);

/* After every piece was read: chooses the entry. 0 or -EINVAL (logged). */
int kimage_elf_finish(const struct elf_plan *plan,
		      const struct kimage_source *src, enum config_entry want,
		      struct kimage *image);

int kimage_load_elf(struct kimage *image, const struct kimage_source *src,
		    enum config_entry want, const struct mem *mem);

/* ---- image-gzip.c: an ELF file in the gzip stream that begins at OFFSET */

int kimage_load_gzip(struct kimage *image, const struct kimage_source *src,
		     uint64_t offset, enum config_entry want,
		     const struct mem *mem);

/* ---- image-bzimage.c */

bool kimage_is_bzimage(const uint8_t *head, size_t head_bytes);
int kimage_load_bzimage(struct kimage *image, const struct kimage_source *src,
			enum config_entry want, const struct mem *mem);

#endif
