/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a monitor and measures it from outside, the same way whatever monitor
 * it is. Prints one line of KEY=VALUE.
 *
 *   measure [OPTION]... -- PROGRAM [ARGUMENT]...
 *
 *   --marker TEXT   first_us: from exec to TEXT in the program's output
 *   --kvm-run       run_us: from exec to the guest's first KVM_RUN, on a thread
 *                   of its own; any_run_us: to the first of any thread, which
 *                   may have probed the host; and end it there
 *   --smaps MIB     private_kib: at the marker, the program's private memory
 *                   outside mappings of MIB or more (the guest's); then end it
 *   --at-marker F   writes "0" to the file F at the marker
 *   --limit SECS    end it after that long [60]
 *   --log FILE      its output and errors go there
 *
 * Always there: status, user_us, sys_us (the program's CPU time), total_us
 * (from exec to its end).
 *
 * The first KVM_RUN is caught by a seccomp filter that stops for this one
 * ioctl, so that nothing before it is slowed down.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TEXT_MAX (256u << 10)

struct measure {
	const char *marker, *at_marker, *log;
	unsigned long smaps_mib, limit_s;
	bool kvm_run;
	char **argv;
	pid_t child;
	int output;         /* the child's standard output and error */
	uint64_t *start_ns; /* shared: the child writes it before exec */
	char *text;
	size_t bytes;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(2);
}

/* Stops the tracee at ioctl(fd, KVM_RUN, ...) and nowhere else. */
static int filter_kvm_run(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_RUN, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = {.len = sizeof(code) / sizeof(code[0]),
					.filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static void child_main(struct measure *m, int go, int output)
{
	char byte;

	if (read(go, &byte, 1) != 1)
		_exit(125);
	dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	dup2(output, STDERR_FILENO);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (m->kvm_run && filter_kvm_run())
		_exit(125);
	*m->start_ns = now_ns();
	execvp(m->argv[0], m->argv);
	_exit(127);
}

static void start(struct measure *m)
{
	int go[2], out[2];

	if (pipe2(go, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		die("pipe");
	m->start_ns = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	m->text = malloc(TEXT_MAX + 1);
	if (m->start_ns == MAP_FAILED || !m->text)
		die("memory");
	m->child = fork();
	if (m->child < 0)
		die("fork");
	if (m->child == 0)
		child_main(m, go[0], out[1]);
	close(out[1]);
	m->output = out[0];
	if (m->kvm_run && ptrace(PTRACE_SEIZE, m->child, 0,
				 PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE |
					 PTRACE_O_EXITKILL))
		die("ptrace");
	if (write(go[1], "", 1) != 1)
		die("pipe");
}

/* Takes output, waits MS for some at most. False at its end. */
static bool collect(struct measure *m, int ms)
{
	struct pollfd pfd = {.fd = m->output, .events = POLLIN};
	ssize_t n;

	if (poll(&pfd, 1, ms) <= 0)
		return true;
	n = read(m->output, m->text + m->bytes, TEXT_MAX - m->bytes);
	if (n <= 0)
		return false;
	m->bytes += (size_t)n;
	m->text[m->bytes] = 0;
	return true;
}

/* A mapping of the program's: where it ends and what of it is private. */
struct mapping {
	unsigned long end, private_kib;
	bool guest;
};

/*
 * The guest's memory may be several mappings, one after the other: what ends
 * where a large one starts belongs to it.
 */
static void report_smaps(const struct measure *m)
{
	unsigned long kib, start, end, sum = 0;
	struct mapping last = {0};
	char line[256];
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/smaps", (int)m->child);
	f = fopen(line, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
			bool guest = end - start >= m->smaps_mib << 20;

			if (!last.guest && !(guest && last.end == start))
				sum += last.private_kib;
			last = (struct mapping){.end = end, .guest = guest};
		} else if (sscanf(line, "Private_Clean: %lu", &kib) == 1 ||
			   sscanf(line, "Private_Dirty: %lu", &kib) == 1) {
			last.private_kib += kib;
		}
	}
	if (!last.guest)
		sum += last.private_kib;
	if (f)
		fclose(f);
	printf("private_kib=%lu ", sum);
}

static void write_zero(const char *path)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "0", 1) != 1)
		die(path);
	close(fd);
}

static void alarm_rang(int signal)
{
	(void)signal;
}

/*
 * Waits for the first KVM_RUN of all, and for the guest's: the first that is
 * not the main thread's, which only probes the host.
 */
static void wait_kvm_run(struct measure *m)
{
	/* Without SA_RESTART: the alarm ends waitpid(). */
	const struct sigaction action = {.sa_handler = alarm_rang};
	bool any = false;
	int status;
	pid_t pid;

	sigaction(SIGALRM, &action, NULL);
	alarm((unsigned)m->limit_s);
	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status)) {
			if (pid == m->child)
				break;
			continue;
		}
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)) {
			const uint64_t ns = now_ns() - *m->start_ns;

			if (!any)
				printf("any_run_us=%lu ",
				       (unsigned long)(ns / 1000));
			any = true;
			if (pid != m->child) {
				printf("run_us=%lu ",
				       (unsigned long)(ns / 1000));
				break;
			}
		}
		/* Other stops: a new thread, or a signal to hand on. */
		ptrace(PTRACE_CONT, pid, 0,
		       status >> 16 ? 0 : WSTOPSIG(status));
	}
	alarm(0);
}

