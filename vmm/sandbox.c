/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capabilities and seccomp (Linux: Documentation/userspace-api/seccomp_filter).
 * A forbidden system call raises SIGSYS: the terminal's handler for fatal
 * signals can still restore the user's terminal before the process dies.
 */
#include "vmm/sandbox.h"

#include "vmm/log.h"
#include "vmm/util.h"

#include <assert.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MORE_MAX 256 /* calls in all lists of devices together */

/*
 * What the event loops, the devices, the vCPUs and the C library use while a
 * guest runs. No open, no socket, no exec, no fork, no ptrace: a device that
 * needs one of those says so in its virtio_ops.
 */
static const uint32_t allowed[] = {
	/* vCPUs and devices */
	SYS_read,
	SYS_write,
	SYS_readv,
	SYS_writev,
	SYS_pread64,
	SYS_pwrite64,
	SYS_preadv,
	SYS_pwritev,
	SYS_preadv2,
	SYS_pwritev2,
	SYS_io_submit,
	SYS_io_getevents,
	SYS_io_cancel,
	SYS_io_destroy,
	SYS_io_pgetevents,
	SYS_fdatasync,
	SYS_fsync,
	SYS_fallocate,
	SYS_lseek,
	SYS_fstat,
	SYS_getrandom,
	/* event loops */
	SYS_epoll_wait,
	SYS_epoll_pwait,
	SYS_epoll_ctl,
	SYS_poll,
	SYS_ppoll,
	SYS_eventfd2,
	SYS_futex,
	SYS_clock_gettime,
	SYS_clock_nanosleep,
	SYS_nanosleep,
	SYS_restart_syscall,
	SYS_sched_yield,
	SYS_sched_setscheduler,
	/* memory, within the limits of argument_rules */
	SYS_brk,
	SYS_munmap,
	SYS_madvise,
	SYS_mremap,
	/* threads and signals */
	SYS_rt_sigreturn,
	SYS_rt_sigprocmask,
	SYS_rt_sigaction,
	SYS_sigaltstack,
	SYS_tgkill,
	SYS_gettid,
	SYS_getpid,
	SYS_set_robust_list,
	SYS_rseq,
	SYS_exit,
	SYS_exit_group,
	SYS_close,
};

static const uint32_t ioctls[] = {
	TCGETS,     TCSETS,        TCSETSW,    TCSETSF,
	TIOCGWINSZ, TUNSETOFFLOAD, BLKDISCARD, BLKZEROOUT,
};

#define LOAD(field)                                                            \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
/* The low half of argument N: enough for flags of 32 bits. */
#define LOAD_ARG(n)                                                            \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS,                                     \
		 offsetof(struct seccomp_data, args) + 8 * (n))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define SKIP_UNLESS(value, count)                                              \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (count))
#define SKIP_IF_SET(bits, count)                                               \
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), (count), 0)

/*
 * ioctl comes first, as KVM_RUN is the hottest call. All of KVM's are allowed
 * (their descriptors are the VM's own), and by number those of terminals, taps
 * and disks; above all not TIOCSTI, which types into the user's shell.
 */
static const struct sock_filter head[] = {
	LOAD(arch),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
	RETURN(SECCOMP_RET_KILL_PROCESS),
	LOAD(nr),
	SKIP_UNLESS(SYS_ioctl, 5 + 2 * ARRAY_LEN(ioctls) + 1),
	LOAD_ARG(1),
	BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff00),
	SKIP_UNLESS(KVMIO << 8, 1),
	RETURN(SECCOMP_RET_ALLOW),
	LOAD_ARG(1),
};

/*
 * Calls that depend on an argument: no memory becomes executable; clone makes
 * threads only; clone3, whose arguments a filter cannot see, is "not there", so
 * that the C library falls back to clone.
 */
