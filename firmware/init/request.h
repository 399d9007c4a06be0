/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests CONFIGURE and START, taken apart and checked. Strings are
 * borrowed from the request's bytes, which the structures own.
 */
#ifndef FIRMWARE_INIT_REQUEST_H
#define FIRMWARE_INIT_REQUEST_H

#include "firmware/init/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

struct sock_filter;

/* A list of strings that ends with NULL. */
struct init_strings {
	const char **list; /* owned; NULL when empty */
	size_t n;
};

struct init_mount {
	enum agent_mount_kind kind;
	const char *type; /* of a file system; of a share its tag */
	const char *subpath, *target, *options; /* never NULL */
};

struct init_device {
	struct agent_device wire; /* checked */
	const char *path;
};

struct init_address {
	struct agent_address wire; /* checked */
	bool gateway;
	unsigned link; /* index into the links */
};

struct init_link {
	uint32_t mtu;
	const char *name;
	bool has_mac; /* it is looked for by that, see struct agent_mac */
	bool gone;
	uint8_t mac[6];
};

struct init_route {
	struct agent_route wire; /* checked */
	unsigned link;           /* index into the links */
};

struct init_neighbour {
	struct agent_neighbour wire; /* checked */
	unsigned link;
};

/* See struct agent_clone. */
struct init_clone {
	const char *name, *source; /* NULL: it is none */
	uint32_t number;
	int signal; /* 0: none */
};

struct init_config {
	uint8_t *bytes; /* owned: what the strings are in */
	size_t nbytes;
	uint32_t flags;                  /* AGENT_CONFIG_* */
	const char *container;           /* NULL: the machine's own */
	const char *hostname, *root_tag; /* NULL: not given */
	const char *tree;                /* of the share; NULL: it has one */
	uint32_t root_flags;             /* AGENT_ROOT_* */
	struct init_mount *mounts;       /* owned, as the next two */
	size_t nmounts;
	struct init_link *links;
	size_t nlinks;
	struct init_address *addresses;
	size_t naddresses;
	struct init_route *routes; /* owned, as the next */
	size_t nroutes;
	struct init_neighbour *neighbours;
	size_t nneighbours;
	bool has_gone; /* something of these is to go */
	struct init_strings dns, search, hosts, sysctls;
	struct init_strings masked, readonly; /* paths */
	struct init_device *devices;          /* owned, as the next */
	size_t ndevices;
	struct agent_device_rule *rules; /* checked */
	size_t nrules;
	bool has_time;
	struct agent_time time;
	struct agent_entropy *entropy; /* in `bytes`; NULL: not given */
	struct init_clone clone;
	struct init_strings warm; /* of PREPARE: files */
	uint64_t pids_max; /* processes of the container; 0: any number */
	uint64_t cpu_quota, cpu_period; /* us; 0: all of the CPUs' time */
	uint64_t memory_max;            /* bytes; 0: all there is */
	const char *oci; /* NULL: crun does not run the container */
};

struct init_rlimit {
	int resource;
	struct rlimit limit;
};

/* Bit N: capability N. */
struct init_caps {
	uint64_t bounding, effective, permitted, inheritable, ambient;
};

struct init_start {
	uint8_t *bytes; /* owned: what the strings are in */
	size_t nbytes;
	uint32_t flags;        /* AGENT_START_* */
	const char *container; /* NULL: the machine's own */
	struct init_strings args, env, groups;
	const char *cwd, *user; /* NULL: not given */
	struct init_caps caps;
	bool root_caps; /* others than user 0 have the bounding set alone */
	struct init_rlimit *rlimits; /* owned */
	size_t nrlimits;
	uint32_t umask;
	int oom_score_adj;
	struct sock_filter *filter; /* owned; NULL: none */
	unsigned short nfilter;
	uint32_t filter_flags; /* SECCOMP_FILTER_FLAG_* */
	struct agent_size size;
};

/*
 * BYTES is taken over, also on failure. 0, or -1 with the failure filled in:
 * the request was not one.
 */
int init_config_parse(uint8_t *bytes, size_t n, struct init_config *ret,
		      struct init_failure *f);
int init_start_parse(uint8_t *bytes, size_t n, struct init_start *ret,
		     struct init_failure *f);

/*
 * The part of a configuration that AGENT_OWN_NETWORK has. BYTES is taken where
 * this returns 0. 0, or -1 with the failure filled in.
 */
int init_network_parse(uint8_t *bytes, size_t n, struct init_config *ret,
		       struct init_failure *f);

/*
 * The part of a configuration that AGENT_LIMIT has, of the container that RET
 * names. BYTES is taken over, also on failure. 0, or -1 with the failure filled
 * in.
 */
int init_limits_parse(uint8_t *bytes, size_t n, struct init_config *ret,
		      struct init_failure *f);

/*
 * The part of a configuration that AGENT_ATTACH has. BYTES is taken over, also
 * on failure. 0, or -1 with the failure filled in.
 */
int init_attach_parse(uint8_t *bytes, size_t n, struct init_config *ret,
		      struct init_failure *f);

/*
 * The part of a configuration that AGENT_PREPARE has. BYTES is taken over, also
 * on failure. 0, or -1 with the failure filled in.
 */
int init_prepare_parse(uint8_t *bytes, size_t n, struct init_config *ret,
		       struct init_failure *f);
/*
 * Whether the container that PREPARED has made is C's, but for what may differ.
 */
bool init_config_fits(const struct init_config *prepared,
		      const struct init_config *c);

/*
 * The container that a request is about which has no items besides; NULL: the
 * machine's own. Borrowed from BYTES. 0, or -1 with the failure filled in.
 */
int init_target_parse(const uint8_t *bytes, size_t n, const char **ret,
		      struct init_failure *f);

/*
 * Gives the capabilities that a process of UID gets.
 */
struct init_caps init_start_caps(const struct init_start *start, uint32_t uid);

/* Accept zeroed structures. */
void init_config_done(struct init_config *config);
void init_start_done(struct init_start *start);

#endif
