/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container, and a process in it, as the OCI runtime specification (1.2)
 * describes them: the part of it that is done here, under its names. `bulkhead
 * run` makes one from its options and the image, state.json keeps it, `exec`
 * takes its process from there.
 *
 * Beyond the specification a user and groups may be names, which the container
 * itself resolves: process.user.username, and texts in additionalGids.
 *
 * Texts and lists are owned. A zeroed object is empty. Any thread, one at a
 * time; functions that return int give 0 or -errno, logged.
 */
#ifndef TOOLS_SPEC_SPEC_H
#define TOOLS_SPEC_SPEC_H

#include "tools/cli/text-list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_t;
struct sock_filter;

#define SPEC_VERSION     "1.0.2"
#define SPEC_RLIMITS_MAX 16  /* as many as Linux has */
#define SPEC_MOUNTS_MAX  256 /* limits against files that are none */
#define SPEC_DEVICES_MAX 256
#define SPEC_FILE_MAX    (1 << 20)

struct spec_user {
	uint32_t uid, gid; /* where there is no username */
	char *username;    /* "user[:group]", names or numbers; or NULL */
	struct text_list additional_gids; /* numbers or names */
	bool has_umask;                   /* else 022 */
	uint16_t umask;
};

/*
 * Bit N: capability N of Linux. Where the user is a name, which the container
 * resolves, all but the bounding set are for user 0 alone: who that is, the
 * container itself has to say.
 */
struct spec_capabilities {
	uint64_t bounding, effective, inheritable, permitted, ambient;
};

struct spec_rlimit {
	int type;            /* RLIMIT_* */
	uint64_t soft, hard; /* RLIM_INFINITY: none */
};

struct spec_process {
	bool terminal, no_new_privileges;
	uint16_t console_height, console_width; /* consoleSize; 0: unknown */
	struct spec_user user;
	struct text_list args, env;
	char *cwd;
	struct spec_capabilities capabilities;
	struct spec_rlimit rlimits[SPEC_RLIMITS_MAX];
	size_t nrlimits;
	bool has_oom_score_adj; /* else it is as it is */
	int oom_score_adj;      /* -1000 to 1000 */
	/* Walls that a guest does not have; callers refuse them. May be NULL.
	 */
	char *apparmor_profile, *selinux_label;
};

struct spec_mount {
	char *destination, *type, *source; /* type and source: may be NULL */
	struct text_list options;
};

/* Namespaces, by bit; the machine is the network's. */
enum {
	SPEC_NS_PID = 0x01,
	SPEC_NS_NETWORK = 0x02,
	SPEC_NS_MOUNT = 0x04,
	SPEC_NS_IPC = 0x08,
	SPEC_NS_UTS = 0x10,
	SPEC_NS_CGROUP = 0x20,
};

/* A node that is made; those that every container has are not listed. */
struct spec_device {
	char *path;
	char type; /* 'c' or 'b' */
	uint32_t major, minor;
	uint32_t mode; /* permissions */
	uint32_t uid, gid;
};

enum {
	SPEC_ACCESS_MKNOD = 1,
	SPEC_ACCESS_READ = 2,
	SPEC_ACCESS_WRITE = 4,
	SPEC_ACCESS_ALL = 7,
};

/* The last rule that fits an access counts; without any it is forbidden. */
struct spec_device_rule {
	bool allow;
	char type;            /* 'a' (any), 'c' or 'b' */
	int32_t major, minor; /* -1: any */
	unsigned access;      /* SPEC_ACCESS_* */
};

struct spec_linux {
	unsigned namespaces;     /* SPEC_NS_* */
	struct text_list sysctl; /* "name=value" */
	struct text_list masked_paths, readonly_paths;
	char *cgroups_path; /* may be NULL */
	struct spec_device *devices;
	size_t ndevices;
	struct spec_device_rule *rules; /* resources.devices */
	size_t nrules;
	uint64_t pids_limit;   /* resources.pids.limit; 0: any number */
	uint64_t memory_limit; /* resources.memory.limit, bytes; 0: any */
	uint64_t cpu_quota, cpu_period; /* us; 0: not given */
	struct json_t *seccomp;         /* as it is written; NULL: none */
};

struct spec {
	char *oci_version;
	char *root_path;
	bool root_readonly;
	char *hostname; /* NULL: none is set */
	bool has_process;
	struct spec_process process;
	struct spec_mount *mounts;
	size_t nmounts;
	struct text_list annotations; /* "name=value" */
	struct spec_linux linux_part;
};

void spec_done(struct spec *spec);
void spec_process_done(struct spec_process *process);

