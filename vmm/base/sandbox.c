/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capabilities and seccomp (Linux: Documentation/userspace-api/seccomp_filter).
 * A forbidden system call raises SIGSYS: the terminal's handler for fatal
 * signals can still restore the user's terminal before the process dies.
 */
#include "vmm/base/sandbox.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RULES_MAX  384 /* in all lists together */
#define LEAF_RULES 4   /* compared one after the other */

/*
 * The flags with which glibc makes threads: others make other kinds of
 * children.
 */
#define THREAD_FLAGS                                                           \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |    \
	 CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |                  \
	 CLONE_CHILD_CLEARTID)

#define NO_CODE(name)                                                          \
	{                                                                      \
		.call = SYS_##name,                                            \
		.when[0] = {SANDBOX_WITHIN, 2, PROT_READ | PROT_WRITE},        \
	}

/*
 * The event loops, the vCPUs and the C library make these calls while a guest
 * runs. No open, no socket, no exec, no fork, no ptrace: a device that needs
 * one of those says so in its virtio_ops. Each ioctl is named by its number;
 * TIOCSTI, which types into the user's shell, must not be among them. KVM_RUN
 * comes first: it is the hottest.
 */
static const struct sandbox_rule basics[] = {
	SANDBOX_IOCTL(KVM_RUN),
	/* vCPUs, and the ends of a device's interrupts and doorbells */
	SANDBOX_IOCTL(KVM_GET_REGS),
	SANDBOX_IOCTL(KVM_KVMCLOCK_CTRL), /* after a pause */
	SANDBOX_IOCTL(KVM_GET_MSRS),      /* assist_prepare() filters one, */
	SANDBOX_IOCTL(KVM_SET_MSRS),      /* on each host */
	SANDBOX_IOCTL(KVM_IRQFD),
	SANDBOX_IOCTL(KVM_IOEVENTFD),
	/* what is open already */
	SANDBOX_CALL(read),
	SANDBOX_CALL(write),
	SANDBOX_CALL(readv),
	SANDBOX_CALL(writev),
	SANDBOX_CALL(pread64),
	SANDBOX_CALL(pwrite64),
	SANDBOX_CALL(preadv),
	SANDBOX_CALL(pwritev),
	SANDBOX_CALL(preadv2),
	SANDBOX_CALL(pwritev2),
	SANDBOX_CALL(fstat),
	SANDBOX_CALL(close),
	/* the log asks what kind of terminal it writes to */
	SANDBOX_IOCTL(TCGETS),
	/* event loops */
	SANDBOX_CALL(epoll_wait),
	SANDBOX_CALL(epoll_pwait),
	SANDBOX_CALL(epoll_ctl),
	SANDBOX_CALL(poll),
	SANDBOX_CALL(ppoll),
	SANDBOX_CALL(futex),
	SANDBOX_CALL(clock_gettime),
	SANDBOX_CALL(clock_nanosleep),
	SANDBOX_CALL(nanosleep),
	SANDBOX_CALL(restart_syscall),
	SANDBOX_CALL(sched_yield),
	/* memory, none of which becomes executable */
	SANDBOX_CALL(brk),
	NO_CODE(mmap),
	NO_CODE(mprotect),
	SANDBOX_CALL(munmap),
	SANDBOX_CALL(madvise),
	SANDBOX_CALL(mremap),
	/* threads and their signals; tgkill is added by build_filter() */
	SANDBOX_CALL_IF(clone, 0, THREAD_FLAGS),
	SANDBOX_CALL(rt_sigreturn),
	SANDBOX_CALL(rt_sigprocmask),
	SANDBOX_CALL(rt_sigaction),
	SANDBOX_CALL(sigaltstack),
	SANDBOX_CALL(gettid),
	SANDBOX_CALL(getpid),
	SANDBOX_CALL_IF(prctl, 0, PR_SET_NAME),
	SANDBOX_CALL(set_robust_list),
	SANDBOX_CALL(rseq),
	SANDBOX_CALL(exit),
	SANDBOX_CALL(exit_group),
	SANDBOX_END,
};

const struct sandbox_rule sandbox_assists[] = {
	SANDBOX_IOCTL(KVM_SET_REGS),
	SANDBOX_IOCTL(KVM_GET_SREGS),
	SANDBOX_IOCTL(KVM_SET_SREGS),
	SANDBOX_IOCTL(KVM_GET_VCPU_EVENTS),
	SANDBOX_IOCTL(KVM_GET_XCRS),
	SANDBOX_IOCTL(KVM_GET_XSAVE),
	SANDBOX_IOCTL(KVM_GET_XSAVE2),
	SANDBOX_IOCTL(KVM_SET_XSAVE),
	SANDBOX_IOCTL(KVM_GET_DEBUGREGS),
	SANDBOX_IOCTL(KVM_SET_DEBUGREGS),
	SANDBOX_IOCTL(KVM_SET_GUEST_DEBUG),
	SANDBOX_IOCTL(KVM_GET_MP_STATE),
	SANDBOX_IOCTL(KVM_SET_MP_STATE),
	SANDBOX_CALL(getrandom), /* RDRAND */
	SANDBOX_END,
};

