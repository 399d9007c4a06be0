/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel images made by hand: what loads, where it lands, what is refused. */
#include "vmm/kernel/kimage.h"
#include "vmm/base/util.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

#include <cmocka.h>

#define RAM_BYTES (64 * MIB)
#define TEXT_GPA  (16 * MIB)
#define DATA_GPA  (20 * MIB)
#define TEXT_AT   0x1000
#define DATA_AT   0x3000
#define NOTE_AT   0x2000
#define TEXT_SIZE 0x1400
#define DATA_SIZE 0x200
#define DATA_MEM  0x9000
#define ELF_BYTES (DATA_AT + DATA_SIZE)
#define UPPER     UINT64_C(0xffffffff80000000)
#define PVH_ENTRY (TEXT_GPA + 0x40)

/* A Linux-like vmlinux: text, data with BSS, and the notes within the text. */
struct elf {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[3];
	uint8_t rest[ELF_BYTES - sizeof(Elf64_Ehdr) - 3 * sizeof(Elf64_Phdr)];
};
_Static_assert(sizeof(struct elf) == ELF_BYTES, "no padding");

static void put_note(struct elf *elf, uint32_t descsz, uint32_t type)
{
	const Elf64_Nhdr other = {4, 8, 1}, nh = {4, descsz, type};
	const uint64_t entry = PVH_ENTRY;
	uint8_t *at = (uint8_t *)elf + NOTE_AT;

	memcpy(at, &other, sizeof(other));
	memcpy(at + 12, "GNU", 4);
	memset(at + 16, 0xff, 8);
	memcpy(at + 24, &nh, sizeof(nh));
	memcpy(at + 36, "Xen", 4);
	memcpy(at + 40, &entry, sizeof(entry));
	elf->ph[2].p_filesz = 40 + descsz;
}

static void make_elf(struct elf *elf)
{
	uint8_t *bytes = (uint8_t *)elf;

	memset(elf, 0, sizeof(*elf));
	for (unsigned i = TEXT_AT; i < ELF_BYTES; i++)
		bytes[i] = (uint8_t)(i * 7 + (i >> 8));
	elf->eh = (Elf64_Ehdr){
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB,
			    EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = TEXT_GPA + 0x123,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 3,
	};
	elf->ph[0] =
		(Elf64_Phdr){PT_LOAD,  PF_R | PF_X, TEXT_AT,   UPPER + TEXT_GPA,
			     TEXT_GPA, TEXT_SIZE,   TEXT_SIZE, 0x1000};
	elf->ph[1] =
		(Elf64_Phdr){PT_LOAD,  PF_R | PF_W, DATA_AT,  UPPER + DATA_GPA,
			     DATA_GPA, DATA_SIZE,   DATA_MEM, 0x1000};
	elf->ph[2] = (Elf64_Phdr){PT_NOTE, PF_R, NOTE_AT, 0, 0, 0, 0, 4};
	put_note(elf, 4, 18);
}

/* GZ has room for MAX bytes; the size used. */
static size_t compress_to(uint8_t *gz, size_t max, const void *data,
			  size_t bytes)
{
	z_stream z = {.next_in = (Bytef *)(uintptr_t)data,
		      .avail_in = (uInt)bytes,
		      .next_out = gz,
		      .avail_out = (uInt)max};

	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8,
				      Z_DEFAULT_STRATEGY),
			 Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return max - z.avail_out;
}

#define BZ_SETUP_SECTS 3
#define BZ_KERNEL_AT   ((BZ_SETUP_SECTS + 1) * 512)
#define BZ_PAYLOAD_OFF 0x400
#define BZ_BYTES       (BZ_KERNEL_AT + 0x4000)

struct bzimage {
	uint8_t before[0x1f1];
	struct setup_header hdr;
	uint8_t rest[BZ_BYTES - 0x1f1 - sizeof(struct setup_header)];
};
_Static_assert(sizeof(struct bzimage) == BZ_BYTES, "no padding");

/* With PAYLOAD at its place. */
static void make_bzimage(struct bzimage *bz, const void *payload, size_t bytes)
{
	memset(bz, 0xa5, sizeof(*bz));
	assert_true(bytes <= 0x4000 - BZ_PAYLOAD_OFF);
	memcpy((uint8_t *)bz + BZ_KERNEL_AT + BZ_PAYLOAD_OFF, payload, bytes);
	bz->hdr = (struct setup_header){
		.setup_sects = BZ_SETUP_SECTS,
		.syssize = 0x400,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb, /* the header ends at 0x202 + 0x6a */
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.payload_offset = BZ_PAYLOAD_OFF,
		.payload_length = (uint32_t)bytes,
		.cmdline_size = 2047,
		.pref_address = TEXT_GPA,
		.init_size = 0x800000,
	};
}

