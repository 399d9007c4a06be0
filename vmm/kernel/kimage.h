/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel images: recognizes what a file is (ELF vmlinux, gzip'd vmlinux,
 * bzImage), checks every offset and size in it, and puts it into guest RAM. The
 * file is hostile until proven otherwise.
 */
#ifndef VMM_KERNEL_KIMAGE_H
#define VMM_KERNEL_KIMAGE_H

#include "vmm/config/config.h"
#include "vmm/base/mem.h"

#include <stdbool.h>
#include <stdint.h>

/* The setup header of the Linux boot protocol, from 0x1f1 on, at most. */
#define KIMAGE_SETUP_HEADER_OFFSET 0x1f1
#define KIMAGE_SETUP_HEADER_MAX    0x90

struct kimage {
	bool pvh;             /* enter by PVH, else by Linux's 64-bit entry */
	gpa_t entry;          /* guest-physical */
	gpa_t start, end;     /* the RAM it takes, BSS and init_size included */
	unsigned cmdline_max; /* bytes of command line it takes, without NUL */
	/* ELF: the last segment's bytes from the file, where Linux keeps what
	   is only for its start; 0 bytes: not known */
	gpa_t init;
	uint64_t init_bytes;
	/* from a bzImage; header_bytes 0 for plain ELF */
	uint8_t setup_header[KIMAGE_SETUP_HEADER_MAX];
	unsigned header_bytes;
	const char *kind; /* "ELF", "bzImage (gzip payload inflated)" ... */
};

/*
 * Loads the kernel from the file PATH open as FD. WANT chooses the entry where
 * the image has several. 0; -EINVAL malformed or unsupported; -E2BIG does not
 * fit into RAM; -ENOMEM; other -errno from reading. All logged as one line
 * naming PATH and the reason. RAM's content is undefined after a failure.
 * Reads FD with read/pread only: a file that shrinks meanwhile is an error,
 * never a signal.
 */
int kimage_load(struct kimage *image, int fd, const char *path,
		enum config_entry want, const struct mem *mem);

/*
 * Whether the file PATH begins as a kernel does, for those who load it later.
 * 0, -EINVAL, or open(2)'s and read(2)'s -errno; logged as kimage_load()'s.
 */
int kimage_check(const char *path);

/*
 * Whether the kernel's boot may take the command line's parameter NAME: false
 * only where its list of parameters could be searched and lacks it. Reads all
 * of that list: a tenth of a millisecond. After kimage_load(), before the guest
 * runs.
 */
bool kimage_takes(const struct kimage *image, const struct mem *mem,
		  const char *name);

/*
 * Whether the string NAME is anywhere in the kernel, for a parameter that it
 * looks for without having it in its list. Reads all of the image: some ms.
 */
bool kimage_mentions(const struct kimage *image, const struct mem *mem,
		     const char *name);

/*
 * Reads the initrd into RAM as high as the kernel can use it (below MAX_ADDR,
 * page aligned, above ABOVE). 0 or -errno, logged.
 */
int kimage_load_initrd(int fd, const char *path, const struct mem *mem,
		       gpa_t above, gpa_t max_addr, gpa_t *ret_gpa,
		       uint64_t *ret_bytes);

/* The file's whole content is in DATA: for tests and fuzzers. */
int kimage_load_bytes(struct kimage *image, const void *data, size_t bytes,
		      enum config_entry want, const struct mem *mem);

#endif