#define LOAD(field)                                                            \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
/* The low half of argument N: enough for what is at most 32 bits. */
#define LOAD_ARG(n)                                                            \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS,                                     \
		 offsetof(struct seccomp_data, args) + 8u * (n))
#define SKIP_IF_LESS(value, count)                                             \
	BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (value), 0, (count))
#define JUMP(count) BPF_STMT(BPF_JMP | BPF_JA, (count))
/* To be replaced: the first instruction of `tail`. */
#define TO_TAIL        UINT32_MAX
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define SKIP_UNLESS(value, count)                                              \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (count))
#define SKIP_IF_SET(bits, count)                                               \
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), (count), 0)

static const struct sock_filter head[] = {
	LOAD(arch),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
	RETURN(SECCOMP_RET_KILL_PROCESS),
	LOAD(nr),
};

/*
 * Calls that no rule allows. Some fail with an error, as the C library can do
 * without them; others raise SIGSYS.
 */
static const struct sock_filter tail[] = {
	/* A filter cannot see its arguments: the C library takes clone. */
	SKIP_UNLESS(SYS_clone3, 1),
	RETURN(SECCOMP_RET_ERRNO | ENOSYS),
	/* PR_SET_VMA: malloc's labels. */
	SKIP_UNLESS(SYS_prctl, 1),
	RETURN(SECCOMP_RET_ERRNO | EPERM),
	/* Restoring or naming a thread opens /proc: refused, not fatal. */
	SKIP_UNLESS(SYS_openat, 1),
	RETURN(SECCOMP_RET_ERRNO | EACCES),
	/* malloc counts the CPUs when a ninth thread allocates. */
	SKIP_UNLESS(SYS_sched_getaffinity, 1),
	RETURN(SECCOMP_RET_ERRNO | EPERM),
	RETURN(SECCOMP_RET_TRAP),
};

#define RULE_CODE_MAX (3 + 2 * ARRAY_LEN(((struct sandbox_rule *)0)->when))

/*
 * The accumulator holds the call's number before this and, where the rule does
 * not allow the call, after it. The number alone decides about a call without
 * conditions, so that the kernel can remember the decision.
 */