static struct mem *ram(void **state)
{
	return *state;
}

static int setup(void **state)
{
	static const struct mem_options options;
	struct mem *mem = calloc(1, sizeof(*mem));

	*state = mem;
	return mem ? mem_init(mem, RAM_BYTES, &options) : -1;
}

static int teardown(void **state)
{
	mem_done(*state);
	free(*state);
	return 0;
}

static void assert_elf_loaded(const struct elf *elf, const struct mem *mem)
{
	const uint8_t *bytes = (const uint8_t *)elf;
	uint8_t *data = mem_at(mem, DATA_GPA, DATA_MEM);

	assert_memory_equal(mem_at(mem, TEXT_GPA, TEXT_SIZE), bytes + TEXT_AT,
			    TEXT_SIZE);
	assert_memory_equal(data, bytes + DATA_AT, DATA_SIZE);
	for (unsigned i = DATA_SIZE; i < DATA_MEM; i++)
		assert_int_equal(data[i], 0);
}

static void assert_linux_entry(const struct kimage *image)
{
	assert_false(image->pvh);
	assert_int_equal(image->entry, TEXT_GPA + 0x123);
	assert_int_equal(image->start, TEXT_GPA);
	assert_int_equal(image->end, DATA_GPA + DATA_MEM);
}

static void test_elf_loads(void **state)
{
	struct elf elf;
	struct kimage image;

	make_elf(&elf);
	assert_int_equal(kimage_load_bytes(&image, &elf, sizeof(elf),
					   CONFIG_ENTRY_AUTO, ram(state)),
			 0);
	assert_elf_loaded(&elf, ram(state));
	assert_linux_entry(&image);
	assert_int_equal(image.header_bytes, 0);
	assert_string_equal(image.kind, "ELF");
}

static int load(const void *data, size_t bytes, enum config_entry want,
		void **state, struct kimage *image)
{
	return kimage_load_bytes(image, data, bytes, want, ram(state));
}

static void test_pvh_on_request(void **state)
{
	struct elf elf;
	struct kimage image;

	make_elf(&elf);
	for (uint32_t descsz = 4; descsz <= 8; descsz += 4) {
		put_note(&elf, descsz, 18);
		assert_int_equal(load(&elf, sizeof(elf), CONFIG_ENTRY_PVH,
				      state, &image),
				 0);
		assert_true(image.pvh);
		assert_int_equal(image.entry, PVH_ENTRY);
	}
}

/* A kernel whose e_entry is no physical address is entered by PVH. */
static void test_pvh_when_not_linux(void **state)
{
	struct elf elf;
	struct kimage image;

	make_elf(&elf);
	elf.eh.e_entry = UPPER + TEXT_GPA;
	assert_int_equal(
		load(&elf, sizeof(elf), CONFIG_ENTRY_AUTO, state, &image), 0);
	assert_true(image.pvh);

	make_elf(&elf); /* linked where it is loaded */
	elf.ph[0].p_vaddr = elf.ph[0].p_paddr;
	assert_int_equal(
		load(&elf, sizeof(elf), CONFIG_ENTRY_AUTO, state, &image), 0);
	assert_true(image.pvh);
	assert_int_equal(
		load(&elf, sizeof(elf), CONFIG_ENTRY_LINUX, state, &image), 0);
	assert_false(image.pvh);
}

static void test_pvh_refused(void **state)
{
	static const uint64_t outside = TEXT_GPA - 1;
	struct elf elf;
	struct kimage image;

	make_elf(&elf);
	put_note(&elf, 4, 17); /* another note of Xen's */
	assert_int_equal(
		load(&elf, sizeof(elf), CONFIG_ENTRY_PVH, state, &image),
		-EINVAL);
	put_note(&elf, 2, 18);
	assert_int_equal(
		load(&elf, sizeof(elf), CONFIG_ENTRY_PVH, state, &image),
		-EINVAL);
	put_note(&elf, 4, 18);
	memcpy((uint8_t *)&elf + NOTE_AT + 40, &outside, 4);
	assert_int_equal(
		load(&elf, sizeof(elf), CONFIG_ENTRY_PVH, state, &image),
		-EINVAL);
	elf.ph[2].p_filesz = 41; /* the descriptor does not fit any more */
	assert_int_equal(
		load(&elf, sizeof(elf), CONFIG_ENTRY_PVH, state, &image),
		-EINVAL);
}

