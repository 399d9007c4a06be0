/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzImages (Documentation/arch/x86/boot.rst). A gzip payload is inflated here,
 * which is faster than anything the guest could do; every other one is left to
 * the kernel's own decompressor.
 */
#include "vmm/kernel/kimage-parts.h"
#include "vmm/base/util.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>

#define BOOT_FLAG    0xaa55
#define HEADER_MAGIC 0x53726448 /* "HdrS" */
/* xloadflags, and with it the 64-bit entry, came with 2.12. */
#define PROTOCOL_MIN 0x020c

#define SECTOR             512
#define SETUP_SECTS_OLD    4     /* what 0 stands for */
#define ENTRY_64_OFFSET    0x200 /* into the protected-mode kernel */
#define HEADER_END_AT      0x201 /* a jump's displacement: from 0x202 on */
#define HEADER_BYTES_KNOWN offsetof(struct setup_header, handover_offset)

_Static_assert(sizeof(struct setup_header) <= KIMAGE_SETUP_HEADER_MAX,
	       "image.setup_header holds every field we know");
_Static_assert(KIMAGE_SETUP_HEADER_OFFSET == offsetof(struct boot_params, hdr),
	       "boot_params carries the header at the file's offset");

/* The header's fields, checked against the file. */
struct layout {
	struct setup_header hdr;
	uint64_t kernel_at, kernel_bytes; /* the protected-mode part */
	uint64_t payload_at;
};

bool kimage_is_bzimage(const uint8_t *head, size_t head_bytes)
{
	struct setup_header hdr;

	if (head_bytes < KIMAGE_SETUP_HEADER_OFFSET + sizeof(hdr))
		return false;
	memcpy(&hdr, head + KIMAGE_SETUP_HEADER_OFFSET, sizeof(hdr));
	return hdr.boot_flag == BOOT_FLAG && hdr.header == HEADER_MAGIC;
}

/* Keeps the header for boot_params, up to the end it gives itself. */
static int copy_header(struct kimage *image, const struct kimage_source *src,
		       struct setup_header *hdr)
{
	uint8_t sector[KIMAGE_SETUP_HEADER_OFFSET + KIMAGE_SETUP_HEADER_MAX];
	const size_t have = min_u64(src->bytes, sizeof(sector));
	int r = kimage_read(src, sector, have, 0);
	size_t end;

	if (r < 0)
		return r;
	if (!kimage_is_bzimage(sector, have))
		return kimage_bad(src, "is no bzImage any more");
	end = min_u64(0x202 + sector[HEADER_END_AT], have);
	if (end < KIMAGE_SETUP_HEADER_OFFSET + HEADER_BYTES_KNOWN)
		return kimage_bad(src, "has a setup header that is too short");
	image->header_bytes = (unsigned)(end - KIMAGE_SETUP_HEADER_OFFSET);
	memcpy(image->setup_header, sector + KIMAGE_SETUP_HEADER_OFFSET,
	       image->header_bytes);
	*hdr = (struct setup_header){0};
	memcpy(hdr, image->setup_header,
	       min_u64(image->header_bytes, sizeof(*hdr)));
	image->cmdline_max = hdr->cmdline_size;
	return 0;
}

