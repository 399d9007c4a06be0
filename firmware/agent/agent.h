/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words between `bulkhead` and bulkhead-init, the agent in a container's
 * VM: what goes over one connection of the guest's vsock device. docs/AGENT
 * tells the order of things; tools/agent/agent.h is the host's side as
 * functions.
 *
 * All numbers are little-endian, nothing is padded beyond what is written here.
 * Neither side trusts the other: a frame of unknown type, a length that does
 * not fit, a frame that has no place in the session's state end the session.
 */
#ifndef FIRMWARE_AGENT_AGENT_H
#define FIRMWARE_AGENT_AGENT_H

#include <assert.h>
#include <linux/types.h>
#include <stdint.h>

/*
 * Where the agent listens in the guest; and the port of the host it connects to
 * once when it has started: so the host need not ask again and again.
 */
#define AGENT_PORT 1024

#define AGENT_PAYLOAD_MAX  65536     /* bytes behind one header */
#define AGENT_REQUEST_MAX  (1 << 20) /* items of one request, in all */
#define AGENT_SESSIONS_MAX 128
/* Containers besides the machine's own, and bytes of their names. */
#define AGENT_CONTAINERS_MAX 64
#define AGENT_CONTAINER_NAME 200
/* How much standard input the host may send before it is told to go on. */
#define AGENT_STDIN_WINDOW 65536
#define AGENT_TEXT_MAX     1024 /* of an agent_failed, with its NUL */

/* Every frame: this, then `bytes` of payload. */
struct agent_frame {
	__le32 bytes;
	__le16 type;     /* enum agent_type */
	__le16 reserved; /* 0 */
};
static_assert(sizeof(struct agent_frame) == 8, "as on the wire");

/* H: the host sends it; G: the guest does. */
enum agent_type {
	AGENT_HELLO = 1,     /* H G  agent_hello, first frame each way */
	AGENT_ITEMS = 2,     /* H    a part of a request's items */
	AGENT_CONFIGURE = 3, /* H    acts on the items; the answer: DONE */
	AGENT_START = 4,     /* H    acts on the items; STARTED */
	AGENT_CLOCK = 5,     /* H    agent_time; DONE, or none to a process */
	AGENT_SHUTDOWN = 6,  /* H    agent_shutdown; DONE, then the VM ends */
	AGENT_INFO = 7,      /* H    empty; agent_info under the same type */
	AGENT_STDIN = 8,     /* H    data, within the window */
	AGENT_STDIN_EOF = 9, /* H    empty; no STDIN follows */
	AGENT_RESIZE = 10,   /* H    agent_size */
	AGENT_SIGNAL = 11,   /* H    agent_signal */
	AGENT_EXIT_ACK = 12, /* H    empty; EXIT has arrived */
	AGENT_CLOSED = 13,   /* H    agent_stream: nobody takes its output */
	AGENT_WATCH = 14,    /* H    agent_watch; no answer, but EVENTs */
	AGENT_STATS = 15,    /* H    empty; agent_usage under the same type */
	AGENT_FREEZE = 16,   /* H    agent_freeze; DONE; since 1.8 */
	AGENT_LIMIT = 17,    /* H    acts on the items; DONE; since 1.11 */
	AGENT_HOLD = 18,     /* H    agent_freeze; DONE; since 1.14 */
	AGENT_ATTACH = 19,   /* H    acts on the items; STARTED; since 1.14 */
	AGENT_PREPARE = 20,  /* H    acts on the items; DONE; since 1.16 */

	AGENT_DONE = 32,         /*   G empty */
	AGENT_FAILED = 33,       /*   G agent_failed: the request's end */
	AGENT_STARTED = 34,      /*   G agent_started */
	AGENT_STDOUT = 35,       /*   G data; with a terminal: all output */
	AGENT_STDERR = 36,       /*   G data */
	AGENT_STDIN_MORE = 37,   /*   G agent_credit */
	AGENT_STDIN_CLOSED = 38, /*   G empty: nobody reads it any more */
	AGENT_EXIT = 39,         /*   G agent_exit, the last frame */
	AGENT_EVENT = 40,        /*   G agent_event, at any time after WATCH */
};

/* The same major number on both sides, or the session ends. */
#define AGENT_MAGIC "BHA1"
#define AGENT_MAJOR 1
#define AGENT_MINOR 16
struct agent_hello {
	__u8 magic[4];
	__le16 major, minor;
};
static_assert(sizeof(struct agent_hello) == 8, "as on the wire");