/* One field of a good file made bad. */
struct mutation {
	size_t offset, bytes;
	uint64_t value;
	int result;
};

#define EH(field, value, result)                                               \
	{                                                                      \
		offsetof(struct elf, eh.field),                                \
			sizeof(((struct elf *)NULL)->eh.field), value, result  \
	}
#define PH(i, field, value, result)                                            \
	{                                                                      \
		offsetof(struct elf, ph[i].field),                             \
			sizeof(((struct elf *)NULL)->ph[i].field), value,      \
			result                                                 \
	}
#define BZ(field, value, result)                                               \
	{                                                                      \
		offsetof(struct bzimage, hdr.field),                           \
			sizeof(((struct bzimage *)NULL)->hdr.field), value,    \
			result                                                 \
	}

static const struct mutation elf_mutations[] = {
	EH(e_ident[EI_CLASS], ELFCLASS32, -EINVAL),
	EH(e_ident[EI_DATA], ELFDATA2MSB, -EINVAL),
	EH(e_machine, EM_AARCH64, -EINVAL),
	EH(e_type, ET_REL, -EINVAL),
	EH(e_phentsize, 32, -EINVAL),
	EH(e_phnum, 0, -EINVAL),
	EH(e_phnum, 65, -EINVAL),
	EH(e_phnum, PN_XNUM, -EINVAL),
	EH(e_phoff, ELF_BYTES - 8, -EINVAL),
	EH(e_phoff, UINT64_MAX - 8, -EINVAL),
	EH(e_entry, 0, 0), /* PVH is left */
	PH(0, p_type, PT_NULL, -EINVAL),
	PH(0, p_flags, PF_R, 0),
	PH(0, p_offset, ELF_BYTES - TEXT_SIZE + 1, -EINVAL),
	PH(0, p_offset, UINT64_MAX - 8, -EINVAL),
	PH(0, p_filesz, TEXT_SIZE + 1, -EINVAL),
	PH(1, p_filesz, UINT64_MAX, -EINVAL),
	PH(0, p_paddr, MIB - 1, -EINVAL),
	PH(0, p_paddr, 0, -EINVAL),
	PH(0, p_paddr, UINT64_MAX - 8, -EINVAL),
	PH(0, p_paddr, 4 * GIB, -EINVAL),
	PH(0, p_paddr, RAM_BYTES - TEXT_SIZE + 1, -E2BIG),
	PH(1, p_paddr, TEXT_GPA + TEXT_SIZE - 1, -EINVAL),
	PH(1, p_memsz, UINT64_MAX, -EINVAL),
	PH(1, p_memsz, RAM_BYTES, -E2BIG),
	PH(2, p_offset, UINT64_MAX - 8, 0), /* the note is not needed */
	PH(2, p_filesz, UINT64_MAX, 0),
	PH(2, p_filesz, 8192, 0),
};

static void mutate(void *file, const struct mutation *m)
{
	memcpy((uint8_t *)file + m->offset, &m->value, m->bytes);
}

static void test_elf_malformed(void **state)
{
	struct elf elf;
	struct kimage image;

	for (unsigned i = 0; i < ARRAY_LEN(elf_mutations); i++) {
		make_elf(&elf);
		mutate(&elf, &elf_mutations[i]);
		if (load(&elf, sizeof(elf), CONFIG_ENTRY_AUTO, state, &image) !=
		    elf_mutations[i].result)
			fail_msg("mutation %u", i);
	}
}

static void test_elf_truncated(void **state)
{
	struct elf elf;
	struct kimage image;

	make_elf(&elf);
	for (size_t len = 0; len < sizeof(elf); len += 13)
		assert_int_equal(
			load(&elf, len, CONFIG_ENTRY_AUTO, state, &image),
			-EINVAL);
}

static void test_gzip_loads(void **state)
{
	struct elf elf;
	struct kimage image;
	uint8_t gz[2 * ELF_BYTES];
	size_t bytes;

	make_elf(&elf);
	bytes = compress_to(gz, sizeof(gz), &elf, sizeof(elf));
	memset(gz + bytes, 0xee, 64); /* what follows the stream is ignored */
	assert_int_equal(load(gz, bytes + 64, CONFIG_ENTRY_AUTO, state, &image),
			 0);
	assert_elf_loaded(&elf, ram(state));
	assert_linux_entry(&image);
	assert_int_equal(load(gz, bytes, CONFIG_ENTRY_PVH, state, &image), 0);
	assert_int_equal(image.entry, PVH_ENTRY);
}

