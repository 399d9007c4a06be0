/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packed kernels: a bzImage's payload (Documentation/arch/x86/boot.rst), or a
 * whole vmlinux. Linux would unpack itself at each start, which takes an
 * interpreting host half a minute; here it is done once, and kept in the cache
 * by what tells one file from another without reading it. A process behind
 * walls does it, as the file may be a stranger's; what it leaves gets its name
 * only when it is whole.
 */
#include "tools/guest/unpack.h"

#include "tools/guest/cache.h"
#include "tools/image/inflate.h"
#include "tools/image/walls.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <asm/bootparam.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define BOOT_FLAG    0xaa55
#define HEADER_MAGIC 0x53726448 /* "HdrS" */
/* payload_offset and payload_length came with 2.08. */
#define PROTOCOL_MIN 0x0208
#define SECTOR       512

#define VMLINUX_MAX GIB
#define KEPT        8         /* unpacked kernels in the cache */
#define STALE       (60 * 60) /* seconds: its process was killed */
#define IN_BYTES    (128 * KIB)
#define OUT_BYTES   (1 * MIB)

/* lz4's first format, which Linux uses: blocks of 8 MiB, none longer. */
#define LZ4_BLOCK     (8 * MIB)
#define LZ4_BLOCK_MAX LZ4_COMPRESSBOUND(LZ4_BLOCK)
static const uint8_t lz4_magic[] = {0x02, 0x21, 0x4c, 0x18};

/* Where the packed bytes are, and what is known of them. */
struct packed {
	const char *what, *path; /* for messages: "kernel", and its name */
	int fd;
	uint64_t offset, bytes;
	uint64_t size; /* unpacked, as the file says; 0: it does not */
	const struct packing *packing; /* NULL: lz4 */
	bool bzimage;
	struct stat st;
};

static const char *format(const struct packed *p)
{
	return p->packing ? packing_name(p->packing) : "lz4";
}

/* ---- what kind of file it is */

/* Which of the formats that are unpacked here HEAD begins. */
static bool find_format(struct packed *p, const uint8_t *head, size_t len)
{
	const struct packing *packing = packing_find(head, len);

	p->packing = NULL;
	if (len >= sizeof(lz4_magic) &&
	    memcmp(head, lz4_magic, sizeof(lz4_magic)) == 0)
		return true;
	/* The loader inflates gzip, into the guest's memory. */
	if (!packing || !packing_supported(packing) ||
	    strcmp(packing_name(packing), "gzip") == 0)
		return false;
	p->packing = packing;
	return true;
}

/*
 * A bzImage's payload; the size of what it unpacks to follows it, within
 * payload_length. The loader complains of what does not add up.
 */
static bool find_payload(struct packed *p, const struct setup_header *hdr)
{
	const uint64_t sects = hdr->setup_sects ? hdr->setup_sects : 4;
	const uint64_t file_bytes = (uint64_t)p->st.st_size;
	uint8_t head[16], size[4];

	p->offset = (sects + 1) * SECTOR + hdr->payload_offset;
	if (hdr->version < PROTOCOL_MIN ||
	    hdr->payload_length < sizeof(head) + sizeof(size) ||
	    !range_fits(p->offset, hdr->payload_length, file_bytes))
		return false;
	p->bytes = hdr->payload_length - sizeof(size);
	if (util_read_at(p->fd, head, sizeof(head), p->offset) < 0 ||
	    util_read_at(p->fd, size, sizeof(size), p->offset + p->bytes) < 0)
		return false;
	p->size = size[0] | size[1] << 8 | size[2] << 16 |
		  (uint64_t)size[3] << 24;
	p->bzimage = true;
	return p->size > 0 && p->size <= VMLINUX_MAX &&
	       find_format(p, head, sizeof(head));
}