/*
 * Requests are made of items: the payloads of all AGENT_ITEMS frames one after
 * the other, wherever the frames' borders are. Each item is this header and
 * `bytes` of content: first the structure named below, if any, then the strings
 * named, each with its NUL, and nothing else.
 */
struct agent_item {
	__le16 key; /* enum agent_key */
	__le16 reserved;
	__le32 bytes;
};
static_assert(sizeof(struct agent_item) == 8, "as on the wire");

enum agent_key {
	/* CONFIGURE, each once unless noted; three of them ATTACH */
	AGENT_ITEM_FLAGS = 1,     /* agent_flags, AGENT_CONFIG_*; or _START_* */
	AGENT_ITEM_HOSTNAME = 2,  /* name */
	AGENT_ITEM_ROOT = 3,      /* agent_flags, AGENT_ROOT_*; tag */
	AGENT_ITEM_MOUNT = 4,     /* agent_mount_item; 4 strings; many */
	AGENT_ITEM_LINK = 5,      /* agent_link_item; name; many */
	AGENT_ITEM_ADDRESS = 6,   /* agent_address, of the last LINK; many */
	AGENT_ITEM_GATEWAY = 7,   /* agent_address, of the last LINK; many */
	AGENT_ITEM_DNS = 8,       /* address of a name server; many */
	AGENT_ITEM_SEARCH = 9,    /* domain; many */
	AGENT_ITEM_HOST = 10,     /* a line for /etc/hosts; many */
	AGENT_ITEM_SYSCTL = 11,   /* "name=value"; many */
	AGENT_ITEM_TIME = 12,     /* agent_time */
	AGENT_ITEM_MASKED = 13,   /* path that is hidden; many */
	AGENT_ITEM_OCI = 14,      /* config.json for crun, see AGENT_OCI_ROOT */
	AGENT_ITEM_PIDS = 15,     /* agent_number: processes at most; 0: any */
	AGENT_ITEM_READONLY = 16, /* path that becomes read-only; many */
	AGENT_ITEM_DEVICE = 17,   /* agent_device; path; many */
	AGENT_ITEM_RULE = 18,     /* agent_device_rule; many */
	AGENT_ITEM_MAC = 19,      /* agent_mac, of the last LINK; 1.7 */
	AGENT_ITEM_ROUTE = 20,    /* agent_route, of the last LINK; many; 1.7 */
	AGENT_ITEM_NEIGHBOUR = 21, /* agent_neighbour, of it; many; 1.7 */
	AGENT_ITEM_CPU = 22,       /* agent_cpu; since 1.7 */
	AGENT_ITEM_MEMORY = 23,    /* agent_number, see CONTAINER; 1.8 */
	AGENT_ITEM_TREE = 24,      /* name, see CONTAINER; 1.8 */
	AGENT_ITEM_ENTROPY = 25,   /* agent_entropy; since 1.12 */
	AGENT_ITEM_CLONE = 26,     /* agent_clone; 2 names; ATTACH; 1.15 */
	AGENT_ITEM_WARM = 27,      /* path; PREPARE; many; 1.16 */

	/* CONFIGURE, START, SIGNAL, STATS, FREEZE, LIMIT */
	AGENT_ITEM_CONTAINER = 31, /* name: which one is meant; 1.8 */

	/* START */
	AGENT_ITEM_ARG = 32,      /* argument; many, at least one */
	AGENT_ITEM_ENV = 33,      /* "NAME=value"; many */
	AGENT_ITEM_CWD = 34,      /* path */
	AGENT_ITEM_USER = 35,     /* "user", "uid", "user:group", "uid:gid" */
	AGENT_ITEM_GROUP = 36,    /* supplementary, name or number; many */
	AGENT_ITEM_CAPS = 37,     /* agent_caps */
	AGENT_ITEM_RLIMIT = 38,   /* agent_rlimit; many */
	AGENT_ITEM_SIZE = 39,     /* agent_size: the terminal's */
	AGENT_ITEM_CAP_SETS = 40, /* agent_cap_sets, in place of CAPS; 1.4 */
	AGENT_ITEM_FILTER = 41,   /* agent_filter; since 1.6 */
	AGENT_ITEM_UMASK = 42,    /* agent_flags: umask(2); 1.7 */
	AGENT_ITEM_OOM = 43,      /* agent_oom: -1000 to 1000; 1.7 */
};

