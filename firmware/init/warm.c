/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The libraries are found without their loader, which is the image's program:
 * nothing of an image runs before its start. A library that is looked for at a
 * wrong place is read by the start itself, as it would be otherwise.
 */
#include "firmware/init/warm.h"

#include "vmm/base/util.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Larger files are not read whole by a start either. */
#define FILE_MAX  (16 * MIB)
#define ALL_MAX   (48 * MIB) /* the template keeps it */
#define READ_STEP (128 * KIB)

#define PARTS_MAX   32
#define ENTRIES_MAX 256 /* of a dynamic section */
#define FILES_MAX   64
#define NAME_ROOM   128
#define SCRIPT_ROOM 256 /* of a script's first line */

/* musl's and glibc's, the latter with Debian's and Fedora's directories. */
static const char *const places[] = {
	"/lib/x86_64-linux-gnu",
	"/usr/lib/x86_64-linux-gnu",
	"/lib64",
	"/usr/lib64",
	"/lib",
	"/usr/lib",
	"/usr/local/lib",
};

struct warm {
	int root;
	uint64_t left; /* bytes that may still be read */
	unsigned read; /* files */
	/* The libraries that were named, each once. */
	char name[FILES_MAX][NAME_ROOM];
	unsigned count;
};

struct elf {
	int fd;
	Elf64_Phdr part[PARTS_MAX];
	unsigned parts;
};

