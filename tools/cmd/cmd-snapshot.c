/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead snapshot`: a machine's state becomes a directory, whole or not at
 * all. It is made under another name beside its place, brought to the disk, and
 * renamed.
 */
#include "tools/cmd/cmd.h"

#include "tools/cli/options.h"
#include "tools/cli/usage.h"
#include "tools/cmd/save.h"
#include "tools/container/pause.h"
#include "tools/instance/instance.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/snapshot.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct request {
	struct save_how how;
	bool tracks, compress;
};

#define AT(member) offsetof(struct request, member)

static const struct option_entry entries[] = {
	{"live", 0, NULL, OPTION_FLAG, AT(how.live), NULL,
	 "it stands still only while its state is read; what its memory held "
	 "then is written while it goes on"},
	{"base", 0, "DIR", OPTION_TEXT, AT(how.base), NULL,
	 "the snapshot that it was started from, or last saved in with "
	 "--track: what has changed since is read and written, onto a copy"},
	{"track", 0, NULL, OPTION_FLAG, AT(tracks), NULL,
	 "DIR can be --base of the next one: the machine has its memory from "
	 "there then, as one that was restored; not with --live"},
	{"compress", 0, NULL, OPTION_FLAG, AT(compress), NULL,
	 "the memory's file is made smaller, by zlib; a machine starts from it "
	 "without reading all of it; not with --track"},
	{0}};

static const struct option_table snapshot_table = {
	.command = "snapshot",
	.synopsis =
		"usage: bulkhead snapshot [OPTION]... NAME|SOCKET DIR\n"
		"\n"
		"Saves an instance of `bulkhead run`, or a machine of "
		"`bulkhead boot --control\n"
		"SOCKET`, in the new directory DIR, from which `bulkhead "
		"restore DIR` starts\n"
		"others. It stands still meanwhile and then goes on. What its "
		"disks and volumes\n"
		"hold is not saved: a restored one needs them as they are "
		"now.\n",
	.entries = entries,
};

struct target {
	const char *path; /* where it is to be */
	char *made;       /* owned: what it is called until it is whole */
	int dir_fd;       /* owned */
	int files[2];     /* owned: state and memory */
	bool compress;
	uint64_t packed_bytes; /* of the memory's file, if it is compressed */
};

static int make_file(const struct target *t, const char *name)
{
	return openat(t->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
		      0600);
}

