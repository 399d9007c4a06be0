/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.seccomp as a program of the kernel's (classic BPF), by libseccomp.
 * Names of system calls and what becomes of unlisted ones are as runc has them,
 * as engines' profiles are written for it.
 */
#include "tools/spec/spec-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define ARCHITECTURES_MAX 3
#define ARGS_MAX          6 /* of a system call */
#define CONDITIONS_MAX    64
#define X32_BIT           0x40000000U

/* For libseccomp and for the stub. */
struct profile {
	scmp_filter_ctx ctx; /* owned */
	uint32_t action;     /* the default one */
	int number;          /* defaultErrnoRet; -1: not given */
	uint32_t flags;
	uint32_t arch[ARCHITECTURES_MAX]; /* SCMP_ARCH_* */
	size_t narch;
	json_t *syscalls; /* borrowed; may be NULL */
	/* The largest number that a rule has; 0: none. */
	unsigned last_64, last_32;
};

struct call {
	json_t *names; /* borrowed; may be NULL */
	uint32_t action;
	bool has_action;
	int number; /* errnoRet; -1: not given */
	struct scmp_arg_cmp condition[CONDITIONS_MAX];
	unsigned nconditions;
};

/* ---- values */

/* 0, -EINVAL or -ENOTSUP, logged. */
static int read_action(const struct spec_place *at, json_t *json, void *to)
{
	static const struct {
		const char *name;
		uint32_t action;
	} known[] = {
		{"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
		{"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0)},
		{"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
		{"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
		{"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
		{"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
		{"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0)},
		{"SCMP_ACT_LOG", SCMP_ACT_LOG},
	};
	const char *text = json_string_value(json);

	for (unsigned i = 0; text && i < ARRAY_LEN(known); i++) {
		if (strcmp(known[i].name, text) != 0)
			continue;
		*(uint32_t *)to = known[i].action;
		return 0;
	}
	if (text && strcmp(text, "SCMP_ACT_NOTIFY") == 0)
		return spec_fail(at, -ENOTSUP,
				 "SCMP_ACT_NOTIFY is not supported: a guest "
				 "has nobody to ask");
	return spec_fail(at, -EINVAL, "expected an action like SCMP_ACT_ERRNO");
}

static int read_call_action(const struct spec_place *at, json_t *json, void *to)
{
	struct call *call = to;

	call->has_action = true;
	return read_action(at, json, &call->action);
}

/* The kernel has 16 bits for it. */
static int read_number(const struct spec_place *at, json_t *json, void *to)
{
	uint16_t n = 0;
	int r = spec_read_u16(at, json, &n);

	if (r == 0)
		*(int *)to = n;
	return r;
}

/* NUMBER -1: the specification's default. The result is 0 or -EINVAL, logged.
 */
static int set_number(const struct spec_place *at, const char *key,
		      uint32_t *action, int number)
{
	const struct spec_place here = {at, key, 0};

	if (*action == SCMP_ACT_ERRNO(0) || *action == SCMP_ACT_TRACE(0))
		*action |= (uint32_t)(number < 0 ? EPERM : number);
	else if (number >= 0)
		return spec_fail(&here, -EINVAL,
				 "goes with SCMP_ACT_ERRNO and SCMP_ACT_TRACE "
				 "only");
	return 0;
}

/* The other ones of the specification cannot occur on x86-64. */
static int add_architecture(const struct spec_place *at, json_t *json, void *to)
{
	static const struct {
		const char *name;
		uint32_t arch;
	} known[] = {
		{"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64},
		{"SCMP_ARCH_X86", SCMP_ARCH_X86},
		{"SCMP_ARCH_X32", SCMP_ARCH_X32},
		{"SCMP_ARCH_ARM", 0},
		{"SCMP_ARCH_AARCH64", 0},
		{"SCMP_ARCH_LOONGARCH64", 0},
		{"SCMP_ARCH_M68K", 0},
		{"SCMP_ARCH_MIPS", 0},
		{"SCMP_ARCH_MIPS64", 0},
		{"SCMP_ARCH_MIPS64N32", 0},
		{"SCMP_ARCH_MIPSEL", 0},
		{"SCMP_ARCH_MIPSEL64", 0},
		{"SCMP_ARCH_MIPSEL64N32", 0},
		{"SCMP_ARCH_PARISC", 0},
		{"SCMP_ARCH_PARISC64", 0},
		{"SCMP_ARCH_PPC", 0},
		{"SCMP_ARCH_PPC64", 0},
		{"SCMP_ARCH_PPC64LE", 0},
		{"SCMP_ARCH_RISCV64", 0},
		{"SCMP_ARCH_S390", 0},
		{"SCMP_ARCH_S390X", 0},
		{"SCMP_ARCH_SH", 0},
		{"SCMP_ARCH_SHEB", 0},
	};
	struct profile *p = to;
	const char *text = json_string_value(json);
	unsigned i = 0;

	while (text && i < ARRAY_LEN(known) && strcmp(known[i].name, text) != 0)
		i++;
	if (!text || i == ARRAY_LEN(known))
		return spec_fail(at, -EINVAL,
				 "expected an architecture like "
				 "SCMP_ARCH_X86_64");
	for (size_t k = 0; k < p->narch; k++)
		if (p->arch[k] == known[i].arch)
			return 0;
	if (known[i].arch)
		p->arch[p->narch++] = known[i].arch;
	return 0;
}

static int read_architectures(const struct spec_place *at, json_t *json,
			      void *to)
{
	return spec_read_list(at, json, add_architecture, to);
}

static int add_flag(const struct spec_place *at, json_t *json, void *to)
{
	static const struct {
		const char *name;
		uint32_t flag;
	} known[] = {
		{"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
		{"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
		{"SECCOMP_FILTER_FLAG_SPEC_ALLOW",
		 SECCOMP_FILTER_FLAG_SPEC_ALLOW},
	};
	const char *text = json_string_value(json);

	for (unsigned i = 0; text && i < ARRAY_LEN(known); i++) {
		if (strcmp(known[i].name, text) != 0)
			continue;
		*(uint32_t *)to |= known[i].flag;
		return 0;
	}
	return spec_fail(at, -ENOTSUP,
			 "supported are SECCOMP_FILTER_FLAG_TSYNC, LOG and "
			 "SPEC_ALLOW");
}

static int read_flags(const struct spec_place *at, json_t *json, void *to)
{
	return spec_read_list(at, json, add_flag, to);
}

/* Borrows the list, which is read once the context is there. */
static int keep_list(const struct spec_place *at, json_t *json, void *to)
{
	if (!json_is_array(json))
		return spec_fail(at, -EINVAL, "expected a list");
	*(json_t **)to = json;
	return 0;
}

/* ---- rules */

static int read_index(const struct spec_place *at, json_t *json, void *to)
{
	uint64_t n = 0;
	int r = spec_get_number(at, json, ARGS_MAX - 1, &n);

	((struct scmp_arg_cmp *)to)->arg = (unsigned)n;
	return r;
}

static int read_op(const struct spec_place *at, json_t *json, void *to)
{
	static const struct {
		const char *name;
		enum scmp_compare op;
	} known[] = {
		{"SCMP_CMP_NE", SCMP_CMP_NE},
		{"SCMP_CMP_LT", SCMP_CMP_LT},
		{"SCMP_CMP_LE", SCMP_CMP_LE},
		{"SCMP_CMP_EQ", SCMP_CMP_EQ},
		{"SCMP_CMP_GE", SCMP_CMP_GE},
		{"SCMP_CMP_GT", SCMP_CMP_GT},
		{"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
	};
	const char *text = json_string_value(json);

	for (unsigned i = 0; text && i < ARRAY_LEN(known); i++) {
		if (strcmp(known[i].name, text) != 0)
			continue;
		((struct scmp_arg_cmp *)to)->op = known[i].op;
		return 0;
	}
	return spec_fail(at, -EINVAL, "expected a comparison like SCMP_CMP_EQ");
}

static int add_condition(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"index", read_index, 0},
		{"value", spec_read_wide,
		 offsetof(struct scmp_arg_cmp, datum_a)},
		{"valueTwo", spec_read_wide,
		 offsetof(struct scmp_arg_cmp, datum_b)},
		{"op", read_op, 0},
		{0},
	};
	struct call *call = to;
	struct scmp_arg_cmp c = {.op = _SCMP_CMP_MIN};
	int r = spec_read_object(at, json, keys, true, &c);

	if (r < 0)
		return r;
	if (c.op == _SCMP_CMP_MIN)
		return spec_fail(at, -EINVAL, "has no op");
	if (call->nconditions == CONDITIONS_MAX)
		return spec_fail(at, -E2BIG, "is one too many");
	call->condition[call->nconditions++] = c;
	return 0;
}

static int read_conditions(const struct spec_place *at, json_t *json, void *to)
{
	return spec_read_list(at, json, add_condition, to);
}

/* Two about the same argument: each is a rule of its own, as runc has it. */
static bool are_alternatives(const struct call *call)
{
	unsigned seen = 0;

	for (unsigned i = 0; i < call->nconditions; i++) {
		if (seen >> call->condition[i].arg & 1)
			return true;
		seen |= 1U << call->condition[i].arg;
	}
	return false;
}

static int add_rules(const struct profile *p, const struct call *call,
		     int syscall)
{
	int r = 0;

	if (!are_alternatives(call))
		return seccomp_rule_add_array(p->ctx, call->action, syscall,
					      call->nconditions,
					      call->condition);
	for (unsigned i = 0; r == 0 && i < call->nconditions; i++)
		r = seccomp_rule_add_array(p->ctx, call->action, syscall, 1,
					   &call->condition[i]);
	return r;
}

/*
 * Profiles name calls of all architectures and kernels: one that is not known
 * here is left to the default action.
 */
static int add_name(const struct spec_place *at, json_t *json,
		    struct profile *p, const struct call *call)
{
	const char *name = json_string_value(json);
	int syscall, r;

	if (!name)
		return spec_fail(at, -EINVAL, "expected a string");
	syscall = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name);
	if (syscall > (int)p->last_64)
		p->last_64 = (unsigned)syscall;
	r = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86, name);
	if (r > (int)p->last_32)
		p->last_32 = (unsigned)r;
	/* A rule that is no exception is refused by the library. */
	if (syscall == __NR_SCMP_ERROR || call->action == p->action)
		return 0;
	r = add_rules(p, call, syscall);
	if (r == -ENOMEM)
		return log_ret(r, "out of memory");
	return r < 0 && r != -EEXIST ? spec_fail(at, r, "cannot be filtered so")
				     : 0;
}

static int add_call(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"names", keep_list, offsetof(struct call, names)},
		{"action", read_call_action, 0},
		{"errnoRet", read_number, offsetof(struct call, number)},
		{"args", read_conditions, 0},
		{0},
	};
	const struct spec_place names = {at, "names", 0};
	struct call call = {.number = -1};
	json_t *name;
	size_t i;
	int r = spec_read_object(at, json, keys, true, &call);

	if (r == 0 && !call.has_action)
		r = spec_fail(at, -EINVAL, "has no action");
	if (r == 0 && json_array_size(call.names) == 0)
		r = spec_fail(at, -EINVAL, "has no names");
	if (r == 0)
		r = set_number(at, "errnoRet", &call.action, call.number);
	json_array_foreach(call.names, i, name) {
		const struct spec_place here = {&names, NULL, i};

		if (r == 0)
			r = add_name(&here, name, to, &call);
	}
	return r;
}

/* ---- the program */

static void add_insn(struct spec_filter *f, uint16_t code, uint32_t k,
		     uint8_t jt, uint8_t jf)
{
	f->code[f->count++] = (struct sock_filter){code, jt, jf, k};
}

/* Goes on behind it for other architectures, and for calls up to LAST. */
static void add_stub(struct spec_filter *f, uint32_t arch, unsigned last)
{
	add_insn(f, BPF_LD | BPF_W | BPF_ABS,
		 offsetof(struct seccomp_data, arch), 0, 0);
	add_insn(f, BPF_JMP | BPF_JEQ | BPF_K, arch, 0, 4);
	add_insn(f, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr),
		 0, 0);
	add_insn(f, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 2, 0);
	add_insn(f, BPF_JMP | BPF_JGT | BPF_K, last, 0, 1);
	add_insn(f, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS, 0, 0);
}

static bool has_arch(const struct profile *p, uint32_t arch)
{
	for (size_t i = 0; i < p->narch; i++)
		if (p->arch[i] == arch)
			return true;
	return arch == SCMP_ARCH_X86_64;
}

/*
 * A call that is newer than all that the profile names does not exist for it: a
 * C library that gets ENOSYS falls back to an older one, with EPERM it does
 * not.
 */
static void add_stubs(const struct profile *p, struct spec_filter *f)
{
	if (p->action == SCMP_ACT_ALLOW || p->action == SCMP_ACT_LOG ||
	    p->action == SCMP_ACT_ERRNO(ENOSYS))
		return;
	if (p->last_64)
		add_stub(f, AUDIT_ARCH_X86_64, p->last_64);
	if (p->last_32 && has_arch(p, SCMP_ARCH_X86))
		add_stub(f, AUDIT_ARCH_I386, p->last_32);
}

#define STUBS_MAX 12

static int export(const struct spec_place *at, const struct profile *p,
		  struct spec_filter *ret)
{
	autofd int fd = memfd_create("filter", MFD_CLOEXEC);
	struct spec_filter f = {.flags = p->flags};
	struct stat st = {0};
	size_t count;
	int r = fd < 0 ? -errno : seccomp_export_bpf(p->ctx, fd);

	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return spec_fail(at, r, "cannot be made a filter");
	count = (size_t)st.st_size / sizeof(*f.code);
	f.code = calloc(count + STUBS_MAX, sizeof(*f.code));
	if (!f.code)
		return log_ret(-ENOMEM, "out of memory");
	add_stubs(p, &f);
	if (count + f.count > BPF_MAXINSNS)
		r = spec_fail(at, -E2BIG,
			      "makes a filter of more than 4096 steps, which "
			      "is Linux's limit");
	else
		r = util_read_at(fd, f.code + f.count, count * sizeof(*f.code),
				 0);
	f.count += count;
	if (r < 0)
		spec_filter_done(&f);
	else
		*ret = f;
	return r < 0 ? r : 0;
}

/* Fast ways through it, and no flags of the library's own. */
static int make_context(struct profile *p)
{
	int r;

	p->ctx = seccomp_init(p->action);
	if (!p->ctx)
		return -ENOMEM;
	r = seccomp_attr_set(p->ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	for (size_t i = 0; r == 0 && i < p->narch; i++)
		if (p->arch[i] != SCMP_ARCH_X86_64)
			r = seccomp_arch_add(p->ctx, p->arch[i]);
	return r;
}

int spec_filter_make(const char *name, const struct spec_linux *l,
		     struct spec_filter *ret)
{
	static const struct spec_key keys[] = {
		{"defaultAction", read_action,
		 offsetof(struct profile, action)},
		{"defaultErrnoRet", read_number,
		 offsetof(struct profile, number)},
		{"architectures", read_architectures, 0},
		{"flags", read_flags, offsetof(struct profile, flags)},
		{"listenerPath", NULL, 0},
		{"listenerMetadata", NULL, 0},
		{"syscalls", keep_list, offsetof(struct profile, syscalls)},
		{0},
	};
	const struct spec_place file = {NULL, name, 0};
	const struct spec_place linux_part = {&file, "linux", 0};
	const struct spec_place at = {&linux_part, "seccomp", 0};
	const struct spec_place calls = {&at, "syscalls", 0};
	struct profile p = {.number = -1};
	int r;

	if (!l->seccomp) {
		*ret = (struct spec_filter){0};
		return 0;
	}
	r = spec_read_object(&at, l->seccomp, keys, true, &p);
	if (r == 0 &&
	    !json_is_string(json_object_get(l->seccomp, "defaultAction")))
		r = spec_fail(&at, -EINVAL, "has no defaultAction");
	if (r == 0)
		r = set_number(&at, "defaultErrnoRet", &p.action, p.number);
	if (r < 0)
		return r;
	r = make_context(&p);
	if (r < 0)
		r = spec_fail(&at, r, strerror(-r));
	else if (p.syscalls)
		r = spec_read_list(&calls, p.syscalls, add_call, &p);
	if (r == 0)
		r = export(&at, &p, ret);
	seccomp_release(p.ctx);
	return r;
}

void spec_filter_done(struct spec_filter *f)
{
	free(f->code);
	*f = (struct spec_filter){0};
}