/* Whether there is something to be done. */
static bool find_packed(struct packed *p)
{
	uint8_t head[sizeof(struct boot_params)];
	struct setup_header hdr;
	size_t len;

	if (fstat(p->fd, &p->st) < 0 || !S_ISREG(p->st.st_mode))
		return false;
	len = min_u64((uint64_t)p->st.st_size, sizeof(head));
	if (util_read_at(p->fd, head, len, 0) < 0)
		return false;
	if (len == sizeof(head)) {
		memcpy(&hdr, head + offsetof(struct boot_params, hdr),
		       sizeof(hdr));
		if (hdr.boot_flag == BOOT_FLAG && hdr.header == HEADER_MAGIC)
			return find_payload(p, &hdr);
	}
	p->bytes = (uint64_t)p->st.st_size;
	return find_format(p, head, len);
}

/* ---- unpacking, behind walls */

struct job {
	const struct packed *packed;
	int out;
	uint64_t done;
	uint64_t *room; /* for this file and others; NULL: no such limit */
};

static int damaged(const struct packed *p, const char *why)
{
	return log_ret(-EINVAL, "%s '%s': damaged %s data: %s", p->what,
		       p->path, format(p), why);
}

static int read_packed(const struct packed *p, void *buf, size_t len,
		       uint64_t at)
{
	int r = util_read_at(p->fd, buf, len, p->offset + at);

	if (r == -ENODATA)
		return log_ret(-EINVAL,
			       "%s '%s' became shorter while it was read",
			       p->what, p->path);
	return r < 0 ? log_ret(r, "%s '%s': read: %s", p->what, p->path,
			       strerror(-r))
		     : 0;
}

static int too_much(const struct packed *p)
{
	return log_ret(-EFBIG,
		       "%s '%s': with it the guest's modules have more than "
		       "%llu MiB",
		       p->what, p->path,
		       (unsigned long long)(UNPACK_FILES_MAX / MIB));
}

static int write_out(struct job *job, const uint8_t *data, size_t len)
{
	const struct packed *p = job->packed;
	int r;

	if (job->done == 0 && (len < 4 || memcmp(data, "\177ELF", 4) != 0))
		return log_ret(-EINVAL,
			       "%s '%s': no ELF file is packed in it (%s)",
			       p->what, p->path, format(p));
	job->done += len;
	if (job->done > (p->size ? p->size : VMLINUX_MAX))
		return damaged(p, p->size ? "it unpacks to more than it says"
					  : "it unpacks to more than 1 GiB");
	if (job->room && len > *job->room)
		return too_much(p);
	if (job->room)
		*job->room -= len;
	r = util_write_all(job->out, data, len);
	return r < 0 ? log_ret(r, "%s '%s': writing what is in it: %s", p->what,
			       p->path, strerror(-r))
		     : 0;
}

static int run_inflater(struct job *job, struct inflater *inflater, uint8_t *in,
			uint8_t *out)
{
	const struct packed *p = job->packed;
	struct flow f = {.in_len = 0};
	uint64_t at = 0;
	size_t full = 0;
	int r = 0;

	while (r == 0) {
		if (f.in_len == 0 && at < p->bytes) {
			f.in = in;
			f.in_len = min_u64(p->bytes - at, IN_BYTES);
			r = read_packed(p, in, f.in_len, at);
			if (r < 0)
				break;
			at += f.in_len;
		}
		f.last = at == p->bytes;
		f.out = out + full;
		f.out_len = OUT_BYTES - full;
		r = inflater_run(inflater, &f);
		full = OUT_BYTES - f.out_len;
		/* Pieces of full size, but for the last. */
		if (r >= 0 && full > 0 && (r == 1 || f.out_len == 0)) {
			const int w = write_out(job, out, full);

			full = 0;
			r = w < 0 ? w : r;
		}
	}
	return r < 0 ? r : 0;
}

