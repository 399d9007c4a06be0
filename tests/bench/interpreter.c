/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: interpreter VMLINUX [WORKLOAD...]
 *
 * Nanoseconds an instruction in the interpreter of hosts without hardware
 * virtualization, measured without KVM: functions of the guest kernel VMLINUX,
 * found by the System.map beside it, run in RAM of this program's own, and two
 * programs made here. In one go, and in parts on a budget that is enough for
 * some 200 instructions, as between two that are left to KVM. Then how long a
 * guest can have a vCPU's whole budget take, by code that costs the interpreter
 * most.
 */
#include "vmm/base/mem.h"
#include "vmm/base/util.h"
#include "vmm/pvm/interp.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>
#include <zlib.h>

#define RAM_BYTES (UINT64_C(128) * MIB)
#define PAGE      UINT64_C(4096)

/* Where things lie in RAM, above the kernel. */
#define TABLES   UINT64_C(0x3000000)
#define PER_CPU  UINT64_C(0x3100000) /* GS base: zeroes */
#define STACK    UINT64_C(0x3210000) /* its end */
#define DATA     UINT64_C(0x3400000)
#define PAGES    UINT64_C(0x5000000) /* mapped by 4 KiB at PAGES_VA */
#define PROGRAMS UINT64_C(0x6000000)

/* Linux's map of all RAM, and an address in its vmalloc area. */
#define DIRECT   UINT64_C(0xffff888000000000)
#define PAGES_VA UINT64_C(0xffffc90000000000)
#define KERNEL   UINT64_C(0xffffffff80000000)
#define NPAGES   4096u

#define ROUNDS 9

#define PART 350 /* of a budget */

struct guest {
	struct mem mem;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct interp *in;
	uint8_t *ram;
	char *map; /* System.map */
	struct symbol {
		const char *name;
		uint64_t va;
	} found[32];
	uint64_t seed;
	uint64_t slice; /* of a budget, in one go */
	uint64_t done;
	uint64_t ticks; /* that this took */
};

static void die(const char *what)
{
	fprintf(stderr, "interpreter: %s\n", what);
	exit(1);
}

static uint64_t rnd(struct guest *g)
{
	g->seed ^= g->seed << 13;
	g->seed ^= g->seed >> 7;
	g->seed ^= g->seed << 17;
	return g->seed;
}

/* ---- the guest ----------------------------------------------------------- */