/* Segments in another order than in the file, sharing bytes of it. */
static void test_gzip_shared_bytes(void **state)
{
	struct elf elf;
	struct kimage image;
	uint8_t gz[2 * ELF_BYTES];
	size_t bytes;

	make_elf(&elf);
	elf.ph[0].p_offset = 0x2000;
	elf.ph[0].p_filesz = elf.ph[0].p_memsz = 0x1000;
	elf.ph[1].p_offset = 0x20; /* within the ELF header */
	elf.ph[1].p_filesz = elf.ph[1].p_memsz = 0x2fe0;
	bytes = compress_to(gz, sizeof(gz), &elf, sizeof(elf));
	assert_int_equal(load(gz, bytes, CONFIG_ENTRY_AUTO, state, &image), 0);
	assert_memory_equal(mem_at(ram(state), TEXT_GPA, 0x1000),
			    (uint8_t *)&elf + 0x2000, 0x1000);
	assert_memory_equal(mem_at(ram(state), DATA_GPA, 0x2fe0),
			    (uint8_t *)&elf + 0x20, 0x2fe0);
}

static void test_gzip_damaged(void **state)
{
	struct elf elf;
	struct kimage image;
	uint8_t gz[2 * ELF_BYTES];
	size_t bytes;

	make_elf(&elf);
	bytes = compress_to(gz, sizeof(gz), &elf, sizeof(elf));
	for (size_t len = 0; len < bytes; len += 7)
		assert_int_equal(
			load(gz, len, CONFIG_ENTRY_AUTO, state, &image),
			-EINVAL);
	gz[bytes - 6] ^= 1; /* of the checksum */
	assert_int_equal(load(gz, bytes, CONFIG_ENTRY_AUTO, state, &image),
			 -EINVAL);
}

/* A gap that would take hours to inflate is refused at once. */
static void test_gzip_far_segments(void **state)
{
	struct elf elf;
	struct kimage image;
	uint8_t gz[2 * ELF_BYTES];
	size_t bytes;

	make_elf(&elf);
	elf.ph[1].p_offset = UINT64_C(1) << 50;
	bytes = compress_to(gz, sizeof(gz), &elf, sizeof(elf));
	assert_int_equal(load(gz, bytes, CONFIG_ENTRY_AUTO, state, &image),
			 -EINVAL);
	bytes = compress_to(gz, sizeof(gz), "no ELF", 6);
	assert_int_equal(load(gz, bytes, CONFIG_ENTRY_AUTO, state, &image),
			 -EINVAL);
}

static void make_gzip_bzimage(struct bzimage *bz, struct elf *elf)
{
	uint8_t gz[2 * ELF_BYTES] = {0};
	size_t bytes;

	make_elf(elf);
	bytes = compress_to(gz, sizeof(gz), elf, sizeof(*elf));
	make_bzimage(bz, gz, bytes + 4); /* its size follows, as in Linux */
}

static void test_bzimage_inflated(void **state)
{
	struct bzimage bz;
	struct elf elf;
	struct kimage image;

	make_gzip_bzimage(&bz, &elf);
	assert_int_equal(
		load(&bz, sizeof(bz), CONFIG_ENTRY_AUTO, state, &image), 0);
	assert_elf_loaded(&elf, ram(state));
	assert_linux_entry(&image);
	assert_int_equal(image.header_bytes, 0x202 + 0x6a - 0x1f1);
	assert_memory_equal(image.setup_header, &bz.hdr, image.header_bytes);
	assert_int_equal(image.cmdline_max, 2047);
	assert_int_equal(load(&bz, sizeof(bz), CONFIG_ENTRY_PVH, state, &image),
			 0);
	assert_true(image.pvh);
}