/* Where programs are looked for if ENV has no PATH. */
#define AGENT_PATH                                                             \
	"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* AGENT_ITEM_FLAGS of CONFIGURE. */
#define AGENT_CONFIG_HOST_BOUND 0x1 /* ends with the main process's session */
#define AGENT_CONFIG_KEEP_ETC   0x2 /* hosts and hostname are the root's */
#define AGENT_CONFIG_SHARE_UTS  0x4 /* with CONTAINER: those of the */
#define AGENT_CONFIG_SHARE_IPC  0x8 /* machine's own container */
#define AGENT_CONFIG_SHARE_PID  0x10
#define AGENT_CONFIG_SHARED     0x1c
#define AGENT_CONFIG_FLAGS      0x1f

/*
 * AGENT_ITEM_CONTAINER, since 1.8: a container besides the machine's own, the
 * one that no request has to name. It is there from its CONFIGURE on, as long
 * as that session is or its main process runs, while the machine's own runs. It
 * has no items of the machine's: LINK and what belongs to it, TIME, ENTROPY,
 * OCI. In return it may have MEMORY, its own limit in bytes, and must have
 * TREE: the root is the tree of that name in the share of ROOT; and each SHARE
 * among its MOUNTs is a share of trees as well, in which the path begins with a
 * tree's name. Trees may come and go while the machine runs, so the agent
 * mounts such a share once, for all containers.
 *
 * AGENT_LIMIT changes the limits of such a container while it runs. Beside
 * CONTAINER it may have MEMORY, PIDS and CPU; a limit that it does not have, or
 * that is 0, stays as it is, and AGENT_NO_LIMIT takes one away.
 */
#define AGENT_NO_LIMIT UINT64_MAX

/* AGENT_ITEM_FLAGS of START. */
#define AGENT_START_MAIN         0x01 /* the container's; its end is the VM's */
#define AGENT_START_STDIN        0x02 /* else /dev/null */
#define AGENT_START_TTY          0x04
#define AGENT_START_NO_NEW_PRIVS 0x08
#define AGENT_START_INIT         0x10 /* MAIN: a process that reaps is PID 1 */
#define AGENT_START_OWN          0x20 /* a program of the agent's own, below */
#define AGENT_START_ROOT_CAPS    0x40 /* CAP_SETS are for user 0; see there */
#define AGENT_START_BOUND        0x80 /* ends with its session; since 1.7 */
#define AGENT_START_FLAGS        0xff

/* AGENT_ITEM_ROOT: a share as it is, or below a file system in memory. */
#define AGENT_ROOT_OVERLAY  0x1
#define AGENT_ROOT_READONLY 0x2
#define AGENT_ROOT_FLAGS    0x3

struct agent_flags {
	__le32 flags;
};

/*
 * AGENT_START_OWN, since minor version 3: the first ARG names one of these, the
 * others are its arguments. It is a process of the agent's, no program of the
 * container's, and ends with its session.
 *
 * AGENT_OWN_TOP writes a line for each process of the container, by ascending
 * numbers: "PID PPID UID AGE CPU TTY<tab>USER<tab>COMMAND". The numbers are
 * the container's (PPID 0: a process outside); AGE since its start and CPU time
 * in ms; TTY "?": none; USER is UID where that has no name. COMMAND, its
 * arguments with blanks between, has at most AGENT_TOP_COMMAND bytes. No text
 * has control characters, and only COMMAND may be empty.
 */
#define AGENT_OWN_TOP     "top"
#define AGENT_TOP_COMMAND 4096

/*
 * AGENT_OWN_PACK, letters, path: writes the file or tree as a tar archive, its
 * own name first, or "." where the path ends with "/.". AGENT_OWN_UNPACK,
 * letters, path: unpacks an archive from standard input there. Paths and what
 * is found on the way are the container's; relative ones begin at its root. No
 * letters are "".
 */
#define AGENT_OWN_PACK   "pack"
#define AGENT_OWN_UNPACK "unpack"
#define AGENT_OWN_FOLLOW 'L' /* pack: the path, where it is a link */
#define AGENT_OWN_OWNERS 'a' /* unpack: owners are kept, else all is root's */
#define AGENT_OWN_AS_IS  'n' /* unpack: so are all names in the archive */

/*
 * AGENT_OWN_NAMES, addresses, since 1.7: a name server at port 53 of each of
 * these, which the host answers; before the container runs, too. Standard
 * output has queries, standard input answers: agent_name and so many bytes. The
 * first record of the output is all zero: it listens from now on. No bytes are
 * no answer. At most AGENT_NAMES_MAX queries have none yet.
 */
