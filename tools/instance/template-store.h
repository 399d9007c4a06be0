/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved machines from which others start, each a directory of the store:
 *
 *   templates/NAME        a snapshot's files (vmm/snapshot.h); when it was last
 *                         used is the directory's time
 *   templates/NAME.part   being made by who has its lock; else left over
 *   templates/NAME.known  an empty file: it was looked for once
 *
 * They have what a guest's kernel has in its memory: only the owner gets in.
 * None outlives the boot of the host that it was made in: so what is on the
 * disk of one after a crash does not matter, and it need not be synced.
 */
#ifndef TOOLS_INSTANCE_TEMPLATE_STORE_H
#define TOOLS_INSTANCE_TEMPLATE_STORE_H

#include <stdbool.h>
#include <stdint.h>

/* "0123abcd-0123456789ab": the host's boot, the machine; with its NUL. */
#define TEMPLATE_NAME 22

struct template_store {
	int dir;    /* owned; -1: not open */
	char *path; /* owned */
};

#define TEMPLATES_BYTES_DEFAULT (UINT64_C(1) << 30)
/* A template of 512 MiB of memory takes 60 MiB. */
#define TEMPLATES_BYTES_LEAST (128U << 20)
/*
 * How much they may have on the disk by $BULKHEAD_TEMPLATES; 0: there are to be
 * none. 0, or -EINVAL, logged.
 */
int templates_limit(uint64_t *ret_bytes);

/*
 * The first half of the name of all that can be used: this boot's. 0 or -errno,
 * logged.
 */
int templates_boot(char ret[9]);

/*
 * That of the image store HOME, or of the one that rootfs_store_path() says,
 * where that is NULL. 0; -ENOENT, not logged, unless CREATE; or -errno, logged.
 */
int template_store_open(const char *home, bool create,
			struct template_store *ret);
/* The directory PATH is it. 0 or -errno, logged. */
int template_store_open_at(const char *path, struct template_store *ret);
void template_store_close(struct template_store *store);
/* A new file without a name, on the disk of these. Its descriptor or -errno,
 * logged. */
int template_store_unnamed(void);

/*
 * The directory of NAME, allocated, which counts as used now. NULL: there is
 * none. *RET_FD, unless RET_FD is NULL: the directory, for
 * template_remove_that(); as long as it is open no other one can be taken for
 * it.
 */
char *template_find(const struct template_store *store, const char *name,
		    int *ret_fd);

/* Whether NAME was looked for before, and that it has been. */
bool template_is_known(const struct template_store *store, const char *name);
void template_make_known(const struct template_store *store, const char *name);
void template_forget(const struct template_store *store, const char *name);

/* One that is being made. */
struct template_part {
	char name[TEMPLATE_NAME];
	int lock;     /* owned: its directory; -1: there is none */
	int files[2]; /* owned: its state, its memory */
};
#define TEMPLATE_PART_NONE                                                     \
	((struct template_part){.lock = -1, .files = {-1, -1}})

/*
 * Begins to make NAME. 0; -EBUSY, not logged: another process does, or it is
 * there; or -errno, logged.
 */
int template_begin(const struct template_store *store, const char *name,
		   struct template_part *ret);
/*
 * Whole, it is there; the oldest go where all are more than LIMIT bytes, and
 * those of other boots. 0 or -errno, logged. Ends PART.
 */
int template_commit(const struct template_store *store,
		    struct template_part *part, uint64_t limit);
/* Removes what there is. Also of one that was ended, or never begun. */
void template_abandon(const struct template_store *store,
		      struct template_part *part);

struct template_entry {
	const char *name, *path;
	uint64_t bytes; /* on the disk */
	int64_t used_s; /* since 1970 */
};
/* In the order of their use, the last one first. 0, FN's first result that is
 * negative, or -errno, logged. */
int template_each(const struct template_store *store,
		  int (*fn)(const struct template_entry *entry, void *arg),
		  void *arg);

/* Machines that run from it go on. 0; -ENOENT or -errno, not logged. */
int template_remove(const struct template_store *store, const char *name);
/*
 * The same of the one that FD is, and of no other that another process has made
 * under its name meanwhile: -ENOENT then.
 */
int template_remove_that(const struct template_store *store, const char *name,
			 int fd);

#endif