/*
 * Reads config.json, or the process alone (`exec --process`). NAME is for
 * messages. A key of the specification that is not supported here is refused by
 * its name, unless its value says nothing. A key that no specification has is
 * refused in the objects that are about isolation; elsewhere a warning names
 * it. -EINVAL, -ENOTSUP, -ENOMEM; RET is touched on success alone.
 */
int spec_read(const char *name, const char *text, size_t bytes,
	      struct spec *ret);
int spec_process_read(const char *name, const char *text, size_t bytes,
		      struct spec_process *ret);
/* JSON, which is borrowed, as what spec_json() made. */
int spec_from_json(const char *name, struct json_t *json, struct spec *ret);
/* The same from a file of at most SPEC_FILE_MAX bytes; -EFBIG, open(2)'s. */
int spec_read_file(const char *path, struct spec *ret);
int spec_process_read_file(const char *path, struct spec_process *ret);
/*
 * The content of such a file as it is, but for numbers from 2^63 on, which are
 * the negative ones of the same bits. A new reference; NULL: logged.
 */
struct json_t *spec_load_file(const char *path);

/*
 * Writes JSON that the readers take for the same. A new reference; NULL without
 * memory, logged, or where a name of a map is not UTF-8. Another text that is
 * not is {"escaped": TEXT}, where \xNN stands for a byte. No limit (in rlimits)
 * is -1; the profile of system calls has numbers from 2^63 on as the negative
 * ones of the same bits.
 */
struct json_t *spec_json(const struct spec *spec);
struct json_t *spec_process_json(const struct spec_process *process);

/*
 * JSON's text with its negative numbers as those without a sign, for other
 * programs. Allocated; NULL: no memory.
 */
char *spec_widen(const char *text);

/* Replaces what is there for TYPE. Cannot fail: TYPE < SPEC_RLIMITS_MAX. */
void spec_set_rlimit(struct spec_process *process, struct spec_rlimit limit);

/* Each adds an empty one. NULL: too many, or no memory; logged. */
struct spec_mount *spec_new_mount(struct spec *spec);
struct spec_device *spec_new_device(struct spec_linux *linux_part);
struct spec_device_rule *spec_new_rule(struct spec_linux *linux_part);

/*
 * Adds a mount of these texts, which are copied; OPTIONS has commas between. 0
 * or -errno, logged.
 */
int spec_add_mount(struct spec *spec, const char *destination, const char *type,
		   const char *source, const char *options);
/* Removes those that go to DESTINATION. */
void spec_remove_mounts(struct spec *spec, const char *destination);

/* Whether MOUNT shows a file or a directory of the host. */
bool spec_is_bind(const struct spec_mount *mount);

/* ---- system calls */

/* A program for seccomp(2). */
struct spec_filter {
	struct sock_filter *code; /* owned; NULL: there is no filter */
	size_t count;             /* at most 4096 */
	unsigned flags;           /* SECCOMP_FILTER_FLAG_* */
};

/*
 * Makes the filter that L's seccomp describes. NAME is for messages. Names of
 * calls that are not known here are left out, as other runtimes do; with a
 * default action that refuses, calls newer than all that it names fail with
 * ENOSYS. 0, -EINVAL, -ENOTSUP, -E2BIG, -ENOMEM, logged; RET is touched on
 * success alone.
 */
int spec_filter_make(const char *name, const struct spec_linux *l,
		     struct spec_filter *ret);
void spec_filter_done(struct spec_filter *filter);

/* ---- defaults */

struct spec_defaults {
	bool privileged;    /* nothing hidden or read-only, all devices */
	uint64_t shm_bytes; /* size of /dev/shm; 0: 64 MiB, as Docker's */
};

/*
 * Docker's default specification, less what a machine of its own has no use
 * for: fills in namespaces, mounts, sysctls, masked and read-only paths, rules
 * for devices. 0 or -errno, logged.
 */
int spec_add_defaults(struct spec *spec, const struct spec_defaults *defaults);

/*
 * Fills TO, zeroed before, with L's devices and rules, and after them with what
 * OCI has every container have, whatever its file says: nodes, and the rules by
 * which these can be used and nodes be made. 0 or -errno, logged; for
 * spec_linux_done() in either case.
 */
int spec_all_devices(const struct spec_linux *l, struct spec_linux *to);
void spec_linux_done(struct spec_linux *l);

/* A copy of TEXT in place of *TO, which is freed. TEXT may be NULL. */
int spec_set_text(char **to, const char *text);

/* USER as the agent takes it: "user[:group]", or in NUMBER "uid:gid". */
const char *spec_user_text(const struct spec_user *user, char number[24]);

#endif