/* A descriptor of what was read, or -1. */
static int read_file(struct warm *w, const char *path)
{
	autofd int fd =
		util_open_regular(w->root, path, O_RDONLY,
				  RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	autofree char *data = malloc(READ_STEP);
	uint64_t bytes = 0;
	struct stat st;
	ssize_t n;

	if (fd < 0 || !data || fstat(fd, &st) < 0 ||
	    st.st_size > (off_t)FILE_MAX || (uint64_t)st.st_size > w->left)
		return -1;
	while (bytes <= FILE_MAX && (n = read(fd, data, READ_STEP)) > 0)
		bytes += (uint64_t)n;
	w->left -= min_u64(bytes, w->left);
	w->read++;
	return take_fd(&fd);
}

static void read_one(struct warm *w, const char *path)
{
	int fd = read_file(w, path);

	util_close(&fd);
}

/* ---- what an ELF file names */

static bool read_at(int fd, void *data, size_t bytes, uint64_t at)
{
	return at <= FILE_MAX &&
	       pread(fd, data, bytes, (off_t)at) == (ssize_t)bytes;
}

static bool elf_open(struct elf *elf, int fd)
{
	Elf64_Ehdr head;

	if (!read_at(fd, &head, sizeof(head), 0) ||
	    memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
	    head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    head.e_phentsize != sizeof(elf->part[0]) ||
	    head.e_phnum > PARTS_MAX)
		return false;
	elf->fd = fd;
	elf->parts = head.e_phnum;
	return read_at(fd, elf->part, elf->parts * sizeof(elf->part[0]),
		       head.e_phoff);
}

static const Elf64_Phdr *find_part(const struct elf *elf, uint32_t type)
{
	for (unsigned i = 0; i < elf->parts; i++) {
		if (elf->part[i].p_type == type)
			return &elf->part[i];
	}
	return NULL;
}

/* The text at AT of the file. False: there is none, or it is too long. */
static bool read_text(const struct elf *elf, uint64_t at, char *ret,
		      size_t room)
{
	const ssize_t n =
		at <= FILE_MAX ? pread(elf->fd, ret, room, (off_t)at) : -1;

	return n > 0 && ret[0] && memchr(ret, 0, (size_t)n);
}

/* Where the file has what is at ADDRESS when it is loaded. 0: nowhere. */
static uint64_t offset_of(const struct elf *elf, uint64_t address)
{
	for (unsigned i = 0; i < elf->parts; i++) {
		const Elf64_Phdr *part = &elf->part[i];

		if (part->p_type == PT_LOAD && address >= part->p_vaddr &&
		    address - part->p_vaddr < part->p_filesz)
			return part->p_offset + (address - part->p_vaddr);
	}
	return 0;
}

static void note(struct warm *w, const char *name)
{
	for (unsigned i = 0; i < w->count; i++) {
		if (strcmp(w->name[i], name) == 0)
			return;
	}
	if (w->count < FILES_MAX)
		strcpy(w->name[w->count++], name);
}

static void note_needed(struct warm *w, const struct elf *elf)
{
	const Elf64_Phdr *part = find_part(elf, PT_DYNAMIC);
	const size_t bytes =
		part ? min_u64(part->p_filesz, ENTRIES_MAX * sizeof(Elf64_Dyn))
		     : 0;
	Elf64_Dyn entry[ENTRIES_MAX];
	const size_t count = bytes / sizeof(entry[0]);
	uint64_t texts = 0;

	if (!count ||
	    !read_at(elf->fd, entry, count * sizeof(entry[0]), part->p_offset))
		return;
	for (size_t i = 0; i < count && entry[i].d_tag != DT_NULL; i++) {
		if (entry[i].d_tag == DT_STRTAB)
			texts = offset_of(elf, entry[i].d_un.d_ptr);
	}
	for (size_t i = 0; texts && i < count && entry[i].d_tag != DT_NULL;
	     i++) {
		char name[NAME_ROOM];

		if (entry[i].d_tag == DT_NEEDED &&
		    entry[i].d_un.d_val <= FILE_MAX &&
		    read_text(elf, texts + entry[i].d_un.d_val, name,
			      sizeof(name)))
			note(w, name);
	}
}

/* ---- what a start reads */

static void note_all(struct warm *w, int fd)
{
	char interpreter[PATH_MAX];
	const Elf64_Phdr *part;
	struct elf elf;

	if (!elf_open(&elf, fd))
		return;
	part = find_part(&elf, PT_INTERP);
	if (part &&
	    read_text(&elf, part->p_offset, interpreter, sizeof(interpreter)))
		read_one(w, interpreter);
	note_needed(w, &elf);
}

/* "#!PATH ...", as execve(2) reads it: the program is that one. */
static void note_script(struct warm *w, int fd)
{
	char line[SCRIPT_ROOM] = "";
	const char *path = line + 2;
	int to;

	(void)!pread(fd, line, sizeof(line) - 1, 0);
	if (memcmp(line, "#!", 2) != 0)
		return;
	path += strspn(path, " \t");
	line[strcspn(line, "\n")] = 0;
	line[path - line + strcspn(path, " \t")] = 0;
	to = read_file(w, path);
	if (to >= 0)
		note_all(w, to);
	util_close(&to);
}

/* NAME is a path, or one below the places. */
static void read_library(struct warm *w, const char *name)
{
	char path[NAME_ROOM + 32];
	int fd = -1;

	if (strchr(name, '/'))
		fd = read_file(w, name);
	for (unsigned i = 0;
	     fd < 0 && !strchr(name, '/') && i < ARRAY_LEN(places); i++) {
		snprintf(path, sizeof(path), "%s/%s", places[i], name);
		fd = read_file(w, path);
	}
	if (fd >= 0)
		note_all(w, fd);
	util_close(&fd);
}

unsigned warm_program(int root, const struct init_strings *paths)
{
	autofree struct warm *w = calloc(1, sizeof(*w));
	int fd = -1;

	if (!w)
		return 0;
	w->root = root;
	w->left = ALL_MAX;
	for (size_t i = 0; fd < 0 && i < paths->n; i++)
		fd = read_file(w, paths->list[i]);
	if (fd >= 0) {
		note_script(w, fd);
		note_all(w, fd);
	}
	util_close(&fd);
	if (w->count > 0)
		read_one(w, "/etc/ld.so.cache");
	for (unsigned i = 0; i < w->count; i++)
		read_library(w, w->name[i]);
	read_one(w, "/etc/passwd");
	read_one(w, "/etc/group");
	return w->read;
}
