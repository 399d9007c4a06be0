/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel images and initrds: what kind of file it is, and the initrd's place.
 * The kinds themselves are in image-elf.c, image-gzip.c and image-bzimage.c.
 *
 * Files are read straight into guest RAM in large pieces: neither a mapping,
 * which would turn a shrinking file into a signal, nor a second copy.
 */
#include "vmm/kernel/kimage.h"

#include "vmm/kernel/kimage-parts.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define PAGE UINT64_C(4096)

/* Files that are a kernel, but packed in a way that only Linux knows. */
static const struct packing {
	const char *name;
	unsigned len;
	const char *magic;
} packings[] = {
	{"xz", 6, "\3757zXZ\0"},
	{"zstd", 4, "\x28\xb5\x2f\xfd"},
	{"lz4", 4, "\x02\x21\x4c\x18"},
	{"lz4", 4, "\x04\x22\x4d\x18"},
	{"bzip2", 3, "BZh"},
	{"lzo", 4, "\x89LZO"},
	{"lzma", 3, "\x5d\0\0"},
};

static int unknown_kind(const struct kimage_source *src, const uint8_t *head,
			size_t head_bytes)
{
	for (unsigned i = 0; i < ARRAY_LEN(packings); i++) {
		const struct packing *p = &packings[i];

		if (head_bytes >= p->len && memcmp(head, p->magic, p->len) == 0)
			return kimage_bad(src,
					  "is compressed with %s: unpack it "
					  "first, only gzip is understood",
					  p->name);
	}
	return kimage_bad(src, "is no kernel: neither an ELF vmlinux, plain or "
			       "gzip'd, nor a bzImage");
}

/* A NUL-terminated string of its own. */
static bool has_string(const uint8_t *data, size_t bytes, const char *text)
{
	const size_t len = strlen(text) + 1;
	const uint8_t *end = data + bytes;

	for (const uint8_t *p = data;
	     (p = memmem(p, (size_t)(end - p), text, len)); p++)
		if (p > data && p[-1] == '\0')
			return true;
	return false;
}

bool kimage_takes(const struct kimage *image, const struct mem *mem,
		  const char *name)
{
	const uint8_t *data =
		image->init_bytes ? mem_at(mem, image->init, image->init_bytes)
				  : NULL;

	/*
	 * Every Linux takes this parameter: if it is not here, the list is
	 * elsewhere.
	 */
	if (!data || !has_string(data, image->init_bytes, "quiet"))
		return true;
	return has_string(data, image->init_bytes, name);
}

bool kimage_mentions(const struct kimage *image, const struct mem *mem,
		     const char *name)
{
	const size_t bytes = image->end - image->start;
	const uint8_t *data = mem_at(mem, image->start, bytes);

	/* With its NUL: a linker may keep it as the end of another string. */
	return data && memmem(data, bytes, name, strlen(name) + 1);
}

/* How a file begins. */
struct head {
	uint8_t data[KIMAGE_SETUP_HEADER_OFFSET + KIMAGE_SETUP_HEADER_MAX];
	size_t bytes;
};

static int read_head(const struct kimage_source *src, struct head *head)
{
	head->bytes = min_u64(src->bytes, sizeof(head->data));
	if (src->bytes == 0)
		return kimage_bad(src, "is empty");
	return kimage_read(src, head->data, head->bytes, 0);
}

static bool is_elf(const struct head *head)
{
	return head->bytes >= 4 && memcmp(head->data, "\177ELF", 4) == 0;
}

static bool is_gzip(const struct head *head)
{
	return head->bytes >= 2 && memcmp(head->data, "\x1f\x8b", 2) == 0;
}

static int load(struct kimage *image, const struct kimage_source *src,
		enum config_entry want, const struct mem *mem)
{
	struct head head;
	int r = read_head(src, &head);

	*image = (struct kimage){.cmdline_max = LINUX_CMDLINE_MAX};
	if (r < 0)
		return r;
	if (is_elf(&head)) {
		image->kind = "ELF";
		return kimage_load_elf(image, src, want, mem);
	}
	if (is_gzip(&head)) {
		image->kind = "gzip'd ELF";
		return kimage_load_gzip(image, src, 0, want, mem);
	}
	if (kimage_is_bzimage(head.data, head.bytes))
		return kimage_load_bzimage(image, src, want, mem);
	return unknown_kind(src, head.data, head.bytes);
}