static const struct sock_filter argument_rules[] = {
	SKIP_UNLESS(SYS_mmap, 4),
	LOAD_ARG(2),
	SKIP_IF_SET(PROT_EXEC, 1),
	RETURN(SECCOMP_RET_ALLOW),
	RETURN(SECCOMP_RET_TRAP),
	SKIP_UNLESS(SYS_mprotect, 4),
	LOAD_ARG(2),
	SKIP_IF_SET(PROT_EXEC, 1),
	RETURN(SECCOMP_RET_ALLOW),
	RETURN(SECCOMP_RET_TRAP),
	SKIP_UNLESS(SYS_clone, 4),
	LOAD_ARG(0),
	SKIP_IF_SET(CLONE_THREAD, 1),
	RETURN(SECCOMP_RET_TRAP),
	RETURN(SECCOMP_RET_ALLOW),
	SKIP_UNLESS(SYS_clone3, 1),
	RETURN(SECCOMP_RET_ERRNO | ENOSYS),
	/* PR_SET_NAME and PR_SET_VMA (malloc's labels) are harmless. */
	SKIP_UNLESS(SYS_prctl, 4),
	LOAD_ARG(0),
	SKIP_UNLESS(PR_SET_NAME, 1),
	RETURN(SECCOMP_RET_ALLOW),
	RETURN(SECCOMP_RET_ERRNO | EPERM),
	/* Restoring or naming a thread opens /proc: refused, not fatal. */
	SKIP_UNLESS(SYS_openat, 1),
	RETURN(SECCOMP_RET_ERRNO | EACCES),
	/* Unix sockets if a device asks for them; others never. */
	SKIP_UNLESS(SYS_socket, 4),
	LOAD_ARG(0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 1, 0),
	RETURN(SECCOMP_RET_TRAP),
	LOAD(nr),
};

static unsigned allow_each(struct sock_filter *code, unsigned n,
			   const uint32_t *value, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		code[n++] = (struct sock_filter)SKIP_UNLESS(value[i], 1);
		code[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
	}
	return n;
}

/* What the devices need, once each list: two disks have the same one. */
static unsigned allow_more(struct sock_filter *code, unsigned n,
			   const uint32_t *const *lists, unsigned nlists)
{
	unsigned left = MORE_MAX;

	for (unsigned i = 0; i < nlists; i++) {
		unsigned count = 0, before = 0;

		while (before < i && lists[before] != lists[i])
			before++;
		if (!lists[i] || before < i)
			continue;
		while (count < left && lists[i][count] != SANDBOX_END)
			count++;
		assert(lists[i][count] == SANDBOX_END);
		left -= count;
		n = allow_each(code, n, lists[i], count);
	}
	return n;
}

/* FIRST precedes the rules about arguments, LISTS come after them. */
static unsigned build_filter(struct sock_filter *code, const uint32_t *first,
			     const uint32_t *const *lists, unsigned nlists)
{
	unsigned n = ARRAY_LEN(head);

	memcpy(code, head, sizeof(head));
	n = allow_each(code, n, ioctls, ARRAY_LEN(ioctls));
	code[n++] = (struct sock_filter)RETURN(SECCOMP_RET_TRAP);
	n = allow_each(code, n, allowed, ARRAY_LEN(allowed));
	n = allow_more(code, n, &first, 1);
	memcpy(&code[n], argument_rules, sizeof(argument_rules));
	n += ARRAY_LEN(argument_rules);
	n = allow_more(code, n, lists, nlists);
	code[n++] = (struct sock_filter)RETURN(SECCOMP_RET_TRAP);
	return n;
}

#define FILTER_MAX                                                             \
	(ARRAY_LEN(head) + ARRAY_LEN(argument_rules) + 2 * ARRAY_LEN(ioctls) + \
	 2 * ARRAY_LEN(allowed) + 4 * MORE_MAX + 2)

static int install_filter(const uint32_t *first, const uint32_t *const *lists,
			  unsigned nlists, bool all_threads)
{
	struct sock_filter code[FILTER_MAX];
	struct sock_fprog program = {.filter = code};
	long r;

	program.len = (unsigned short)build_filter(code, first, lists, nlists);
	errno = 0;
	r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		    all_threads ? SECCOMP_FILTER_FLAG_TSYNC : 0, &program);
	/* A thread that confined itself; vm.c has no others that did not. */
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

int sandbox_enter(const uint32_t *const *lists, unsigned nlists)
{
	int r = keep_capabilities(0);

	return r < 0 ? r : install_filter(NULL, lists, nlists, true);
}

int sandbox_enter_thread(const uint32_t *list, uint64_t capabilities)
{
	int r = keep_capabilities(capabilities);

	return r < 0 ? r : install_filter(list, NULL, 0, false);
}