static int unpack_by_library(struct job *job)
{
	const struct packed *p = job->packed;
	autofree uint8_t *buf = malloc(IN_BYTES + OUT_BYTES);
	autofree char *name = NULL;
	struct inflater *inflater = NULL;
	int r = -ENOMEM;

	if (asprintf(&name, "%s '%s'", p->what, p->path) < 0)
		name = NULL;
	if (buf && name)
		inflater = inflater_open(name, p->packing);
	if (inflater)
		r = run_inflater(job, inflater, buf, buf + IN_BYTES);
	else
		log_error("%s '%s': no memory to unpack it", p->what, p->path);
	inflater_close(inflater);
	return r;
}

/* One block at AT: its size, which it begins with, and its data. */
static int unpack_block(struct job *job, char *in, char *out, uint64_t *at)
{
	const struct packed *p = job->packed;
	uint8_t head[4];
	uint32_t len;
	int r, n;

	if (p->bytes - *at < sizeof(head))
		return damaged(p, "it is cut off");
	r = read_packed(p, head, sizeof(head), *at);
	if (r < 0)
		return r;
	*at += sizeof(head);
	/* Another archive behind the first. */
	if (memcmp(head, lz4_magic, sizeof(head)) == 0)
		return 0;
	len = head[0] | head[1] << 8 | head[2] << 16 | (uint32_t)head[3] << 24;
	if (len == 0 || len > LZ4_BLOCK_MAX || len > p->bytes - *at)
		return damaged(p, "it is cut off");
	r = read_packed(p, in, len, *at);
	if (r < 0)
		return r;
	*at += len;
	n = LZ4_decompress_safe(in, out, (int)len, (int)LZ4_BLOCK);
	return n < 0 ? damaged(p, "it does not add up")
		     : write_out(job, (uint8_t *)out, (size_t)n);
}

static int unpack_lz4(struct job *job)
{
	const struct packed *p = job->packed;
	autofree char *in = malloc(LZ4_BLOCK_MAX);
	autofree char *out = malloc(LZ4_BLOCK);
	uint64_t at = sizeof(lz4_magic);
	int r = 0;

	if (!in || !out)
		return log_ret(-ENOMEM, "%s '%s': no memory to unpack it",
			       p->what, p->path);
	while (r == 0 && at < p->bytes)
		r = unpack_block(job, in, out, &at);
	return r;
}

static void unpack(void *arg, void *result)
{
	struct job *job = arg;
	const struct packed *p = job->packed;
	int r = p->packing ? unpack_by_library(job) : unpack_lz4(job);

	if (r == 0 && (job->done == 0 || (p->size && job->done < p->size)))
		r = damaged(p, "it unpacks to less than it says");
	*(int *)result = r;
}

/* ---- the cache */

/* The name tells the file from every other, and from its older content. */
static char *make_name(const struct packed *p)
{
	const struct stat *st = &p->st;
	char *name;

	if (asprintf(&name, "vmlinux-%llx-%llx-%llx-%llx.%lx-%llx.%lx",
		     (unsigned long long)st->st_dev,
		     (unsigned long long)st->st_ino,
		     (unsigned long long)st->st_size,
		     (unsigned long long)st->st_mtim.tv_sec,
		     st->st_mtim.tv_nsec,
		     (unsigned long long)st->st_ctim.tv_sec,
		     st->st_ctim.tv_nsec) < 0)
		return NULL;
	return name;
}

/* Whether NAME is there, this user's own, and of the size that is expected. */
static bool is_cached(const struct packed *p, int dir, const char *name)
{
	autofd int fd = openat(dir, name,
			       O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || !cache_is_own(fd) || fstat(fd, &st) < 0 ||
	    st.st_size == 0 || (p->size && (uint64_t)st.st_size != p->size))
		return false;
	/* The ones that nobody used for longest are removed first. */
	(void)futimens(fd, NULL);
	return true;
}