static void *map_file(const char *path, size_t *ret_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *at;

	if (fd < 0 || fstat(fd, &st) < 0) {
		perror(path);
		exit(1);
	}
	at = mmap(NULL, (size_t)st.st_size + 1, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (at == MAP_FAILED)
		die("cannot map a file");
	*ret_bytes = (size_t)st.st_size;
	return at;
}

static void load_kernel(struct guest *g, const char *path)
{
	size_t bytes;
	const uint8_t *file = map_file(path, &bytes);
	const Elf64_Ehdr *head = (const Elf64_Ehdr *)file;
	const Elf64_Phdr *part = (const Elf64_Phdr *)(file + head->e_phoff);

	for (unsigned i = 0; i < head->e_phnum; i++) {
		if (part[i].p_type != PT_LOAD)
			continue;
		if (part[i].p_offset + part[i].p_filesz > bytes ||
		    part[i].p_paddr + part[i].p_memsz > TABLES)
			die("the kernel is too large");
		memcpy(g->ram + part[i].p_paddr, file + part[i].p_offset,
		       part[i].p_filesz);
	}
	munmap((void *)file, bytes + 1);
}

static void load_symbols(struct guest *g, const char *kernel)
{
	char path[4096];
	const char *slash = strrchr(kernel, '/');
	int dir = slash ? (int)(slash - kernel + 1) : 0;
	const char *file;
	size_t bytes;

	snprintf(path, sizeof(path), "%.*sSystem.map", dir, kernel);
	file = map_file(path, &bytes);
	g->map = malloc(bytes + 1);
	if (!g->map)
		die("out of memory");
	memcpy(g->map, file, bytes);
	g->map[bytes] = '\0';
	munmap((void *)file, bytes + 1);
}

/* "ffffffff81631910 T strcmp\n" */
static uint64_t look_up(const struct guest *g, const char *name)
{
	static const char types[] = {'T', 'W', 't'};
	const char *found = NULL;
	char line[64];

	for (unsigned i = 0; !found && i < sizeof(types); i++) {
		snprintf(line, sizeof(line), " %c %s\n", types[i], name);
		found = strstr(g->map, line);
	}
	if (!found || found - g->map < 16) {
		fprintf(stderr, "interpreter: System.map has no %s\n", name);
		exit(1);
	}
	return strtoull(found - 16, NULL, 16);
}

/* NAME is the same pointer each time. */
static uint64_t symbol(struct guest *g, const char *name)
{
	unsigned i = 0;

	while (g->found[i].name && g->found[i].name != name)
		i++;
	if (i + 1 == ARRAY_LEN(g->found))
		die("too many symbols");
	if (!g->found[i].name)
		g->found[i] = (struct symbol){name, look_up(g, name)};
	return g->found[i].va;
}

static uint64_t *table(struct guest *g, unsigned n)
{
	return (uint64_t *)(g->ram + TABLES + n * PAGE);
}

static void link_table(struct guest *g, unsigned from, uint64_t va,
		       unsigned shift, unsigned to)
{
	table(g, from)[va >> shift & 511] = (TABLES + to * PAGE) | 3;
}

/* RAM in pages of 2 MiB, as Linux has it, the kernel, and some of 4 KiB. */
static void make_tables(struct guest *g)
{
	const uint64_t large = 2 * MIB, present = 1, write = 2, size = 0x80;

	link_table(g, 0, DIRECT, 39, 1);
	link_table(g, 1, DIRECT, 30, 2);
	link_table(g, 0, KERNEL, 39, 3);
	link_table(g, 3, KERNEL, 30, 4);
	link_table(g, 0, PAGES_VA, 39, 5);
	link_table(g, 5, PAGES_VA, 30, 6);
	for (uint64_t at = 0; at < RAM_BYTES; at += large) {
		uint64_t entry = at | present | write | size;

		table(g, 2)[at / large] = entry;
		table(g, 4)[at / large] = entry;
	}
	for (unsigned i = 0; i < NPAGES; i++) {
		link_table(g, 6, PAGES_VA + i * PAGE, 21, 7 + i / 512);
		table(g, 7 + i / 512)[i % 512] =
			(PAGES + i * PAGE) | present | write;
	}
}

static uint64_t va(uint64_t gpa)
{
	return DIRECT + gpa;
}

static void *at(struct guest *g, uint64_t gpa)
{
	return g->ram + gpa;
}

static void make_guest(struct guest *g, const char *kernel)
{
	g->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->ram == MAP_FAILED)
		die("out of memory");
	g->mem.region[0] = (struct mem_region){0, RAM_BYTES, g->ram};
	g->mem.nregions = 1;
	g->mem.bytes = RAM_BYTES;
	load_kernel(g, kernel);
	load_symbols(g, kernel);
	make_tables(g);
	g->sregs.cr0 = UINT64_C(0x80050033);
	g->sregs.cr3 = TABLES;
	g->sregs.cr4 = UINT64_C(0x20);
	g->sregs.efer = 0xd01;
	g->sregs.cs.l = 1;
	g->sregs.gs.base = va(PER_CPU);
	g->seed = UINT64_C(0x9e3779b97f4a7c15);
	g->slice = UINT64_MAX;
	g->in = interp_new(&g->mem, NULL);
	if (!g->in)
		die("out of memory");
	*(uint8_t *)at(g, STACK) = 0xf4; /* HLT: where functions return to */
}