/* The contents of a kernel's list of parameters, if it is found. */
static void test_takes(void **state)
{
	static const char list[] = "\0quiet\0xnopti\0root=";
	struct kimage image;
	struct elf elf;
	uint8_t *data = (uint8_t *)&elf + DATA_AT;

	make_elf(&elf);
	assert_int_equal(
		load(&elf, sizeof(elf), CONFIG_ENTRY_AUTO, state, &image), 0);
	assert_int_equal(image.cmdline_max, 2047);
	assert_true(kimage_takes(&image, ram(state), "nopti"));
	memcpy(data + DATA_SIZE - sizeof(list), list, sizeof(list));
	assert_int_equal(
		load(&elf, sizeof(elf), CONFIG_ENTRY_AUTO, state, &image), 0);
	assert_false(kimage_takes(&image, ram(state), "nopti"));
	assert_true(kimage_takes(&image, ram(state), "root="));
	assert_false(kimage_takes(&image, ram(state), "root"));
	/* Not in the list, but in the kernel, if only as the end of another. */
	assert_true(kimage_mentions(&image, ram(state), "nopti"));
	assert_false(kimage_mentions(&image, ram(state), "nopt"));
	memcpy(data, "\0nopti", sizeof("\0nopti"));
	assert_int_equal(
		load(&elf, sizeof(elf), CONFIG_ENTRY_AUTO, state, &image), 0);
	assert_true(kimage_takes(&image, ram(state), "nopti"));
}

static void test_bzimage_raw(void **state)
{
	struct bzimage bz;
	struct kimage image;

	make_bzimage(&bz, "\x02!L\x18", 4);
	assert_int_equal(
		load(&bz, sizeof(bz), CONFIG_ENTRY_AUTO, state, &image), 0);
	assert_false(image.pvh);
	assert_int_equal(image.entry, TEXT_GPA + 0x200);
	assert_int_equal(image.start, TEXT_GPA);
	assert_int_equal(image.end, TEXT_GPA + 0x800000);
	assert_memory_equal(mem_at(ram(state), TEXT_GPA, 0x4000),
			    (uint8_t *)&bz + BZ_KERNEL_AT, 0x4000);
	assert_int_equal(load(&bz, sizeof(bz), CONFIG_ENTRY_PVH, state, &image),
			 -EINVAL);
}

/* Before there was a field for it, the setup code had four sectors. */
static void test_bzimage_default_sectors(void **state)
{
	struct bzimage bz;
	struct kimage image;

	make_bzimage(&bz, "", 0);
	bz.hdr.setup_sects = 0;
	bz.hdr.syssize = 0x3e0;
	assert_int_equal(
		load(&bz, sizeof(bz), CONFIG_ENTRY_AUTO, state, &image), 0);
	assert_memory_equal(mem_at(ram(state), TEXT_GPA, 0x3e00),
			    (uint8_t *)&bz + 5 * 512, 0x3e00);
}

static const struct mutation bzimage_mutations[] = {
	BZ(header, 0, -EINVAL),
	BZ(boot_flag, 0, -EINVAL),
	BZ(jump, 0x10eb, -EINVAL),
	BZ(version, 0x020b, -EINVAL),
	BZ(xloadflags, 0, -EINVAL),
	BZ(setup_sects, 255, -EINVAL),
	BZ(syssize, 0x401, -EINVAL),
	BZ(syssize, UINT32_MAX, -EINVAL),
	BZ(syssize, 0, -EINVAL),
	BZ(payload_offset, 0x4000, -EINVAL),
	BZ(payload_offset, UINT32_MAX, -EINVAL),
	BZ(payload_length, UINT32_MAX, -EINVAL),
	BZ(kernel_alignment, 3, -EINVAL),
	BZ(kernel_alignment, 0x2000000, -EINVAL),
	BZ(pref_address, 0, -EINVAL),
	BZ(pref_address, 0x40000000, -E2BIG),
	BZ(pref_address, UINT64_MAX & ~UINT64_C(0x1fffff), -EINVAL),
	BZ(init_size, RAM_BYTES, -E2BIG),
	BZ(init_size, UINT32_MAX, -EINVAL),
};

static void test_bzimage_malformed(void **state)
{
	struct bzimage bz;
	struct kimage image;

	for (unsigned i = 0; i < ARRAY_LEN(bzimage_mutations); i++) {
		make_bzimage(&bz, "xyz", 3);
		mutate(&bz, &bzimage_mutations[i]);
		if (load(&bz, sizeof(bz), CONFIG_ENTRY_AUTO, state, &image) !=
		    bzimage_mutations[i].result)
			fail_msg("mutation %u", i);
	}
	make_bzimage(&bz, "xyz", 3);
	for (size_t len = 0; len < sizeof(bz) - 15; len += 97)
		assert_int_equal(
			load(&bz, len, CONFIG_ENTRY_AUTO, state, &image),
			-EINVAL);
}