/* Removes the directory NAME of DIR in which something was unpacked. */
static void remove_work(int dir, const char *name)
{
	autofd int work = openat(
		dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (work >= 0)
		(void)unlinkat(work, "vmlinux", 0);
	(void)unlinkat(dir, name, AT_REMOVEDIR);
}

/* Removes leftovers of killed processes, and the oldest above KEPT. */
static void prune(const char *path, int dir)
{
	const time_t now = time(NULL);
	char oldest[NAME_MAX + 1] = "";
	struct timespec time = {0};
	const struct dirent *entry;
	unsigned count = 0;
	struct stat st;
	DIR *list = opendir(path);

	while (list && (entry = readdir(list))) {
		const char *name = entry->d_name;

		if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (strncmp(name, "new-", 4) == 0 && st.st_mtime + STALE < now)
			remove_work(dir, name);
		if (strncmp(name, "vmlinux-", 8) != 0)
			continue;
		count++;
		if (oldest[0] && (st.st_mtim.tv_sec > time.tv_sec ||
				  (st.st_mtim.tv_sec == time.tv_sec &&
				   st.st_mtim.tv_nsec >= time.tv_nsec)))
			continue;
		time = st.st_mtim;
		snprintf(oldest, sizeof(oldest), "%s", name);
	}
	if (list)
		closedir(list);
	if (count > KEPT)
		(void)unlinkat(dir, oldest, 0);
}

/* Unpacks to the file WORK/vmlinux, then gives it its name. */
static int unpack_in(const struct packed *p, int dir, int work,
		     const char *name)
{
	autofd int out = openat(work, "vmlinux",
				O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct job job = {.packed = p, .out = out};
	int result = 0;
	int r;

	if (out < 0)
		return log_ret(-errno, "kernel '%s': the cache: %s", p->path,
			       strerror(errno));
	r = walled(p->path, work, -1, unpack, &job, &result, sizeof(result));
	if (r == 0)
		r = result;
	if (r == 0 && renameat(work, "vmlinux", dir, name) < 0)
		r = log_ret(-errno, "kernel '%s': the cache: %s", p->path,
			    strerror(errno));
	return r;
}

/*
 * An empty directory of the cache PATH for a process to work in. RET_NAME, to
 * be freed, is its name there. An open descriptor or -errno, logged.
 */
static int make_work(const struct packed *p, const char *path, char **ret_name)
{
	autofree char *template = NULL;
	int fd = -1;

	if (asprintf(&template, "%s/new-XXXXXX", path) < 0) {
		template = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	if (mkdtemp(template))
		fd = open(template, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return log_ret(-errno, "%s '%s': '%s': %s", p->what, p->path,
			       template, strerror(errno));
	*ret_name = strdup(strrchr(template, '/') + 1);
	return fd;
}

static int unpack_now(const struct packed *p, const char *path, int dir,
		      const char *name)
{
	const sigset_t signals = unpack_signals();
	autofree char *work_name = NULL;
	autofd int work = -1;
	sigset_t before;
	int r;

	log_warn("kernel '%s': its %s data is unpacked, this once, to '%s/%s'",
		 p->path, format(p), path, name);
	/* A signal must not leave half of it behind. */
	sigprocmask(SIG_BLOCK, &signals, &before);
	work = make_work(p, path, &work_name);
	r = work < 0 ? work : unpack_in(p, dir, work, name);
	if (work_name)
		remove_work(dir, work_name);
	prune(path, dir);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return r;
}

static int no_cache(const struct packed *p, int error)
{
	const char *why = error == -EPERM
				  ? "others may write to its directory unpacked"
				  : strerror(-error);

	if (!p->bzimage)
		return log_ret(error,
			       "kernel '%s': no cache to unpack its %s data "
			       "in: %s; see BULKHEAD_CACHE",
			       p->path, format(p), why);
	log_warn("kernel '%s': no cache to unpack its %s data in: %s; the "
		 "guest does it at each start",
		 p->path, format(p), why);
	return 0;
}

int kernel_unpack(char **path)
{
	struct packed p = {.what = "kernel", .path = *path};
	autofd int fd = open(*path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	autofree char *dir_path = NULL;
	autofree char *name = NULL;
	autofd int dir = -1;
	char *found;
	int r = 0;

	p.fd = fd;
	if (fd < 0 || !find_packed(&p))
		return 0;
	dir = cache_open("unpacked", &dir_path);
	if (dir < 0)
		return no_cache(&p, dir);
	name = make_name(&p);
	if (!name || asprintf(&found, "%s/%s", dir_path, name) < 0)
		return log_ret(-ENOMEM, "out of memory");
	if (!is_cached(&p, dir, name))
		r = unpack_now(&p, dir_path, dir, name);
	if (r < 0) {
		free(found);
		return r;
	}
	free(*path);
	*path = found;
	return 0;
}

/* ---- modules */

/* Whether FILE is packed, in one of the formats that modules come in. */
static bool find_packed_file(struct packed *p, const struct initrd_file *file)
{
	uint8_t head[16];

	*p = (struct packed){
		.what = "module", .path = file->name, .fd = file->fd};
	if (fstat(p->fd, &p->st) < 0)
		return false;
	p->bytes = (uint64_t)p->st.st_size;
	if (p->bytes < sizeof(head) ||
	    util_read_at(p->fd, head, sizeof(head), 0) < 0)
		return false;
	p->packing = packing_find(head, sizeof(head));
	return p->packing != NULL;
}

/* Packed files, and a descriptor for the content of each. */
struct batch {
	struct packed *packed;
	int *out;
	size_t n;
	uint64_t room; /* for all that is in them */
};

static void unpack_batch(void *arg, void *result)
{
	struct batch *batch = arg;
	int r = 0;

	for (size_t i = 0; r == 0 && i < batch->n; i++) {
		struct job job = {.packed = &batch->packed[i],
				  .out = batch->out[i],
				  .room = &batch->room};

		unpack(&job, &r);
	}
	*(int *)result = r;
}

static int unpack_walled(struct batch *batch)
{
	const struct packed *p = batch->packed;
	const sigset_t signals = unpack_signals();
	autofree char *work_name = NULL;
	autofree char *path = NULL;
	autofd int dir = cache_open("unpacked", &path);
	autofd int work = -1;
	sigset_t before;
	int result = 0;
	int r;

	if (dir < 0)
		return no_cache(p, dir);
	sigprocmask(SIG_BLOCK, &signals, &before);
	work = make_work(p, path, &work_name);
	r = work < 0 ? work
		     : walled(p->path, work, -1, unpack_batch, batch, &result,
			      sizeof(result));
	if (work_name)
		(void)unlinkat(dir, work_name, AT_REMOVEDIR);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return r < 0 ? r : result;
}

/* Adds FILE to the batch, with a file for its content, where it is packed. */
static int add_to_batch(struct batch *batch, const struct initrd_file *file)
{
	struct packed *p = &batch->packed[batch->n];

	if (!find_packed_file(p, file)) {
		if (p->bytes > batch->room)
			return too_much(p);
		batch->room -= p->bytes;
		return 0;
	}
	batch->out[batch->n] = memfd_create("bulkhead-module", MFD_CLOEXEC);
	if (batch->out[batch->n] < 0)
		return log_ret(-errno, "module '%s': %s", file->name,
			       strerror(errno));
	return 1;
}

int unpack_files(struct initrd_file *files, size_t n)
{
	autofree struct packed *packed = calloc(n + 1, sizeof(*packed));
	autofree int *out = calloc(n + 1, sizeof(*out));
	autofree size_t *index = calloc(n + 1, sizeof(*index));
	struct batch batch = {
		.packed = packed, .out = out, .room = UNPACK_FILES_MAX};
	int r = packed && out && index
			? 0
			: log_ret(-ENOMEM, "no memory to unpack modules");

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = add_to_batch(&batch, &files[i]);
		if (r <= 0)
			continue;
		index[batch.n++] = i;
		r = 0;
	}
	if (r == 0 && batch.n > 0)
		r = unpack_walled(&batch);
	for (size_t i = 0; i < batch.n; i++) {
		int *fd = r == 0 ? &files[index[i]].fd : &out[i];

		close(*fd);
		*fd = out[i];
	}
	return r;
}