/* Calls FUNCTION with up to six arguments; its result. */
static uint64_t call(struct guest *g, uint64_t function, const uint64_t arg[6])
{
	const uint64_t back = va(STACK);
	uint64_t n, start;

	g->regs.rip = function;
	g->regs.rsp = va(STACK - 8);
	g->regs.rflags = 2;
	g->regs.rdi = arg[0];
	g->regs.rsi = arg[1];
	g->regs.rdx = arg[2];
	g->regs.rcx = arg[3];
	g->regs.r8 = arg[4];
	g->regs.r9 = arg[5];
	memcpy(at(g, STACK - 8), &back, sizeof(back));
	start = __rdtsc();
	while (g->regs.rip != back) {
		n = interp_run(g->in, &g->regs, &g->sregs, g->slice);
		g->done += n;
		if (n == 0) {
			fprintf(stderr, "interpreter: stops at 0x%llx\n",
				(unsigned long long)g->regs.rip);
			exit(1);
		}
	}
	g->ticks += __rdtsc() - start;
	return g->regs.rax;
}

#define CALL(g, name, ...)                                                     \
	call(g, symbol(g, name), (const uint64_t[6]){__VA_ARGS__})

/* ---- functions of the kernel --------------------------------------------- */

static void run_printf(struct guest *g)
{
	static const char format[] = "%-12s[%5d] %08lx %llu: %*pbl %s";
	/* __va_list_tag: no register is left, so all are on the stack. */
	struct {
		uint32_t gp, fp;
		uint64_t overflow, save;
	} list = {48, 304, va(DATA + 0x400), 0};
	uint64_t vsnprintf = symbol(g, "vsnprintf");

	memcpy(at(g, DATA), format, sizeof(format));
	memcpy(at(g, DATA + 0x100), "bulkhead", 9);
	memcpy(at(g, DATA + 0x200), "instructions", 13);
	*(uint64_t *)at(g, DATA + 0x280) = UINT64_C(0x00ff0f0f33335555);
	for (unsigned i = 0; i < 100; i++) {
		uint64_t args[] = {va(DATA + 0x100), i * 37, rnd(g),
				   rnd(g),           64,     va(DATA + 0x280),
				   va(DATA + 0x200)};

		memcpy(at(g, DATA + 0x300), &list, sizeof(list));
		memcpy(at(g, DATA + 0x400), args, sizeof(args));
		call(g, vsnprintf,
		     (const uint64_t[6]){va(DATA + 0x800), 1024, va(DATA),
					 va(DATA + 0x300)});
	}
}

static void run_sort(struct guest *g)
{
	const unsigned n = 2000;

	for (unsigned i = 0; i < 3 * n; i++)
		((uint32_t *)at(g, DATA))[i] = (uint32_t)rnd(g) >> 4;
	CALL(g, "sort", va(DATA), n, 12, symbol(g, "cmp_ex_sort"));
}

struct node {
	uint64_t parent, right, left, key;
};

/* Links node N where the tree's order has it, as a kernel's caller does. */
static void insert(struct guest *g, uint64_t root, uint64_t n)
{
	struct node *new = at(g, n);
	uint64_t parent = 0, *link = at(g, root);

	while (*link) {
		struct node *p = at(g, *link - DIRECT);

		parent = *link;
		link = new->key < p->key ? &p->left : &p->right;
	}
	new->parent = parent;
	new->left = new->right = 0;
	*link = va(n);
	CALL(g, "rb_insert_color", va(n), va(root));
}

static void run_tree(struct guest *g)
{
	const uint64_t spread = 320;
	const unsigned n = 3000;
	uint64_t next = symbol(g, "rb_next"), erase = symbol(g, "rb_erase");
	uint64_t leftmost = 0;

	*(uint64_t *)at(g, DATA) = 0;
	for (unsigned i = 1; i <= n; i++) {
		struct node *new = at(g, DATA + i * spread);

		new->key = rnd(g);
		insert(g, DATA, DATA + i * spread);
	}
	for (uint64_t v = *(uint64_t *)at(g, DATA); v;
	     v = ((struct node *)at(g, v - DIRECT))->left)
		leftmost = v;
	for (uint64_t v = leftmost; v;)
		v = call(g, next, (const uint64_t[6]){v});
	for (unsigned i = 1; i <= n; i++)
		call(g, erase,
		     (const uint64_t[6]){va(DATA + i * spread), va(DATA)});
}