#define AGENT_OWN_NAMES     "names"
#define AGENT_NAMES_SERVERS 3
#define AGENT_NAMES_MAX     64
#define AGENT_NAMES_BYTES                                                      \
	65000 /* of one; with its record within the window                     \
	       */
struct agent_name {
	__le32 id; /* of the query, by the guest; not 0 */
	__le16 bytes;
	__u8 server; /* of a query: which address, from 0 */
	__u8 tcp;    /* of a query: 1 or 0, by UDP */
};
static_assert(sizeof(struct agent_name) == 8, "as on the wire");

/*
 * AGENT_OWN_CONNECT, port, since 1.9: connects to that port of the guest's
 * loopback, 127.0.0.1 or else ::1. Standard input goes there, standard output
 * has what comes from there; it ends when that does, with status 1 where
 * nothing listens or the connection breaks. The container need not run.
 */
#define AGENT_OWN_CONNECT "connect"

/*
 * AGENT_OWN_NETWORK, since 1.10: changes interfaces of the machine while it
 * runs. Standard input has items as of a CONFIGURE: LINK, each with a MAC, and
 * what belongs to it. Where no interface has that address yet, the guest looks
 * for network devices that have come. A link that is GONE loses its device; an
 * address, route or neighbour that is, the interface; others it gets, or keeps.
 * Status 0, or 125 and a line on standard error. The container need not run.
 */
#define AGENT_OWN_NETWORK "network"

/*
 * AGENT_ITEM_OCI: crun runs the container, by this config.json. The agent puts
 * "process" into it, from START; so it has none. The root is mounted at
 * AGENT_OCI_ROOT, the share of the Nth MOUNT (from 0) at AGENT_OCI_VOLUME "N";
 * other mounts, and what is made of these, is config.json's to say, and so are
 * masked and read-only paths, devices and their rules. With
 * AGENT_START_INIT the agent's program has to be at AGENT_OCI_REAPER in the
 * container: a bind mount of AGENT_OCI_INIT.
 */
#define AGENT_OCI_ROOT   "/newroot"
#define AGENT_OCI_VOLUME "/volume"
#define AGENT_OCI_INIT   "/init"
#define AGENT_OCI_REAPER "/dev/bulkhead-init"
#define AGENT_OCI_CRUN   "/bin/crun" /* in the initrd; libraries in /lib */

enum agent_mount_kind {
	/* strings: tag, path in the share, target, options of the mount */
	AGENT_MOUNT_SHARE = 1,
	/* strings: type, "", target, options of mount and file system */
	AGENT_MOUNT_FILESYSTEM = 2,
};
struct agent_mount_item {
	__le32 kind;
};

/* A node that is made, unless something of that name is there. */
struct agent_device {
	__le32 type; /* 'c' or 'b' */
	__le32 major, minor;
	__le32 mode; /* permissions */
	__le32 uid, gid;
};
static_assert(sizeof(struct agent_device) == 24, "as on the wire");

/*
 * Which devices can be used: the last rule that fits an access counts, and what
 * none fits is forbidden. Without any rule all are allowed. A rule that allows
 * fits an access that wants no more than it names; one that forbids fits an
 * access that wants any of it.
 */
#define AGENT_ACCESS_MKNOD 0x1
#define AGENT_ACCESS_READ  0x2
#define AGENT_ACCESS_WRITE 0x4
#define AGENT_ACCESS_ALL   0x7
#define AGENT_RULES_MAX    512
struct agent_device_rule {
	__le32 allow;        /* 0 or 1 */
	__le32 type;         /* 'a' (any), 'c' or 'b' */
	__le32 major, minor; /* all ones: any */
	__le32 access;       /* AGENT_ACCESS_* */
};
static_assert(sizeof(struct agent_device_rule) == 20, "as on the wire");

struct agent_link_item {
	__le32 mtu; /* 0: as it is */
};

/*
 * The interface that has this address is meant, and gets LINK's name; and it
 * has what is given for it and nothing else: no IPv6 address that it makes
 * itself, no route that comes with an address.
 */
#define AGENT_GONE 0x1 /* of flags, only with AGENT_OWN_NETWORK */
struct agent_mac {
	__u8 mac[6];
	__u8 flags;
	__u8 reserved;
};
static_assert(sizeof(struct agent_mac) == 8, "as on the wire");

