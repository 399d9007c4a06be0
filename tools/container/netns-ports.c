/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program of the kernel's (BPF, sk_lookup) that says for this network
 * namespace which socket a connection is for: any to 127.0.0.1 is for the one
 * that listens here, whatever its port. No rule of a packet filter, no address
 * and no other socket of the namespace is changed.
 */
#include "tools/container/netns-ports.h"

#include "tools/agent/agent.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct netns_ports {
	int link; /* owned: the program is in force as long as it is open */
	struct agent_ports *ports; /* owned */
};

static int bpf(int command, const union bpf_attr *attr)
{
	const long r = syscall(SYS_bpf, command, attr, sizeof(*attr));

	return r < 0 ? -errno : (int)r;
}

/* 127.0.0.1, any port of which is free: no other one can ever take it. */
static int listen_here(void)
{
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	autofd int fd =
		socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (const void *)&address, sizeof(address)) < 0 ||
	    listen(fd, AGENT_PORTS_STREAMS) < 0)
		return -errno;
	return take_fd(&fd);
}

/* A map with FD as its only socket. */
static int make_map(int fd)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_SOCKMAP,
		.key_size = sizeof(uint32_t),
		.value_size = sizeof(uint64_t),
		.max_entries = 1,
	};
	const uint32_t key = 0;
	const uint64_t value = (uint64_t)fd;
	autofd int map = bpf(BPF_MAP_CREATE, &attr);
	int r;

	if (map < 0)
		return map;
	attr = (union bpf_attr){
		.map_fd = (uint32_t)map,
		.key = (uint64_t)(uintptr_t)&key,
		.value = (uint64_t)(uintptr_t)&value,
	};
	r = bpf(BPF_MAP_UPDATE_ELEM, &attr);
	return r < 0 ? r : take_fd(&map);
}

#define LOAD(to, from, field)                                                  \
	{                                                                      \
		.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = (to),            \
		.src_reg = (from),                                             \
		.off = offsetof(struct bpf_sk_lookup, field)                   \
	}
#define SET(to, value)                                                         \
	{                                                                      \
		.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (to),          \
		.imm = (value)                                                 \
	}
#define COPY(to, from)                                                         \
	{                                                                      \
		.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = (to),          \
		.src_reg = (from)                                              \
	}
#define UNLESS(reg, value, skip)                                               \
	{                                                                      \
		.code = BPF_JMP32 | BPF_JNE | BPF_K, .dst_reg = (reg),         \
		.off = (skip), .imm = (int32_t)(value)                         \
	}
#define CALL(function)                                                         \
	{                                                                      \
		.code = BPF_JMP | BPF_CALL, .imm = (function)                  \
	}

static int load_program(int map)
{
	const struct bpf_insn code[] = {
		COPY(BPF_REG_6, BPF_REG_1),
		LOAD(BPF_REG_2, BPF_REG_6, family),
		UNLESS(BPF_REG_2, AF_INET, 18),
		LOAD(BPF_REG_2, BPF_REG_6, protocol),
		UNLESS(BPF_REG_2, IPPROTO_TCP, 16),
		LOAD(BPF_REG_2, BPF_REG_6, local_ip4),
		UNLESS(BPF_REG_2, htonl(INADDR_LOOPBACK), 14),
		/* The socket with the key 0, which is on the stack. */
		{.code = BPF_ST | BPF_MEM | BPF_W,
		 .dst_reg = BPF_REG_10,
		 .off = -4},
		COPY(BPF_REG_2, BPF_REG_10),
		{.code = BPF_ALU64 | BPF_ADD | BPF_K,
		 .dst_reg = BPF_REG_2,
		 .imm = -4},
		{.code = BPF_LD | BPF_IMM | BPF_DW,
		 .dst_reg = BPF_REG_1,
		 .src_reg = BPF_PSEUDO_MAP_FD,
		 .imm = map},
		{0},
		CALL(BPF_FUNC_map_lookup_elem),
		{.code = BPF_JMP | BPF_JEQ | BPF_K,
		 .dst_reg = BPF_REG_0,
		 .off = 7},
		COPY(BPF_REG_7, BPF_REG_0),
		COPY(BPF_REG_1, BPF_REG_6),
		COPY(BPF_REG_2, BPF_REG_7),
		SET(BPF_REG_3, 0),
		CALL(BPF_FUNC_sk_assign),
		COPY(BPF_REG_1, BPF_REG_7),
		CALL(BPF_FUNC_sk_release),
		SET(BPF_REG_0, SK_PASS),
		{.code = BPF_JMP | BPF_EXIT},
	};
	const union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SK_LOOKUP,
		.expected_attach_type = BPF_SK_LOOKUP,
		.insns = (uint64_t)(uintptr_t)code,
		.insn_cnt = ARRAY_LEN(code),
		.license = (uint64_t)(uintptr_t) "Apache-2.0",
		.prog_name = "bulkhead_ports",
	};

	return bpf(BPF_PROG_LOAD, &attr);
}

/* The link, which holds the program, which holds the map, which holds FD. */
static int attach(int fd)
{
	autofd int net = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	autofd int map = -1, program = -1;
	union bpf_attr attr = {0};

	if (net < 0)
		return -errno;
	map = make_map(fd);
	if (map < 0)
		return map;
	program = load_program(map);
	if (program < 0)
		return program;
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.target_fd = (uint32_t)net;
	attr.link_create.attach_type = BPF_SK_LOOKUP;
	return bpf(BPF_LINK_CREATE, &attr);
}

static int start(struct netns_ports *p,
		 int (*connect)(void *arg, struct agent_session **ret),
		 void *arg)
{
	struct agent_ports_options options = {.connect = connect, .arg = arg};
	autofd int fd = listen_here();

	if (fd < 0)
		return fd;
	p->link = attach(fd);
	if (p->link < 0)
		return p->link;
	options.fd = take_fd(&fd);
	return agent_ports_open(&options, &p->ports);
}

int netns_ports_open(int (*connect)(void *arg, struct agent_session **ret),
		     void *arg, struct netns_ports **ret)
{
	struct netns_ports *p = calloc(1, sizeof(*p));
	int r = -ENOMEM;

	if (p) {
		p->link = -1;
		r = start(p, connect, arg);
	}
	if (r == 0) {
		*ret = p;
		return 0;
	}
	netns_ports_close(p);
	log_warn("connections to the loopback do not reach the guest's: %s",
		 strerror(-r));
	return r;
}

void netns_ports_close(struct netns_ports *p)
{
	if (!p)
		return;
	util_close(&p->link);
	agent_ports_close(p->ports);
	free(p);
}