static int check_layout(const struct kimage_source *src, struct layout *layout)
{
	const struct setup_header *hdr = &layout->hdr;
	const unsigned sects =
		hdr->setup_sects ? hdr->setup_sects : SETUP_SECTS_OLD;
	/* In units of 16 bytes; the file may be padded or signed behind it. */
	const uint64_t wanted = (uint64_t)hdr->syssize * 16;

	if (hdr->version < PROTOCOL_MIN)
		return kimage_bad(src,
				  "speaks boot protocol %u.%02u: 2.12 or later "
				  "(Linux 3.8) is needed",
				  hdr->version >> 8, hdr->version & 0xff);
	if (!(hdr->xloadflags & XLF_KERNEL_64))
		return kimage_bad(src, "is a 32-bit bzImage: an x86-64 kernel "
				       "is needed");
	layout->kernel_at = (uint64_t)(sects + 1) * SECTOR;
	if (layout->kernel_at >= src->bytes ||
	    wanted > src->bytes - layout->kernel_at + 15)
		return kimage_bad(
			src,
			"is truncated: its header promises %llu KiB, "
			"the file has %llu",
			(unsigned long long)(layout->kernel_at + wanted) / KIB,
			(unsigned long long)(src->bytes / KIB));
	layout->kernel_bytes = min_u64(wanted, src->bytes - layout->kernel_at);
	if (layout->kernel_bytes <= ENTRY_64_OFFSET ||
	    !range_fits(hdr->payload_offset, hdr->payload_length,
			layout->kernel_bytes))
		return kimage_bad(src, "has a payload outside of the file");
	layout->payload_at = layout->kernel_at + hdr->payload_offset;
	return 0;
}

static int payload_is_gzip(const struct kimage_source *src,
			   const struct layout *layout)
{
	uint8_t magic[2];
	int r;

	if (layout->hdr.payload_length < sizeof(magic))
		return 0;
	r = kimage_read(src, magic, sizeof(magic), layout->payload_at);
	if (r < 0)
		return r;
	return magic[0] == 0x1f && magic[1] == 0x8b;
}

/*
 * Where the kernel wants to be, so that its decompressor need not move it; that
 * works in place and needs init_size bytes from there on.
 */
static int load_raw(struct kimage *image, const struct kimage_source *src,
		    const struct layout *layout, const struct mem *mem)
{
	const struct setup_header *hdr = &layout->hdr;
	const uint64_t span = hdr->init_size > layout->kernel_bytes
				      ? hdr->init_size
				      : layout->kernel_bytes;
	const uint64_t align = hdr->kernel_alignment;
	uint8_t *host;
	int r;

	if (align & (align - 1) || (align && hdr->pref_address % align))
		return kimage_bad(src,
				  "prefers address 0x%llx, which does not have "
				  "its own alignment of 0x%llx",
				  (unsigned long long)hdr->pref_address,
				  (unsigned long long)align);
	r = kimage_place(src, mem, hdr->pref_address, span, &host);
	if (r < 0)
		return r;
	r = kimage_read(src, host, layout->kernel_bytes, layout->kernel_at);
	if (r < 0)
		return r;
	image->start = hdr->pref_address;
	image->end = hdr->pref_address + span;
	image->entry = hdr->pref_address + ENTRY_64_OFFSET;
	image->kind = "bzImage";
	return 0;
}

/*
 * The payload is the stripped vmlinux; relocations and its size may follow, of
 * no use to a kernel that is loaded where it was linked to be.
 */
static int load_inflated(struct kimage *image, const struct kimage_source *src,
			 const struct layout *layout, enum config_entry want,
			 const struct mem *mem)
{
	struct kimage_source payload = *src;

	payload.bytes = layout->payload_at + layout->hdr.payload_length;
	image->kind = "bzImage, gzip payload inflated";
	return kimage_load_gzip(image, &payload, layout->payload_at, want, mem);
}

int kimage_load_bzimage(struct kimage *image, const struct kimage_source *src,
			enum config_entry want, const struct mem *mem)
{
	struct layout layout;
	int r = copy_header(image, src, &layout.hdr);

	if (r < 0)
		return r;
	r = check_layout(src, &layout);
	if (r < 0)
		return r;
	r = payload_is_gzip(src, &layout);
	if (r < 0)
		return r;
	if (r > 0)
		return load_inflated(image, src, &layout, want, mem);
	if (want == CONFIG_ENTRY_PVH)
		return kimage_bad(src,
				  "has no PVH entry outside of its "
				  "compressed payload: use the vmlinux, or "
				  "a kernel with CONFIG_KERNEL_GZIP");
	return load_raw(image, src, &layout, mem);
}