static int make_target(struct target *t, const char *path, bool compress)
{
	static const char *const names[] = {SNAPSHOT_STATE_FILE,
					    SNAPSHOT_MEMORY_FILE};
	size_t length = strlen(path);
	struct stat st;

	*t = (struct target){
		.path = path,
		.dir_fd = -1,
		.files = {-1, -1},
		.compress = compress,
	};
	while (length > 1 && path[length - 1] == '/')
		length--;
	if (lstat(path, &st) == 0)
		return log_ret(-EEXIST,
			       "'%s': is there already: give a new name", path);
	if (asprintf(&t->made, "%.*s.XXXXXX", (int)length, path) < 0) {
		t->made = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	if (!mkdtemp(t->made)) {
		t->made[0] = '\0';
		return log_ret(-errno, "'%s': %s", path, strerror(errno));
	}
	t->dir_fd = open(t->made, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; t->dir_fd >= 0 && i < ARRAY_LEN(names); i++) {
		t->files[i] = make_file(t, names[i]);
		if (t->files[i] < 0)
			break;
	}
	return t->files[1] < 0
		       ? log_ret(-errno, "'%s': %s", t->made, strerror(errno))
		       : 0;
}

/* A machine that has its memory from there must not be able to change it. */
static int open_tracked(struct save_how *how, const struct target *t)
{
	how->track_fd = openat(t->dir_fd, SNAPSHOT_MEMORY_FILE,
			       O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return how->track_fd < 0
		       ? log_ret(-errno, "'%s/%s': %s", t->made,
				 SNAPSHOT_MEMORY_FILE, strerror(errno))
		       : 0;
}

/* The new memory is the base's at first. */
static int copy_base(struct save_how *how, const struct target *t)
{
	struct snapshot base;
	int r = snapshot_open(&base, how->base);

	if (r == 0 && base.compressed)
		r = log_ret(-EINVAL,
			    "'%s': compressed: a machine that was started from "
			    "it has no pages in common with it: save it "
			    "without --base",
			    how->base);
	if (r == 0) {
		r = snapshot_copy_memory(&base, t->files[1],
					 save_is_told_to_end, NULL);
		if (r < 0)
			log_error("'%s/%s': cannot be copied: %s", how->base,
				  SNAPSHOT_MEMORY_FILE, strerror(-r));
	}
	/* Else the guest would stand still while it is brought to the disk. */
	if (r == 0 && how->track_fd >= 0 && fdatasync(t->files[1]) < 0)
		r = log_ret(-errno, "'%s/%s': %s", t->made,
			    SNAPSHOT_MEMORY_FILE, strerror(errno));
	memcpy(how->base_id, base.id, sizeof(how->base_id));
	snapshot_close(&base);
	return r;
}

/*
 * The machine goes on while its memory, which is in a file like any other, is
 * compressed to the file that takes its place.
 */
static int compress_memory(struct target *t)
{
	struct snapshot snapshot;
	autofd int packed = -1;
	int r = snapshot_take(&snapshot, t->made, t->files[0], t->files[1]);

	t->files[1] = -1;
	if (r == 0 && unlinkat(t->dir_fd, SNAPSHOT_MEMORY_FILE, 0) == 0)
		packed = make_file(t, SNAPSHOT_MEMORY_FILE);
	if (r == 0 && packed < 0)
		r = log_ret(-errno, "'%s': %s", t->made, strerror(errno));
	if (r == 0) {
		r = snapshot_compress(&snapshot, packed, save_is_told_to_end,
				      NULL, &t->packed_bytes);
		if (r == 0)
			r = snapshot_write_state(&snapshot, t->files[0]);
		if (r < 0)
			log_error("'%s': %s", t->path,
				  r == -EINTR ? "told to end" : strerror(-r));
	}
	snapshot_close(&snapshot);
	t->files[1] = take_fd(&packed);
	return r;
}

/* A snapshot of a machine has none. */
static int sync_instance(const struct target *t)
{
	autofd int fd = openat(t->dir_fd, SNAPSHOT_INSTANCE_FILE,
			       O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? (errno == ENOENT ? 0 : -1) : fsync(fd);
}

/* To the disk, and to its name. */
static int finish_target(struct target *t)
{
	const int r = t->compress ? compress_memory(t) : 0;

	if (r < 0)
		return r;
	if (fsync(t->files[0]) < 0 || fsync(t->files[1]) < 0 ||
	    sync_instance(t) < 0 || fsync(t->dir_fd) < 0)
		return log_ret(-errno, "'%s': %s", t->made, strerror(errno));
	/* EINVAL: the file system has no such flag. */
	if (renameat2(AT_FDCWD, t->made, AT_FDCWD, t->path, RENAME_NOREPLACE) <
		    0 &&
	    (errno != EINVAL || rename(t->made, t->path) < 0))
		return log_ret(-errno, "'%s': %s", t->path, strerror(errno));
	t->made[0] = '\0';
	return 0;
}

/* Takes away what did not get its name. */
static void done_target(struct target *t)
{
	if (t->made && t->made[0]) {
		if (t->dir_fd >= 0) {
			(void)unlinkat(t->dir_fd, SNAPSHOT_STATE_FILE, 0);
			(void)unlinkat(t->dir_fd, SNAPSHOT_MEMORY_FILE, 0);
			(void)unlinkat(t->dir_fd, SNAPSHOT_INSTANCE_FILE, 0);
		}
		(void)rmdir(t->made);
	}
	free(t->made);
	util_close(&t->files[0]);
	util_close(&t->files[1]);
	util_close(&t->dir_fd);
}

static void tell(const struct target *t, const struct vm_saved *saved)
{
	printf("%s: %llu KiB of memory", t->path,
	       (unsigned long long)saved->memory_bytes / 1024);
	if (t->compress)
		printf(", compressed to %llu",
		       (unsigned long long)t->packed_bytes / 1024);
	printf("; the guest stood still for %.1f ms\n",
	       (double)saved->stood_ns / 1e6);
}

static int keep_machine(const char *path, const struct save_how *how,
			struct target *t)
{
	struct vm_saved saved;
	int r = save_machine_files(path, path, t->files, how, &saved);

	if (r == 0)
		r = finish_target(t);
	if (r == 0)
		tell(t, &saved);
	return r;
}

/* ---- an instance */

static int keep_instance(const char *name, const struct save_how *how,
			 struct target *t)
{
	struct vm_saved saved = {0};
	struct instance_state state;
	struct instance instance;
	int r = instance_open_running(name, &instance, &state);

	if (r < 0)
		return r;
	r = save_check(&instance, &state, "saved");
	if (r == 0)
		r = save_instance_files(&instance, t->files, how, &saved);
	if (r == 0)
		r = instance_write_copy(t->dir_fd, t->made,
					SNAPSHOT_INSTANCE_FILE, &instance,
					&state);
	if (r == 0)
		r = finish_target(t);
	if (r == 0)
		tell(t, &saved);
	instance_state_done(&state);
	instance_done(&instance);
	return r;
}

int cmd_snapshot(int argc, char **argv)
{
	struct sigaction before[SAVE_SIGNALS];
	struct request req = {.how.track_fd = -1};
	struct save_how *how = &req.how;
	struct target target;
	int n = options_parse(&snapshot_table, &req, argc, argv);
	int r;

	if (n < 0)
		return n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;
	if (argc - n != 2)
		return usage_error("snapshot",
				   "give an instance's name, or a machine's "
				   "socket, and a new directory");
	if (req.tracks && how->live)
		return usage_error("snapshot", "--track: not together with "
					       "--live");
	if (req.tracks && req.compress)
		return usage_error("snapshot", "--track: not together with "
					       "--compress");
	save_take_signals(before);
	r = make_target(&target, argv[n + 1], req.compress);
	if (r == 0 && req.tracks)
		r = open_tracked(how, &target);
	if (r == 0 && how->base)
		r = copy_base(how, &target);
	if (r == 0)
		r = pause_is_path(argv[n])
			    ? keep_machine(argv[n], how, &target)
			    : keep_instance(argv[n], how, &target);
	util_close(&how->track_fd);
	done_target(&target);
	return r < 0 ? 1 : VM_EXIT_OK;
}
