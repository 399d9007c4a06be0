/* SPDX-License-Identifier: Apache-2.0 */
/* Which template a machine has, and making it. */
#include "tools/container/template.h"

#include "tools/agent/agent.h"
#include "tools/container/pool.h"
#include "tools/container/vm-socket.h"
#include "tools/image/rootfs.h"
#include "tools/image/sha256.h"
#include "tools/instance/template-store.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/random.h>
#include <sys/stat.h>

/* A file without a name is one of ours, and small. */
#define CONTENT_MAX 65536
/* A disk that takes as long is broken. */
#define ANSWER_MS 60000
#define USED_MAX  (UINT64_C(100) << 20)

struct template
{
	struct template_store store;
	uint64_t limit; /* of the store, in bytes */
	/* Names: its agent is there; with its container, or "". */
	char shape[TEMPLATE_NAME], prepared[TEMPLATE_NAME];
	/* The same, for a pool's machines: an image's have the template's. */
	char pooled[TEMPLATE_NAME];
	const char *found; /* SNAPSHOT is that one; NULL: none is */
	int found_fd;      /* owned: its directory; -1 */
	int suspect_fd;    /* owned: of the one that is suspected; -1 */
	bool sound;        /* it was not to blame: see template_distrust() */
	bool suspected;    /* the one that has its container may be */
	struct snapshot snapshot;
	struct pool_taken taken;   /* link_fd -1: none */
	struct template_part part; /* with a lock where it is to be made */
};

/* ---- the shape, as a text of which its name has the hash */

static void say_file(FILE *to, const char *what, const struct stat *st)
{
	fprintf(to, "%s %llu:%llu %lld %lld.%09ld\n", what,
		(unsigned long long)st->st_dev, (unsigned long long)st->st_ino,
		(long long)st->st_size, (long long)st->st_mtim.tv_sec,
		(long)st->st_mtim.tv_nsec);
}

static int say_path(FILE *to, const char *what, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return log_ret(-errno, "'%s': %s", path, strerror(errno));
	say_file(to, what, &st);
	return 0;
}

/* One in memory is new each time: what is in it counts. */
static int say_content(FILE *to, const char *name, int fd)
{
	autofree uint8_t *data = malloc(CONTENT_MAX);
	char hex[SHA256_HEX];
	ssize_t n;

	if (!data)
		return -ENOMEM;
	n = pread(fd, data, CONTENT_MAX, 0);
	if (n < 0 || n == CONTENT_MAX)
		return n < 0 ? -errno : -EFBIG;
	sha256_hex(data, (size_t)n, hex);
	fprintf(to, "%s %s\n", name, hex);
	return 0;
}

static int say_files(FILE *to, const struct initrd_files *files)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < files->count; i++) {
		const struct initrd_file *file = &files->file[i];
		struct stat st;

		if (fstat(file->fd, &st) < 0)
			return -errno;
		if (st.st_nlink == 0)
			r = say_content(to, file->name, file->fd);
		else
			say_file(to, file->name, &st);
	}
	return r;
}

/* Says what a driver finds out of it. False: that cannot change later. */
static bool say_device(FILE *to, const struct config_device *device)
{
	static const char *const said[] = {"tag", "cid", "user"};

	/* A share has its trees, its guest does not know of them yet; nor of
	 * those that come by a socket. */
	if (strcmp(device->type, "tree") == 0)
		return true;
	if (strcmp(device->type, "blk") == 0)
		return false;
	/* A place, for all that its guest knows. */
	fprintf(to, "device %s", device->type);
	for (unsigned i = 0; i < ARRAY_LEN(said); i++) {
		const char *text = config_text(device, said[i]);

		if (text)
			fprintf(to, " %s=%s", said[i], text);
	}
	fputc('\n', to);
	return true;
}

/* 1; 0: there is no template of such a machine; -errno, logged. */
static int say_shape(FILE *to, const struct config *cfg, const char *distro,
		     const struct initrd_files *files)
{
	int r;

	if (cfg->hugetlb || cfg->prefault)
		return 0;
	fprintf(to, "memory %llu\ncpus %u\nconsole %d\nentry %d\nassist %d\n",
		(unsigned long long)cfg->memory_bytes, cfg->cpus,
		(int)cfg->console, (int)cfg->entry, (int)cfg->assist);
	fprintf(to, "append %s\ndistro %s\n", cfg->append ? cfg->append : "",
		distro ? distro : "");
	for (unsigned i = 0; i < cfg->ndevices; i++) {
		if (!say_device(to, &cfg->device[i]))
			return 0;
	}
	r = say_path(to, "program", "/proc/self/exe");
	if (r == 0)
		r = say_path(to, "kernel", cfg->kernel);
	if (r == 0) {
		r = say_files(to, files);
		if (r < 0)
			log_error("the guest's initial RAM disk: %s",
				  strerror(-r));
	}
	return r < 0 ? r : 1;
}