static void test_unknown_kinds(void **state)
{
	static const char *const heads[] = {
		"\3757zXZ\0garbage",
		"\x28\xb5\x2f\xfd  ",
		"BZh91AY",
		"#!/bin",
		"\x7f",
		"MZ",
	};
	struct kimage image;

	for (unsigned i = 0; i < ARRAY_LEN(heads); i++)
		assert_int_equal(load(heads[i], strlen(heads[i]),
				      CONFIG_ENTRY_AUTO, state, &image),
				 -EINVAL);
}

/* A file in memory with BYTES of DATA, or of zeroes. */
static int make_file(const void *data, size_t bytes)
{
	int fd = memfd_create("test-image", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	if (data)
		assert_int_equal(util_write_all(fd, data, bytes), 0);
	return fd;
}

static void test_load_from_file(void **state)
{
	struct bzimage bz;
	struct elf elf;
	struct kimage image;
	autofd int fd = -1, bz_fd = -1, short_fd = -1;

	make_elf(&elf);
	fd = make_file(&elf, sizeof(elf));
	assert_int_equal(
		kimage_load(&image, fd, "elf", CONFIG_ENTRY_AUTO, ram(state)),
		0);
	assert_elf_loaded(&elf, ram(state));
	make_gzip_bzimage(&bz, &elf);
	bz_fd = make_file(&bz, sizeof(bz));
	assert_int_equal(
		kimage_load(&image, bz_fd, "bz", CONFIG_ENTRY_AUTO, ram(state)),
		0);
	short_fd = make_file(&elf, sizeof(elf) - 1);
	assert_int_equal(kimage_load(&image, short_fd, "short",
				     CONFIG_ENTRY_AUTO, ram(state)),
			 -EINVAL);
}

static void test_no_regular_file(void **state)
{
	struct kimage image;
	autofd int dir = open("/", O_RDONLY | O_CLOEXEC);
	autofd int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	autofd int empty = make_file(NULL, 0);
	const int fds[] = {dir, null, empty};
	uint64_t bytes;
	gpa_t gpa;

	for (unsigned i = 0; i < ARRAY_LEN(fds); i++) {
		assert_int_equal(kimage_load(&image, fds[i], "odd",
					     CONFIG_ENTRY_AUTO, ram(state)),
				 -EINVAL);
		assert_int_equal(kimage_load_initrd(fds[i], "odd", ram(state),
						    TEXT_GPA, 4 * GIB, &gpa,
						    &bytes),
				 -EINVAL);
	}
}

static void test_initrd_place(void **state)
{
	static const char text[] = "070701 and so on";
	autofd int fd = make_file(text, sizeof(text));
	autofd int large = make_file(NULL, 40 * MIB);
	uint64_t bytes;
	gpa_t gpa;

	assert_int_equal(kimage_load_initrd(fd, "initrd", ram(state), TEXT_GPA,
					    0x7fffffff, &gpa, &bytes),
			 0);
	assert_int_equal(bytes, sizeof(text));
	assert_int_equal(gpa, RAM_BYTES - 4096);
	assert_memory_equal(mem_at(ram(state), gpa, bytes), text, bytes);
	assert_int_equal(kimage_load_initrd(fd, "initrd", ram(state), TEXT_GPA,
					    32 * MIB - 1, &gpa, &bytes),
			 0);
	assert_int_equal(gpa, 32 * MIB - 4096);
	assert_int_equal(kimage_load_initrd(large, "initrd", ram(state),
					    24 * MIB, 0x7fffffff, &gpa, &bytes),
			 0);
	assert_int_equal(gpa, 24 * MIB);
	assert_int_equal(kimage_load_initrd(large, "initrd", ram(state),
					    24 * MIB + 1, 0x7fffffff, &gpa,
					    &bytes),
			 -E2BIG);
	assert_int_equal(kimage_load_initrd(large, "initrd", ram(state),
					    24 * MIB, 48 * MIB, &gpa, &bytes),
			 -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_elf_loads, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_pvh_on_request, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_pvh_when_not_linux, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_pvh_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_elf_malformed, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_elf_truncated, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_gzip_loads, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_gzip_shared_bytes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_gzip_damaged, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_gzip_far_segments, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_bzimage_inflated, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_takes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bzimage_raw, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_bzimage_default_sectors,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_bzimage_malformed, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_unknown_kinds, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_load_from_file, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_no_regular_file, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_initrd_place, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