static void run_hashes(struct guest *g)
{
	for (unsigned i = 0; i < 8192; i++)
		((uint64_t *)at(g, DATA))[i] = rnd(g);
	CALL(g, "sha256", va(DATA), 16384, va(DATA + 0x20000));
	CALL(g, "crc32_le", 0xffffffff, va(DATA), 65536);
	CALL(g, "xxh64", va(DATA), 65536, 0);
	CALL(g, "csum_partial", va(DATA), 65536, 0);
}

/* Raw deflate, as an initramfs has it but for the head. */
static size_t deflated(struct guest *g, uint64_t to, uint64_t from, size_t n)
{
	z_stream z = {0};

	if (deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		die("zlib");
	z.next_in = at(g, from);
	z.avail_in = (uInt)n;
	z.next_out = at(g, to);
	z.avail_out = (uInt)n;
	if (deflate(&z, Z_FINISH) != Z_STREAM_END)
		die("zlib");
	deflateEnd(&z);
	return z.total_out;
}

static void run_inflate(struct guest *g)
{
	struct { /* Linux's struct z_stream_s */
		uint64_t next_in, avail_in, total_in;
		uint64_t next_out, avail_out, total_out;
		uint64_t msg, state, workspace, type, adler, reserved;
	} z = {.workspace = va(DATA + 0x400000)};
	const size_t n = 256 * KIB;
	const uint64_t from = DATA + 0x10000, to = DATA + 0x100000;
	const uint64_t text = symbol(g, "vsnprintf") - KERNEL - 0x8000;

	z.next_in = va(from);
	z.avail_in = deflated(g, from, text, n);
	z.next_out = va(to);
	z.avail_out = n;
	memcpy(at(g, DATA), &z, sizeof(z));
	CALL(g, "zlib_inflateInit2", va(DATA), (uint64_t)-15);
	CALL(g, "zlib_inflate", va(DATA), 4);
	if (memcmp(at(g, to), at(g, text), n) != 0)
		die("zlib_inflate() made something else of it");
}

static void run_copies(struct guest *g)
{
	uint64_t copy = symbol(g, "memcpy"), fill = symbol(g, "memset");
	uint64_t move = symbol(g, "memmove");

	for (unsigned i = 0; i < 1500; i++) {
		uint64_t bits = rnd(g), n = bits & 7 ? bits >> 8 & 248 : 4096;
		uint64_t from = va(DATA + (bits >> 20 & 0xffff8));
		uint64_t to = va(DATA + 0x200000 + (bits >> 40 & 0xffff8));

		call(g, copy, (const uint64_t[6]){to, from, n});
		call(g, move, (const uint64_t[6]){to, to + 24, n});
		call(g, fill, (const uint64_t[6]){from, bits & 1, n});
	}
}

static void run_strings(struct guest *g)
{
	static const char cpus[] = "0-3,7,9-31,40-47,50,52,54,60-63";
	char *a = at(g, DATA), *b = at(g, DATA + 0x1000);

	for (unsigned i = 0; i < 200; i++) {
		unsigned n = 8 + rnd(g) % 100;

		for (unsigned k = 0; k < n; k++)
			a[k] = b[k] = (char)('a' + rnd(g) % 26);
		a[n] = b[n] = '\0';
		b[rnd(g) % n] = 'A';
		CALL(g, "strlen", va(DATA));
		CALL(g, "strcmp", va(DATA), va(DATA + 0x1000));
		CALL(g, "memcmp", va(DATA), va(DATA + 0x1000), n);
		CALL(g, "strstr", va(DATA), va(DATA + n - 3));
		CALL(g, "hex_dump_to_buffer", va(DATA), 32, 32, 4,
		     va(DATA + 0x2000), 256);
		memcpy(b, cpus, sizeof(cpus));
		CALL(g, "bitmap_parselist", va(DATA + 0x1000),
		     va(DATA + 0x3000), 64);
	}
}

/* A search by name, which unpacks names until it has it. */
static void run_symbols(struct guest *g)
{
	static const char *const names[] = {"vsnprintf", "schedule",
					    "kmem_cache_alloc_noprof",
					    "do_sys_openat2", "ip_rcv"};

	for (unsigned i = 0; i < 20 * ARRAY_LEN(names); i++) {
		const char *name = names[i % ARRAY_LEN(names)];

		memcpy(at(g, DATA), name, strlen(name) + 1);
		CALL(g, "kallsyms_lookup_name", va(DATA));
	}
}

/* ---- programs made here -------------------------------------------------- */

static void run_pages(struct guest *g)
{
	/* mov (%rdi), %rax; add %rax, 8(%rdi); add $4096, %rdi; dec; jnz */
	static const uint8_t code[] = {0x48, 0x8b, 0x07, 0x48, 0x01, 0x47, 8,
				       0x48, 0x81, 0xc7, 0,    0x10, 0,    0,
				       0x48, 0xff, 0xc9, 0x75, 0xed, 0xc3};

	memcpy(at(g, PROGRAMS), code, sizeof(code));
	call(g, va(PROGRAMS), (const uint64_t[6]){PAGES_VA, 0, 0, NPAGES});
}

#define FUNCTIONS 6000u
#define ROOM      512u /* bytes for a function */

/* Bytes of some instruction on RAX, RCX, RDX and memory at RDI. */
static unsigned some_code(uint64_t bits, uint8_t *to)
{
	static const uint8_t codes[][8] = {
		{3, 0x48, 0x01, 0xc8},             /* add %rcx, %rax */
		{3, 0x48, 0x89, 0xc2},             /* mov %rax, %rdx */
		{4, 0x48, 0x8b, 0x4f, 0x20},       /* mov x(%rdi), %rcx */
		{4, 0x48, 0x89, 0x47, 0x38},       /* mov %rax, x(%rdi) */
		{4, 0x48, 0x83, 0xc0, 0x11},       /* add $x, %rax */
		{5, 0x48, 0x8d, 0x54, 0x08, 0x05}, /* lea x(%rax,%rcx) */
		{3, 0x0f, 0xb6, 0xc9},             /* movzbl %cl, %ecx */
		{3, 0xc1, 0xea, 0x03},             /* shr $3, %edx */
		{2, 0x31, 0xd0},                   /* xor %edx, %eax */
		{7, 0x48, 0x85, 0xc0, 0x74, 2, 0x89, 0xca}, /* test; je */
		{7, 0x48, 0x39, 0xc8, 0x72, 2, 0x29, 0xc1}, /* cmp; jb */
		{4, 0x51, 0x90, 0x59, 0x90},                /* push, pop %rcx */
		{4, 0x80, 0x7f, 0x10, 0x40}, /* cmpb $x, x(%rdi) */
		{3, 0x83, 0xe1, 0x3f},       /* and $63, %ecx */
		{3, 0x8b, 0x57, 0x44},       /* mov x(%rdi), %edx */
	};
	const uint8_t *code = codes[bits % ARRAY_LEN(codes)];

	memcpy(to, code + 1, code[0]);
	return code[0];
}

/* More code than any cache has, each function called once a round. */
static void run_wide(struct guest *g)
{
	uint8_t *main = at(g, PROGRAMS + 0x1000);
	const uint64_t functions = PROGRAMS + 0x10000;

	for (unsigned i = 0; g->done == 0 && i < FUNCTIONS; i++) {
		uint64_t to = functions + (uint64_t)i * 7 % FUNCTIONS * ROOM;
		int32_t rel = (int32_t)(to - (PROGRAMS + 0x1000 + i * 5 + 5));
		uint8_t *code = at(g, to);
		unsigned len = 0;

		main[i * 5] = 0xe8;
		memcpy(main + i * 5 + 1, &rel, 4);
		main[i * 5 + 5] = 0xc3;
		for (unsigned k = 0; k < 40; k++)
			len += some_code(rnd(g) >> 8, code + len);
		code[len] = 0xc3;
	}
	call(g, va(PROGRAMS + 0x1000), (const uint64_t[6]){va(DATA)});
}

/* ---- hostile programs ---------------------------------------------------- */

#define BUDGET UINT64_C(100000) /* assist.c's */

/* Branches, each to the next: more behind one than is run of them. */
static void make_ahead(struct guest *g)
{
	uint8_t *code = at(g, PROGRAMS);

	for (uint64_t i = 0; i <= BUDGET; i++)
		memcpy(code + 2 * i, "\x72\x00", 2); /* jb 0 */
	g->regs.rip = va(PROGRAMS);
}

/* The same, and each lies on another page. */
static void make_spread(struct guest *g)
{
	for (uint64_t i = 0; i <= BUDGET; i++) {
		uint64_t from = i % NPAGES * PAGE + i / NPAGES * 6;
		uint64_t to = (i + 1) % NPAGES * PAGE + (i + 1) / NPAGES * 6;
		int32_t rel = (int32_t)(to - from - 6);

		memcpy(at(g, PAGES + from), "\x0f\x82", 2); /* jb */
		memcpy(at(g, PAGES + from + 2), &rel, 4);
	}
	g->regs.rip = PAGES_VA;
}

/* A pointer from page to page, followed by each instruction. */
static void make_chase(struct guest *g)
{
	uint8_t *code = at(g, PROGRAMS);

	for (uint64_t i = 0; i < NPAGES; i++) {
		uint64_t to = PAGES_VA + (i * 1021 + 1) % NPAGES * PAGE;

		memcpy(at(g, PAGES + i * PAGE), &to, 8);
	}
	for (unsigned i = 0; i < 20; i++)
		memcpy(code + i * 3, "\x48\x8b\x3f", 3); /* mov (%rdi), %rdi */
	memcpy(code + 60, "\xeb\xc2", 2);                /* jmp to the first */
	g->regs.rip = va(PROGRAMS);
	g->regs.rdi = PAGES_VA;
}

static void make_invlpg(struct guest *g)
{
	/* invlpg (%rdi); mov (%rdi), %rax; jmp to the first */
	static const uint8_t code[] = {0x0f, 0x01, 0x3f, 0x48,
				       0x8b, 0x07, 0xeb, 0xf8};

	memcpy(at(g, PROGRAMS), code, sizeof(code));
	g->regs.rip = va(PROGRAMS);
	g->regs.rdi = va(DATA);
}

/* Writes to the page that it lies on. */
static void make_written(struct guest *g)
{
	/* mov %al, 256(%rip); jmp to the first */
	static const uint8_t code[] = {0x88, 0x05, 0, 1, 0, 0, 0xeb, 0xf8};

	memcpy(at(g, PROGRAMS), code, sizeof(code));
	g->regs.rip = va(PROGRAMS);
}

/* Writes to each page before it runs a branch there. */
static void make_patched(struct guest *g)
{
	for (uint64_t i = 0; i < NPAGES; i++) {
		/* mov %al, 4352(%rip); jmp to the next page */
		static const uint8_t code[] = {0x88, 0x05, 0,    0x11, 0,   0,
					       0xe9, 0xf5, 0x0f, 0,    0x00};

		memcpy(at(g, PAGES + i * PAGE), code, sizeof(code));
	}
	/* The last one jumps to the first. */
	*(int32_t *)at(g, PAGES + (NPAGES - 1) * PAGE + 7) =
		-(int32_t)((NPAGES - 1) * PAGE + 11);
	*(int32_t *)at(g, PAGES + (NPAGES - 1) * PAGE + 2) = 256;
	g->regs.rip = PAGES_VA;
}

/* ---- measuring ----------------------------------------------------------- */

static const struct workload {
	const char *name;
	void (*run)(struct guest *g);
} workloads[] = {
	{"printf", run_printf},   {"sort", run_sort},
	{"tree", run_tree},       {"hashes", run_hashes},
	{"inflate", run_inflate}, {"copies", run_copies},
	{"strings", run_strings}, {"symbols", run_symbols},
	{"pages", run_pages},     {"wide", run_wide},
};

static const struct hostile {
	const char *name;
	void (*make)(struct guest *g);
} hostile[] = {
	{"ahead", make_ahead},     {"spread", make_spread},
	{"chase", make_chase},     {"invlpg", make_invlpg},
	{"written", make_written}, {"patched", make_patched},
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/*
 * The median of ROUNDS, each of 30 ms or more: the thread's time, less the part
 * in which no guest ran.
 */
static double measure(struct guest *g, const struct workload *w,
		      uint64_t *ret_done)
{
	double ns[ROUNDS];

	g->done = 0;
	w->run(g);
	*ret_done = g->done;
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t start_ticks = __rdtsc();
		double start = now(), end;

		g->done = 1;
		g->ticks = 0;
		do {
			w->run(g);
			end = now();
		} while (end - start < 30e6);
		ns[i] = (end - start) * (double)g->ticks /
			(double)(__rdtsc() - start_ticks) / (double)g->done;
	}
	qsort(ns, ROUNDS, sizeof(ns[0]), compare);
	return ns[ROUNDS / 2];
}

/* The median of ROUNDS, each of one budget by an interpreter without code. */
static double measure_hostile(struct guest *g, const struct hostile *h,
			      uint64_t *ret_done)
{
	double ns[ROUNDS];

	for (unsigned i = 0; i < ROUNDS; i++) {
		double start;

		interp_free(g->in);
		g->in = interp_new(&g->mem, NULL);
		if (!g->in)
			die("out of memory");
		g->regs = (struct kvm_regs){.rflags = 3}; /* CF */
		h->make(g);
		start = now();
		*ret_done = interp_run(g->in, &g->regs, &g->sregs, BUDGET);
		ns[i] = now() - start;
	}
	qsort(ns, ROUNDS, sizeof(ns[0]), compare);
	return ns[ROUNDS / 2];
}

static bool is_wanted(int argc, char **argv, const char *name)
{
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], name) == 0)
			return true;
	}
	return argc == 2;
}