static void wait_marker(struct measure *m, uint64_t end_ns)
{
	while (now_ns() < end_ns && collect(m, 100)) {
		if (!m->marker || !m->bytes || !strstr(m->text, m->marker))
			continue;
		printf("first_us=%lu ",
		       (unsigned long)((now_ns() - *m->start_ns) / 1000));
		if (m->at_marker)
			write_zero(m->at_marker);
		if (m->smaps_mib) {
			report_smaps(m);
			return;
		}
		m->marker = NULL;
	}
}

static void finish(struct measure *m, uint64_t end_ns)
{
	struct rusage usage;
	int any, status = 0;
	uint64_t total_us;
	pid_t pid;
	FILE *log;

	if (m->kvm_run || m->smaps_mib || now_ns() >= end_ns)
		kill(m->child, SIGKILL);
	while (now_ns() < end_ns) {
		/* At its end all is said: it is on its way out. */
		if (!collect(m, 1000))
			break;
	}
	if (now_ns() >= end_ns)
		kill(m->child, SIGKILL);
	/* A traced program's threads come one by one, its own end last. */
	while ((pid = waitpid(-1, &any, __WALL)) > 0) {
		if (pid == m->child && !WIFSTOPPED(any))
			status = any;
	}
	total_us = (now_ns() - *m->start_ns) / 1000;
	getrusage(RUSAGE_CHILDREN, &usage);
	printf("status=%d total_us=%lu user_us=%ld sys_us=%ld\n",
	       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
	       (unsigned long)total_us,
	       usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec,
	       usage.ru_stime.tv_sec * 1000000 + usage.ru_stime.tv_usec);
	log = m->log ? fopen(m->log, "we") : NULL;
	if (log) {
		fwrite(m->text, 1, m->bytes, log);
		fclose(log);
	}
}

static void parse(struct measure *m, int argc, char **argv)
{
	int i = 1;

	for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--kvm-run") == 0) {
			m->kvm_run = true;
			continue;
		}
		if (strcmp(argv[i], "--marker") == 0)
			m->marker = value;
		else if (strcmp(argv[i], "--at-marker") == 0)
			m->at_marker = value;
		else if (strcmp(argv[i], "--log") == 0)
			m->log = value;
		else if (strcmp(argv[i], "--smaps") == 0)
			m->smaps_mib = strtoul(value, NULL, 0);
		else if (strcmp(argv[i], "--limit") == 0)
			m->limit_s = strtoul(value, NULL, 0);
		else
			break;
		i++;
	}
	if (i + 1 >= argc || strcmp(argv[i], "--") != 0) {
		fprintf(stderr, "usage: measure [OPTION]... -- PROGRAM\n");
		exit(2);
	}
	m->argv = argv + i + 1;
}

int main(int argc, char **argv)
{
	struct measure m = {.limit_s = 60};
	uint64_t end_ns;

	parse(&m, argc, argv);
	start(&m);
	end_ns = now_ns() + m.limit_s * 1000000000;
	if (m.kvm_run)
		wait_kvm_run(&m);
	else
		wait_marker(&m, end_ns);
	finish(&m, end_ns);
	return 0;
}