/* Its files may change, before a machine is taken as well as behind. */
static int say_directory(FILE *to, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return log_ret(-errno, "'%s': %s", path, strerror(errno));
	fprintf(to, "directory %llu:%llu %s\n", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino, path);
	return 0;
}

/* A container that can be made before its run. 1, 0 or -errno, logged. */
static int say_container(FILE *to, const struct template_container *c)
{
	autofree uint8_t *bytes = NULL;
	char hex[SHA256_HEX];
	size_t n;
	int r;

	if (!agent_can_prepare(c->agent))
		return 0;
	r = agent_prepare_bytes(c->agent, &bytes, &n);
	if (r < 0)
		return r;
	sha256_hex(bytes, n, hex);
	fprintf(to, "image %s\ncontainer %s\n", c->digest ? c->digest : "none",
		hex);
	r = c->digest ? say_path(to, "root", c->root)
		      : say_directory(to, c->root);
	return r < 0 ? r : 1;
}

static void make_name(const char *boot, const char *text, size_t bytes,
		      char ret[TEMPLATE_NAME])
{
	char hex[SHA256_HEX];

	sha256_hex(text, bytes, hex);
	snprintf(ret, TEMPLATE_NAME, "%s-%.12s", boot, hex);
}

static int find_names(struct template *t, const struct template_wish *wish)
{
	autofree char *text = NULL;
	size_t bytes = 0;
	FILE *to = open_memstream(&text, &bytes);
	char boot[9];
	int r;

	if (!to)
		return log_ret(-ENOMEM, "out of memory");
	r = templates_boot(boot);
	if (r == 0)
		r = say_shape(to, wish->cfg, wish->distro, wish->files);
	if (r > 0 && fflush(to) == 0)
		make_name(boot, text, bytes, t->shape);
	if (r > 0 && say_container(to, &wish->container) > 0 && fflush(to) == 0)
		make_name(boot, text, bytes, t->pooled);
	/* A directory may be another one the next time. */
	if (wish->container.digest)
		memcpy(t->prepared, t->pooled, sizeof(t->prepared));
	if (fclose(to) != 0)
		r = log_ret(-ENOMEM, "out of memory");
	return r > 0 && !t->shape[0] ? -ENOMEM : r;
}

/* ---- one that is there, or is to be */

static bool open_found(struct template *t, const char *name, bool records)
{
	autofree char *path = NULL;
	autofd int fd = -1;

	if (name[0])
		path = template_find(&t->store, name, &fd);
	if (!path)
		return false;
	util_close(&t->found_fd);
	t->found_fd = take_fd(&fd);
	t->found = name;
	if (snapshot_open(&t->snapshot, path) == 0) {
		if (records)
			working_set_open(&t->snapshot, path, WORKING_SET_AUTO);
		return true;
	}
	log_warn("template %s: removed, and made anew", name);
	template_drop(t);
	return false;
}

static bool open_store(struct template *t, const char *dir)
{
	autofree char *home = NULL;

	if (dir)
		return template_store_open_at(dir, &t->store) == 0;
	home = rootfs_store_path();
	return home && template_store_open(home, true, &t->store) == 0;
}

/*
 * A template has what Linux uses until its agent is there, and what it notes of
 * the memory: 64 bytes of each 4 KiB. One that there is no room for is not
 * begun, or each start would make it anew.
 */
static bool has_room(const struct template *t, const struct config *cfg)
{
	const uint64_t need = USED_MAX + cfg->memory_bytes / 64;
	struct statvfs fs;

	if (need > t->limit) {
		log_info("no template: it may take %llu MiB, and "
			 "BULKHEAD_TEMPLATES is less",
			 (unsigned long long)need >> 20);
		return false;
	}
	if (fstatvfs(t->store.dir, &fs) < 0 || (fs.f_flag & ST_RDONLY) ||
	    (uint64_t)fs.f_bavail * fs.f_frsize < need) {
		log_info("no template: '%s' has no room for it", t->store.path);
		return false;
	}
	return true;
}