static void measure_all_hostile(struct guest *g, int argc, char **argv)
{
	for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
		uint64_t done;
		double ns;

		if (!is_wanted(argc, argv, hostile[i].name))
			continue;
		ns = measure_hostile(g, &hostile[i], &done);
		printf("%-10s %12llu %8.1f   (ms for a budget of %llu)\n",
		       hostile[i].name, (unsigned long long)done, ns / 1e6,
		       (unsigned long long)BUDGET);
	}
}

int main(int argc, char **argv)
{
	static struct guest g;
	double sum[2] = {0};
	unsigned n = 0;

	if (argc < 2)
		die("usage: interpreter VMLINUX [WORKLOAD...]");
	make_guest(&g, argv[1]);
	printf("%-10s %12s %8s %14s   (ns an instruction)\n", "workload",
	       "instructions", "at once", "in parts");
	for (size_t i = 0; i < ARRAY_LEN(workloads); i++) {
		const struct workload *w = &workloads[i];
		double ns[2];
		uint64_t done;

		if (!is_wanted(argc, argv, w->name))
			continue;
		for (unsigned parts = 0; parts < 2; parts++) {
			g.slice = parts ? PART : UINT64_MAX;
			ns[parts] = measure(&g, w, &done);
			sum[parts] += ns[parts];
		}
		n++;
		printf("%-10s %12llu %8.1f %14.1f\n", w->name,
		       (unsigned long long)done, ns[0], ns[1]);
		fflush(stdout);
	}
	if (n > 1)
		printf("%-10s %12s %8.1f %14.1f\n", "mean", "", sum[0] / n,
		       sum[1] / n);
	measure_all_hostile(&g, argc, argv);
	return 0;
}
