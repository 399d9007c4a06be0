/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF kernels: which bytes go where, and at which address the guest enters. The
 * plan is made and checked in full before a byte of it is carried out, so that
 * the same plan serves a plain file and a compressed stream.
 */
#include "vmm/kernel/kimage-parts.h"
#include "vmm/base/util.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

/* Xen's elfnote.h: the 32-bit physical entry, owner "Xen". */
#define NOTE_PHYS32_ENTRY 18
#define NOTE_OWNER        "Xen"

#define UPPER_HALF (UINT64_C(1) << 63)

static int check_header(const struct kimage_source *src, const Elf64_Ehdr *eh)
{
	if (eh->e_ident[EI_CLASS] != ELFCLASS64)
		return kimage_bad(src, "is not a 64-bit ELF file: only x86-64 "
				       "kernels can be started");
	if (eh->e_ident[EI_DATA] != ELFDATA2LSB ||
	    eh->e_ident[EI_VERSION] != EV_CURRENT)
		return kimage_bad(src, "has a malformed ELF header");
	if (eh->e_machine != EM_X86_64)
		return kimage_bad(src,
				  "is for another processor (ELF machine %u): "
				  "an x86-64 kernel is needed",
				  eh->e_machine);
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return kimage_bad(src,
				  "is no executable (ELF type %u): the vmlinux "
				  "that the last link step makes is needed",
				  eh->e_type);
	if (eh->e_phentsize != sizeof(Elf64_Phdr) || eh->e_phnum == 0)
		return kimage_bad(src, "has no usable program headers");
	if (eh->e_phnum > ELF_SEGMENTS_MAX)
		return kimage_bad(src,
				  "has %u program headers: at most %u are "
				  "supported",
				  eh->e_phnum, ELF_SEGMENTS_MAX);
	return 0;
}

static void add_piece(struct elf_plan *plan, const Elf64_Phdr *ph,
		      uint8_t *dest)
{
	if (ph->p_filesz == 0)
		return;
	plan->piece[plan->npieces++] = (struct elf_piece){
		.offset = ph->p_offset,
		.bytes = ph->p_filesz,
		.dest = dest,
	};
	if (ph->p_offset + ph->p_filesz > plan->file_end)
		plan->file_end = ph->p_offset + ph->p_filesz;
}

static int plan_load(struct elf_plan *plan, const struct kimage_source *src,
		     const Elf64_Phdr *ph, const struct mem *mem)
{
	const gpa_t base = ph->p_paddr;
	uint8_t *dest;
	int r;

	if (ph->p_memsz == 0 && ph->p_filesz == 0)
		return 0;
	if (ph->p_filesz > ph->p_memsz ||
	    ph->p_filesz > UINT64_MAX - ph->p_offset)
		return kimage_bad(src,
				  "has a segment whose size is impossible");
	r = kimage_place(src, mem, base, ph->p_memsz, &dest);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < plan->nsegments; i++) {
		const struct elf_segment *other = &plan->segment[i];

		if (base < other->base + other->bytes &&
		    other->base < base + ph->p_memsz)
			return kimage_bad(src,
					  "has segments that overlap in memory "
					  "at 0x%llx",
					  (unsigned long long)base);
	}
	plan->segment[plan->nsegments++] = (struct elf_segment){
		.base = base,
		.bytes = ph->p_memsz,
		.file_bytes = ph->p_filesz,
		.vaddr = ph->p_vaddr,
		.executable = ph->p_flags & PF_X,
	};
	plan->start = min_u64(plan->start, base);
	if (base + ph->p_memsz > plan->end)
		plan->end = base + ph->p_memsz;
	add_piece(plan, ph, dest);
	return 0;
}

/*
 * Notes too large for the buffer are passed over: real ones take a few hundred
 * bytes, and a kernel without PVH does not need them.
 */
static void plan_note(struct elf_plan *plan, const Elf64_Phdr *ph)
{
	const unsigned at = (unsigned)align_up(plan->nnotes, 4);

	if (ph->p_filesz > UINT64_MAX - ph->p_offset || at > ELF_NOTES_MAX ||
	    ph->p_filesz > ELF_NOTES_MAX - at)
		return;
	add_piece(plan, ph, plan->notes + at);
	plan->nnotes = at + (unsigned)ph->p_filesz;
}

int kimage_elf_plan(struct elf_plan *plan, const struct kimage_source *src,
		    const uint8_t *head, size_t head_bytes,
		    const struct mem *mem)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	int r;

	*plan = (struct elf_plan){.start = UINT64_MAX};
	if (head_bytes < sizeof(eh))
		return kimage_bad(src,
				  "ends within its ELF header: the file is "
				  "truncated");
	memcpy(&eh, head, sizeof(eh));
	r = check_header(src, &eh);
	if (r < 0)
		return r;
	if (!range_fits(eh.e_phoff, eh.e_phnum * sizeof(ph), head_bytes))
		return kimage_bad(src,
				  "has no program headers within its first "
				  "%u bytes: it is truncated or malformed",
				  ELF_HEAD_BYTES);
	plan->entry = eh.e_entry;
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		memcpy(&ph, head + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_LOAD) {
			r = plan_load(plan, src, &ph, mem);
			if (r < 0)
				return r;
		} else if (ph.p_type == PT_NOTE) {
			plan_note(plan, &ph);
		}
	}
	if (plan->nsegments == 0)
		return kimage_bad(src, "has nothing to load");
	return 0;
}