struct agent_address {
	__u8 family; /* 4 or 6 */
	__u8 prefix; /* bits; 0 for a gateway */
	__u8 flags;
	__u8 reserved;
	__u8 address[16]; /* of an IPv4 one the first 4; the rest is 0 */
};
static_assert(sizeof(struct agent_address) == 20, "as on the wire");

/* Only for a LINK with a MAC. Addresses are as in agent_address. */
#define AGENT_ROUTE_GATEWAY 0x1 /* by `gateway`; else what is on the link */
#define AGENT_ROUTE_SOURCE  0x2 /* from the address `source` */
#define AGENT_ROUTE_ONLINK  0x4 /* the gateway is on the link, whatever else */
#define AGENT_ROUTE_GONE    0x8 /* as AGENT_GONE */
#define AGENT_ROUTE_FLAGS   0xf
struct agent_route {
	__u8 family;        /* 4 or 6 */
	__u8 prefix;        /* bits of the destination */
	__u8 flags;         /* AGENT_ROUTE_* */
	__u8 scope;         /* RT_SCOPE_* of Linux */
	__le32 metric, mtu; /* 0: none */
	__u8 destination[16], gateway[16], source[16];
};
static_assert(sizeof(struct agent_route) == 60, "as on the wire");

/* A permanent entry. */
struct agent_neighbour {
	__u8 family; /* 4 or 6 */
	__u8 flags;
	__u8 mac[6];
	__u8 address[16];
};
static_assert(sizeof(struct agent_neighbour) == 24, "as on the wire");

struct agent_time {
	__le64 seconds; /* since 1970, UTC */
	__le32 nanoseconds;
	__le32 reserved;
};
static_assert(sizeof(struct agent_time) == 16, "as on the wire");

/*
 * Random bytes of the host's: the guest's kernel mixes them in and makes new
 * keys of its generators before the request is answered.
 */
struct agent_entropy {
	__u8 bytes[64];
};

struct agent_number {
	__le64 number;
};

/* cpu.max of the container's group, in us of all CPUs' time. */
struct agent_cpu {
	__le64 quota, period;
};

/* Bit N: capability N may be had. User 0 has all of these, others none. */
struct agent_caps {
	__le64 mask;
};

/*
 * The same as Linux's five sets. With AGENT_START_ROOT_CAPS others than user 0
 * have the bounding set alone.
 */
struct agent_cap_sets {
	__le64 bounding, effective, permitted, inheritable, ambient;
};
static_assert(sizeof(struct agent_cap_sets) == 40, "as on the wire");

/* The capabilities of Docker's containers when nothing is added or dropped. */
#define AGENT_CAPS_DEFAULT UINT64_C(0xa80425fb)

struct agent_rlimit {
	__le32 resource; /* RLIMIT_* of Linux on x86-64 */
	__le32 reserved;
	__le64 soft, hard; /* all ones: unlimited */
};
static_assert(sizeof(struct agent_rlimit) == 24, "as on the wire");

/*
 * A filter of system calls: a program for seccomp(2), as many instructions as
 * the item has room for. A container that crun runs has it from config.json:
 * there this item changes nothing.
 */
#define AGENT_FILTER_MAX 4096
#define AGENT_FILTER_FLAGS                                                     \
	0x7 /* SECCOMP_FILTER_FLAG_TSYNC, LOG, SPEC_ALLOW                      \
	     */
struct agent_filter_code {
	__le16 code;
	__u8 jt, jf;
	__le32 k;
};
struct agent_filter {
	__le32 flags;
	struct agent_filter_code code[AGENT_FILTER_MAX];
};
static_assert(sizeof(struct agent_filter) == 4 + 8 * AGENT_FILTER_MAX,
	      "as on the wire");

/*
 * Where the kernel looks first when it kills for lack of memory: the agent
 * itself has 0.
 */
struct agent_oom {
	__le32 score_adj; /* in two's complement */
};

struct agent_size {
	__le16 rows, columns;
};
static_assert(sizeof(struct agent_size) == 4, "as on the wire");

/* In a session with a process: to it; before any: to the main process. */
struct agent_signal {
	__le32 signal; /* 1..64 */
};

/* A container stands still, or goes on: its control group does. */
struct agent_freeze {
	__le32 frozen; /* 0 or 1 */
};