/*
 * A template with a container is for one image: it is made by the second start
 * of that, since many have no second one; and not by a start that is recorded,
 * as its own work would be in the record.
 */
static bool wants_prepared(const struct template *t, bool now)
{
	return t->prepared[0] &&
	       (template_is_known(&t->store, t->prepared) || now) &&
	       !t->snapshot.working_set.records;
}

/* A template that is gone has no machines that are worth it. */
static bool take_machine(struct template *t, const struct template_wish *wish,
			 const char *name)
{
	const bool prepared = name == t->pooled;
	const char *from = prepared && t->prepared[0] ? t->prepared : t->shape;

	return wish->instance && name[0] &&
	       faccessat(t->store.dir, from, F_OK, 0) == 0 &&
	       pool_take(t->store.dir, name, prepared, wish->cfg,
			 wish->instance, &t->taken) == 0;
}

static void look(struct template *t, const struct template_wish *wish)
{
	const char *part = NULL;

	if (take_machine(t, wish, t->pooled) ||
	    open_found(t, t->prepared, true))
		return;
	/* One that is to become a template was told nothing of a container. */
	if (!wants_prepared(t, wish->now) && take_machine(t, wish, t->shape))
		part = NULL;
	else if (!open_found(t, t->shape, !wish->now))
		part = t->shape;
	else if (wants_prepared(t, wish->now))
		part = t->prepared;
	if (part && has_room(t, wish->cfg))
		(void)template_begin(&t->store, part, &t->part);
	if (t->prepared[0])
		template_make_known(&t->store, t->prepared);
}

int template_new(const struct template_wish *wish, struct template **ret)
{
	struct template *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return log_ret(-ENOMEM, "out of memory");
	t->store.dir = -1;
	t->snapshot.memory_fd = -1;
	t->found_fd = t->suspect_fd = -1;
	t->part = TEMPLATE_PART_NONE;
	t->taken = POOL_TAKEN_NONE;
	r = templates_limit(&t->limit);
	/* From here on an error, which is logged, means that there is none. */
	if (r == 0 && t->limit > 0 && find_names(t, wish) > 0 &&
	    open_store(t, wish->dir))
		look(t, wish);
	if (r < 0)
		template_free(t);
	else
		*ret = t;
	return r;
}

void template_free(struct template *t)
{
	if (!t)
		return;
	template_abandon(&t->store, &t->part);
	snapshot_close(&t->snapshot);
	pool_release(&t->taken);
	util_close(&t->found_fd);
	util_close(&t->suspect_fd);
	template_store_close(&t->store);
	free(t);
}

const char *template_name(const struct template *t)
{
	if (!t || t->store.dir < 0)
		return NULL;
	return t->part.name[0] ? t->part.name : t->found ? t->found : t->shape;
}

const struct snapshot *template_snapshot(const struct template *t)
{
	return t && t->found ? &t->snapshot : NULL;
}

struct pool_taken *template_taken(struct template *t)
{
	return t && t->taken.pid > 0 ? &t->taken : NULL;
}

int template_dir(const struct template *t)
{
	return t ? t->store.dir : -1;
}

bool template_records(const struct template *t)
{
	return t && ((t->found && t->snapshot.working_set.records) ||
		     (t->taken.pid > 0 && t->taken.records));
}

void template_record_long(struct template *t)
{
	t->snapshot.working_set.record_ms = INT_MAX;
}

bool template_is_wanted(const struct template *t)
{
	return t && t->part.lock >= 0;
}

bool template_has_container(const struct template *t)
{
	return t && t->found && t->found == t->prepared;
}

const char *template_pool(const struct template *t, bool prepared)
{
	return prepared && t->pooled[0] ? t->pooled : t->shape;
}

bool template_is_prepared(const struct template *t)
{
	return template_is_wanted(t) && t->found;
}

bool template_lacks_container(const struct template *t)
{
	return t && t->prepared[0] && t->found != t->prepared &&
	       strcmp(t->part.name, t->prepared) != 0;
}