/*
 * The entry that a PVH note gives, a word of 4 or 8 bytes. Name and descriptor
 * are each padded to 4 bytes (ELF gABI, "Note Section").
 */
static bool find_pvh_entry(const struct elf_plan *plan, uint64_t *ret_entry)
{
	size_t at = 0;

	while (range_fits(at, sizeof(Elf64_Nhdr), plan->nnotes)) {
		Elf64_Nhdr nh;
		uint64_t name_at, desc_at, value = 0;

		memcpy(&nh, plan->notes + at, sizeof(nh));
		name_at = at + sizeof(nh);
		desc_at = name_at + align_up(nh.n_namesz, 4);
		if (!range_fits(desc_at, nh.n_descsz, plan->nnotes))
			return false;
		if (nh.n_type == NOTE_PHYS32_ENTRY &&
		    nh.n_namesz == sizeof(NOTE_OWNER) &&
		    memcmp(plan->notes + name_at, NOTE_OWNER,
			   sizeof(NOTE_OWNER)) == 0 &&
		    (nh.n_descsz == 4 || nh.n_descsz == 8)) {
			memcpy(&value, plan->notes + desc_at, nh.n_descsz);
			*ret_entry = value;
			return true;
		}
		at = desc_at + align_up(nh.n_descsz, 4);
	}
	return false;
}

static const struct elf_segment *segment_at(const struct elf_plan *plan,
					    uint64_t address)
{
	for (unsigned i = 0; i < plan->nsegments; i++) {
		const struct elf_segment *s = &plan->segment[i];

		if (address >= s->base && address - s->base < s->bytes)
			return s;
	}
	return NULL;
}

/*
 * Linux is linked to run in the upper half and gives a physical e_entry. Other
 * kernels with a PVH note expect something else there, or nothing.
 */
static bool looks_like_linux(const struct elf_plan *plan)
{
	const struct elf_segment *s = segment_at(plan, plan->entry);

	return s && s->executable && s->vaddr >= UPPER_HALF &&
	       s->vaddr != s->base;
}

static void note_init(const struct elf_plan *plan, struct kimage *image)
{
	for (unsigned i = 0; i < plan->nsegments; i++) {
		const struct elf_segment *s = &plan->segment[i];

		if (s->base < image->init)
			continue;
		image->init = s->base;
		image->init_bytes = s->file_bytes;
	}
}

int kimage_elf_finish(const struct elf_plan *plan,
		      const struct kimage_source *src, enum config_entry want,
		      struct kimage *image)
{
	const struct elf_segment *s = segment_at(plan, plan->entry);
	uint64_t pvh_entry = 0;
	const bool has_pvh = find_pvh_entry(plan, &pvh_entry);

	image->start = plan->start;
	image->end = plan->end;
	note_init(plan, image);
	image->pvh = want == CONFIG_ENTRY_PVH ||
		     (want == CONFIG_ENTRY_AUTO && !looks_like_linux(plan) &&
		      has_pvh);
	if (image->pvh && !has_pvh)
		return kimage_bad(src, "has no PVH entry (ELF note Xen, type "
				       "18): use --entry linux, or a kernel "
				       "with CONFIG_PVH");
	if (image->pvh && !segment_at(plan, pvh_entry))
		return kimage_bad(src,
				  "has its PVH entry 0x%llx outside of what it "
				  "loads",
				  (unsigned long long)pvh_entry);
	if (!image->pvh && want == CONFIG_ENTRY_AUTO && !looks_like_linux(plan))
		return kimage_bad(src,
				  "is neither a Linux vmlinux nor has it a "
				  "PVH entry");
	if (!image->pvh && (!s || !s->executable))
		return kimage_bad(src,
				  "has its entry 0x%llx outside of the code it "
				  "loads",
				  (unsigned long long)plan->entry);
	image->entry = image->pvh ? pvh_entry : plan->entry;
	return 0;
}

/* Straight from the file into RAM, in one read a segment. */
static int read_pieces(const struct elf_plan *plan,
		       const struct kimage_source *src)
{
	if (plan->file_end > src->bytes)
		return kimage_bad(src,
				  "is truncated: its segments end at %llu KiB, "
				  "the file at %llu",
				  (unsigned long long)(plan->file_end / KIB),
				  (unsigned long long)(src->bytes / KIB));
	for (unsigned i = 0; i < plan->npieces; i++) {
		const struct elf_piece *piece = &plan->piece[i];
		int r = kimage_read(src, piece->dest, piece->bytes,
				    piece->offset);

		if (r < 0)
			return r;
	}
	return 0;
}

int kimage_load_elf(struct kimage *image, const struct kimage_source *src,
		    enum config_entry want, const struct mem *mem)
{
	uint8_t head[ELF_HEAD_BYTES];
	const size_t head_bytes = min_u64(src->bytes, sizeof(head));
	struct elf_plan plan;
	int r = kimage_read(src, head, head_bytes, 0);

	if (r < 0)
		return r;
	r = kimage_elf_plan(&plan, src, head, head_bytes, mem);
	if (r < 0)
		return r;
	r = read_pieces(&plan, src);
	if (r < 0)
		return r;
	return kimage_elf_finish(&plan, src, want, image);
}