/* The size of a regular file: 0 or -errno (logged as WHAT 'PATH'). */
static int file_size(int fd, const char *what, const char *path,
		     uint64_t *ret_bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return log_ret(-errno, "%s '%s': %s", what, path,
			       strerror(errno));
	if (!S_ISREG(st.st_mode))
		return log_ret(-EINVAL, "%s '%s' is not a regular file", what,
			       path);
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

int kimage_check(const char *path)
{
	/* Not to wait for whoever writes to a pipe. */
	autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct kimage_source src = {.fd = fd, .name = path};
	struct head head;
	int r;

	if (fd < 0)
		return log_ret(-errno, "kernel '%s': %s", path,
			       strerror(errno));
	r = file_size(fd, "kernel", path, &src.bytes);
	if (r == 0)
		r = read_head(&src, &head);
	if (r < 0 || is_elf(&head) || is_gzip(&head) ||
	    kimage_is_bzimage(head.data, head.bytes))
		return r;
	return unknown_kind(&src, head.data, head.bytes);
}

int kimage_load(struct kimage *image, int fd, const char *path,
		enum config_entry want, const struct mem *mem)
{
	struct kimage_source src = {.fd = fd, .name = path};
	int r = file_size(fd, "kernel", path, &src.bytes);

	return r < 0 ? r : load(image, &src, want, mem);
}

int kimage_load_bytes(struct kimage *image, const void *data, size_t bytes,
		      enum config_entry want, const struct mem *mem)
{
	const struct kimage_source src = {
		.fd = -1,
		.data = data,
		.bytes = bytes,
		.name = "(memory)",
	};

	return load(image, &src, want, mem);
}

/* The highest place for BYTES between ABOVE and MAX_ADDR, or 0. */
static gpa_t highest_place(const struct mem *mem, gpa_t above, gpa_t max_addr,
			   uint64_t bytes)
{
	for (unsigned i = mem->nregions; i-- > 0;) {
		const struct mem_region *region = &mem->region[i];
		const gpa_t low = above > region->base ? above : region->base;
		const gpa_t high =
			min_u64(max_addr, region->base + region->bytes);
		gpa_t gpa;

		if (low >= high || bytes > high - low)
			continue;
		gpa = align_down(high - bytes, PAGE);
		if (gpa >= low)
			return gpa;
	}
	return 0;
}

int kimage_load_initrd(int fd, const char *path, const struct mem *mem,
		       gpa_t above, gpa_t max_addr, gpa_t *ret_gpa,
		       uint64_t *ret_bytes)
{
	uint64_t bytes;
	gpa_t gpa;
	int r = file_size(fd, "initrd", path, &bytes);

	if (r < 0)
		return r;
	if (bytes == 0)
		return log_ret(-EINVAL, "initrd '%s' is empty", path);
	above = above > KIMAGE_LOAD_MIN ? above : KIMAGE_LOAD_MIN;
	gpa = highest_place(mem, above, max_addr, bytes);
	if (!gpa)
		return log_ret(
			-E2BIG,
			"initrd '%s' of %llu MiB does not fit between "
			"the kernel's end at %llu MiB and %llu MiB: %s",
			path, kimage_mib(bytes), kimage_mib(above),
			(unsigned long long)(min_u64(mem->bytes, max_addr) /
					     MIB),
			mem->bytes < max_addr ? "raise --memory"
					      : "make it smaller");
	r = util_read_at(fd, mem_at(mem, gpa, bytes), bytes, 0);
	if (r == -ENODATA)
		return log_ret(-EINVAL,
			       "initrd '%s' became shorter while it was read",
			       path);
	if (r < 0)
		return log_ret(r, "initrd '%s': read: %s", path, strerror(-r));
	*ret_gpa = gpa;
	*ret_bytes = bytes;
	return 0;
}