/*
 * AGENT_HOLD, since 1.14: the machine's own container stands still, so that the
 * machine can be saved, until the same session says otherwise or ends. Where
 * the machine goes on from what was saved, both this session and the main
 * process's have ended. Then the container goes on standing still, and the main
 * process waits for another host, whatever HOST_BOUND says: the agent connects
 * to the host again, which begins with AGENT_ATTACH in place of CONFIGURE and
 * START. Its items may be ENTROPY, TIME, HOSTNAME and CLONE, in force before
 * any process goes on. The session is the main process's from STARTED on, as
 * after START, but for its window of standard input, which the first STDIN_MORE
 * opens. Output that no session has had is in it.
 */

/*
 * AGENT_ITEM_CLONE, since 1.15: the container is one of several that go on from
 * what was saved. The names are its own and that of the one that was saved. It
 * finds them in AGENT_CLONE_FILE, and SIGNAL waits for its main process.
 */
struct agent_clone {
	__le32 number; /* of several; from 1 on */
	__le32 signal; /* 1..64; 0: none */
};
static_assert(sizeof(struct agent_clone) == 8, "as on the wire");
#define AGENT_CLONE_FILE "/dev/bulkhead/clone"

/*
 * AGENT_PREPARE, since 1.16: makes all of the machine's own container that does
 * not depend on the single run, so that the machine can be saved with it. Its
 * main process waits in there, and becomes START's program. It has the items of
 * CONFIGURE that make a container: no CONTAINER, LINK, TIME, ENTROPY or OCI. It
 * may have WARM, paths in the container: the first file that is there is read,
 * and its interpreter, so that they are in the guest's memory. CONFIGURE
 * follows as ever, with all items: HOSTNAME, HOST, DNS and SEARCH may be others
 * than in PREPARE, where that had some; the rest is the same.
 */

/* SIGNAL to the main process, SIGKILL after the time, then power-off. */
struct agent_shutdown {
	__le32 signal; /* 0: SIGTERM */
	__le32 grace_ms;
};

/* STATUS is what `docker run` ends with: 125, 126 or 127. */
struct agent_failed {
	__le32 status;
	__le32 error; /* errno of Linux, or 0 */
	/* then a text of at most AGENT_TEXT_MAX bytes with its NUL */
};

struct agent_started {
	__le32 pid; /* as the container sees it */
};

/* 1: standard output, 2: standard error. The process gets SIGPIPE there. */
struct agent_stream {
	__le32 stream;
};

struct agent_credit {
	__le32 bytes; /* so many more may be sent */
};

/*
 * The guest had no memory left for it; or, if it is the main process of a
 * container besides the machine's own, for one of that.
 */
#define AGENT_EXIT_OOM 1
/*
 * Since 1.13: it was the machine's main process, and no session has another
 * one. A machine that can change nothing of its host's need not power off.
 */
#define AGENT_EXIT_LAST 2

struct agent_exit {
	__le32 status; /* 0..255, or 0 */
	__le32 signal; /* that ended it, or 0 */
	__le32 flags;  /* AGENT_EXIT_*; others are ignored */
};
static_assert(sizeof(struct agent_exit) == 12, "as on the wire");

/*
 * Short is memory when less than this part of all can be had without killing
 * somebody; it is enough again with twice as much.
 */
struct agent_watch {
	__le32 percent; /* 1..99 */
};

enum agent_event_kind {
	AGENT_EVENT_SHORT = 1,
	AGENT_EVENT_ENOUGH = 2,
	AGENT_EVENT_KILLED = 3, /* a process, which is not the session's own */
};
struct agent_event {
	__le32 kind;
	__le32 reserved;
	__le64 memory_total, memory_available; /* bytes */
	__le64 oom_kills;                      /* since the guest started */
};
static_assert(sizeof(struct agent_event) == 32, "as on the wire");

/* The container's use of the machine, by its control group; since 1.5. */
struct agent_usage {
	__le64 time_us; /* of the guest's clock, for differences */
	__le64 cpu_us;
	__le64 memory;         /* bytes, without page cache that can go */
	__le64 memory_limit;   /* the group's or the machine's */
	__le64 net_rx, net_tx; /* bytes of all interfaces but lo */
	__le64 pids;           /* processes and threads */
};
static_assert(sizeof(struct agent_usage) == 56, "as on the wire");

struct agent_info {
	__le64 memory_total, memory_available; /* bytes */
	__le64 oom_kills;                      /* since the guest started */
	__le64 uptime_ms;
	__le32 processes; /* sessions with a process that runs */
	__le32 running;   /* 1: the main process is one of them */
};
static_assert(sizeof(struct agent_info) == 40, "as on the wire");

#endif