void template_close_writable(struct template *t)
{
	if (!t)
		return;
	util_close(&t->part.files[0]);
	util_close(&t->part.files[1]);
	util_close(&t->part.lock);
	util_close(&t->found_fd);
	util_close(&t->suspect_fd);
	util_close(&t->store.dir);
}

void template_close_record(struct template *t)
{
	if (t && t->found && t->snapshot.working_set.records)
		util_close(&t->snapshot.working_set.file_fd);
}

/* 0 or -errno, logged. */
static int save(const struct template *t, const char *control, int gone_fd)
{
	struct vm_answer answer;
	uint8_t id[SNAPSHOT_ID_BYTES];
	int r;

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return log_ret(-errno, "getrandom: %s", strerror(errno));
	r = vm_socket_ask_unless(control, VM_REQUEST_SAVE, id, t->part.files,
				 gone_fd, ANSWER_MS, &answer);
	if (r < 0 || answer.result >= 0)
		return r;
	return log_ret(answer.result, "the machine: %s",
		       answer.saved.why[0] ? answer.saved.why
					   : strerror(-answer.result));
}

int template_save(struct template *t, const char *control, int gone_fd)
{
	const uint64_t start_ns = util_now_ns();
	const int r = save(t, control, gone_fd);

	if (r < 0) {
		if (r != -ECONNRESET)
			log_warn(
				"its machine is no template for the next ones");
		template_abandon(&t->store, &t->part);
		return r;
	}
	log_debug("template %s saved within %llu us", t->part.name,
		  (unsigned long long)(util_now_ns() - start_ns) / 1000);
	return template_commit(&t->store, &t->part, t->limit);
}

bool template_hides(const struct config_device *net)
{
	return config_text(net, "tap") || config_text(net, "join");
}

int template_show(const char *control, int gone_fd)
{
	struct vm_answer answer;

	return vm_socket_ask_unless(control, VM_REQUEST_SHOW, NULL, NULL,
				    gone_fd, ANSWER_MS, &answer);
}

void template_end_record(const char *control, int gone_fd)
{
	struct vm_answer answer;

	(void)vm_socket_ask_unless(control, VM_REQUEST_END_RECORD, NULL, NULL,
				   gone_fd, ANSWER_MS, &answer);
}

void template_leave(struct template *t)
{
	if (t)
		util_close(&t->store.dir);
}

/* A machine without it would be saved under a name that says otherwise. */
static void give_up_container(struct template *t)
{
	if (strcmp(t->part.name, t->prepared) == 0)
		template_abandon(&t->store, &t->part);
}

void template_distrust(struct template *t)
{
	if (!t || !t->prepared[0] || t->store.dir < 0)
		return;
	give_up_container(t);
	template_forget(&t->store, t->prepared);
	t->sound = true;
}

bool template_made_container(const struct template *t)
{
	if (!t || t->store.dir < 0)
		return false;
	return t->taken.pid > 0 ? t->taken.prepared
				: t->found && t->found == t->prepared;
}

bool template_suspect(struct template *t)
{
	if (!template_made_container(t))
		return false;
	t->suspected = true;
	/* A machine that waited has no descriptor of what it came from. */
	if (template_taken(t) && t->prepared[0])
		t->suspect_fd =
			openat(t->store.dir, t->prepared,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return true;
}

void template_blame(struct template *t)
{
	if (!t || !t->suspected)
		return;
	t->suspected = false;
	if (!t->prepared[0])
		return;
	template_forget(&t->store, t->prepared);
	(void)template_remove_that(&t->store, t->prepared, t->suspect_fd);
}

void template_drop(struct template *t)
{
	give_up_container(t);
	/* It is no fault of the template's. */
	if (template_taken(t)) {
		pool_release(&t->taken);
		return;
	}
	snapshot_close(&t->snapshot);
	if (t->store.dir >= 0 && t->found)
		(void)template_remove_that(&t->store, t->found, t->found_fd);
	t->found = NULL;
}

bool template_fall_back(struct template *t)
{
	const bool had = t->found == t->prepared;

	if (t->sound) {
		t->sound = false;
		return t->found;
	}
	if (template_taken(t)) {
		pool_release(&t->taken);
		return open_found(t, t->shape, true);
	}
	if (!t->suspected || !had) {
		template_drop(t);
	} else {
		snapshot_close(&t->snapshot);
		t->found = NULL;
		t->suspect_fd = take_fd(&t->found_fd);
	}
	return had && open_found(t, t->shape, true);
}