static unsigned add_rule(struct sock_filter *code, unsigned n,
			 const struct sandbox_rule *rule)
{
	unsigned conditions = 0;

	while (conditions < ARRAY_LEN(rule->when) &&
	       rule->when[conditions].test != SANDBOX_ANYTHING)
		conditions++;
	code[n++] = (struct sock_filter)SKIP_UNLESS(
		rule->call, (uint8_t)(2 * conditions + 1 + (conditions > 0)));
	for (unsigned i = 0; i < conditions; i++) {
		const struct sandbox_condition *c = &rule->when[i];
		const uint8_t left = (uint8_t)(2 * (conditions - 1 - i) + 1);

		code[n++] = (struct sock_filter)LOAD_ARG(c->argument);
		if (c->test == SANDBOX_EQUALS)
			code[n++] =
				(struct sock_filter)SKIP_UNLESS(c->value, left);
		else
			code[n++] = (struct sock_filter)SKIP_IF_SET(~c->value,
								    left);
	}
	code[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
	if (conditions > 0)
		code[n++] = (struct sock_filter)LOAD(nr);
	return n;
}

static bool is_end(const struct sandbox_rule *rule)
{
	return rule->call == UINT32_MAX;
}

/* All rules of a filter, borrowed. */
struct rules {
	const struct sandbox_rule *item[RULES_MAX];
	unsigned count;
};

static void add_list(struct rules *rules, const struct sandbox_rule *rule)
{
	for (; !is_end(rule); rule++) {
		assert(rules->count < RULES_MAX);
		rules->item[rules->count++] = rule;
	}
}

/*
 * By calls, and a call's rules in their order. The C library's qsort() reads
 * how much memory the host has, for a third of a millisecond.
 */
static void sort_rules(struct rules *rules)
{
	for (unsigned i = 1; i < rules->count; i++) {
		const struct sandbox_rule *rule = rules->item[i];
		unsigned to = i;

		for (; to > 0 && rules->item[to - 1]->call > rule->call; to--)
			rules->item[to] = rules->item[to - 1];
		rules->item[to] = rule;
	}
}

/* Where COUNT rules in order are divided: not within a call's; 0: nowhere. */
static unsigned find_middle(const struct sandbox_rule *const *item,
			    unsigned count)
{
	unsigned middle = count / 2;

	while (middle > 0 && item[middle - 1]->call == item[middle]->call)
		middle--;
	return middle;
}

/*
 * A search by the call's number, which the accumulator holds. When a filter is
 * installed the kernel looks up each call that there is, so that one long list
 * of rules took a fifth of the time that the sandbox takes.
 */
static unsigned add_search(struct sock_filter *code, unsigned n,
			   const struct sandbox_rule *const *item,
			   unsigned count)
{
	const unsigned middle =
		count > LEAF_RULES ? find_middle(item, count) : 0;
	unsigned right;

	if (middle == 0) {
		for (unsigned i = 0; i < count; i++)
			n = add_rule(code, n, item[i]);
		code[n++] = (struct sock_filter)JUMP(TO_TAIL);
		return n;
	}
	code[n++] = (struct sock_filter)SKIP_IF_LESS(item[middle]->call, 1);
	right = n++;
	n = add_search(code, n, item, middle);
	code[right] = (struct sock_filter)JUMP(n - right - 1);
	return add_search(code, n, item + middle, count - middle);
}

/* KVM_RUN, the first rule, comes before the search. */
static unsigned build_filter(struct sock_filter *code,
			     const struct sandbox_rule *const *lists,
			     unsigned nlists)
{
	const struct sandbox_rule own[] = {
		SANDBOX_CALL_IF(tgkill, 0, getpid()),
		SANDBOX_END,
	};
	struct rules rules = {.count = 0};
	unsigned n = ARRAY_LEN(head);

	add_list(&rules, basics);
	add_list(&rules, own);
	/* Each list once: two disks have the same one. */
	for (unsigned i = 0; i < nlists; i++) {
		unsigned before = 0;

		while (before < i && lists[before] != lists[i])
			before++;
		if (lists[i] && before == i)
			add_list(&rules, lists[i]);
	}
	memcpy(code, head, sizeof(head));
	n = add_rule(code, n, rules.item[0]);
	sort_rules(&rules);
	n = add_search(code, n, rules.item, rules.count);
	for (unsigned i = 0; i < n; i++) {
		if (code[i].code == (BPF_JMP | BPF_JA) && code[i].k == TO_TAIL)
			code[i].k = n - i - 1;
	}
	memcpy(&code[n], tail, sizeof(tail));
	return n + (unsigned)ARRAY_LEN(tail);
}

/* Each rule's own, its share of the search's, and KVM_RUN once more. */
#define FILTER_MAX                                                             \
	(ARRAY_LEN(head) + ARRAY_LEN(tail) + RULE_CODE_MAX +                   \
	 (RULE_CODE_MAX + 3) * RULES_MAX)

static int install_filter(const struct sandbox_rule *const *lists,
			  unsigned nlists, bool all_threads)
{
	struct sock_filter code[FILTER_MAX];
	struct sock_fprog program = {.filter = code};
	long r;

	program.len = (unsigned short)build_filter(code, lists, nlists);
	errno = 0;
	r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		    all_threads ? SECCOMP_FILTER_FLAG_TSYNC : 0, &program);
	/*
	 * A thread has confined itself already, so TSYNC fails. Each one that
	 * is there before does so (shares', working-set.c's): only this one is
	 * left.
	 */
	if (r > 0)
		r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
	if (r != 0)
		return log_ret(errno ? -errno : -EBUSY,
			       "sandbox: seccomp: %s: --no-sandbox runs "
			       "without it",
			       strerror(errno));
	return 0;
}

static int keep_capabilities(uint64_t keep)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_capget, &header, data) < 0)
		return log_ret(-errno, "sandbox: capabilities: %s",
			       strerror(errno));
	for (unsigned i = 0; i < 2; i++) {
		data[i].permitted &= (uint32_t)(keep >> 32 * i);
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &header, data) < 0)
		return log_ret(-errno, "sandbox: drop capabilities: %s",
			       strerror(errno));
	return 0;
}

int sandbox_enter(const struct sandbox_rule *const *lists, unsigned nlists)
{
	int r = keep_capabilities(0);

	return r < 0 ? r : install_filter(lists, nlists, true);
}

int sandbox_enter_thread(const struct sandbox_rule *const *lists,
			 unsigned nlists, uint64_t capabilities)
{
	int r = keep_capabilities(capabilities);

	return r < 0 ? r : install_filter(lists, nlists, false);
}
