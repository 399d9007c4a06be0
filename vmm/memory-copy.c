/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory-copy.h"

#include "vmm/base/mem.h"
#include "vmm/base/util.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ASK_MS 20 /* how often the caller is asked whether to stop */

/* The flags with which the C library forks. */
#define FORK_FLAGS (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD)

const struct sandbox_rule memory_copy_syscalls[] = {
	SANDBOX_CALL_IF(clone, 0, FORK_FLAGS),
	SANDBOX_CALL(pipe2),
	SANDBOX_CALL(wait4),
	SANDBOX_CALL(close_range),
	SANDBOX_END,
};

struct result {
	int32_t r;
	uint64_t memory_bytes, memory_sum, written;
};

/* ---- the process */

/* The monitor has closed its end, or is no more. */
static bool is_unwanted(void *arg)
{
	struct pollfd pfd = {.fd = *(const int *)arg};

	return poll(&pfd, 1, 0) == 1 && pfd.revents;
}

static void close_all_between(int first, int last)
{
	if (first <= last)
		(void)syscall(SYS_close_range, (unsigned)first, (unsigned)last,
			      0);
}

/*
 * The monitor may end before this process does: its disks' locks, its taps and
 * the VM must not stay open then. A kernel without the call (it
 * came with 5.9) closes them a little later.
 */
static void close_others(const int keep[], unsigned count)
{
	int from = 0;

	for (;;) {
		int next = INT32_MAX;

		for (unsigned i = 0; i < count; i++) {
			if (keep[i] >= from && keep[i] < next)
				next = keep[i];
		}
		close_all_between(from, next - 1);
		if (next == INT32_MAX)
			return;
		from = next + 1;
	}
}

/*
 * Other threads do not exist here, and may have been anywhere when this was
 * forked: it takes no lock, logs nothing and needs no heap.
 */
static _Noreturn void write_all(struct snapshot snapshot, int fd,
				const struct mem *mem, int pagemap_fd,
				int file_fd, int result_fd)
{
	const int keep[] = {fd, pagemap_fd, file_fd, result_fd};
	struct result result = {0};

	close_others(keep, ARRAY_LEN(keep));
	result.r =
		snapshot_write_memory(&snapshot, fd, mem, pagemap_fd, file_fd,
				      is_unwanted, &result_fd, &result.written);
	result.memory_sum = snapshot.memory_sum;
	result.memory_bytes = snapshot.memory_bytes;
	_exit(write(result_fd, &result, sizeof(result)) == sizeof(result) ? 0
									  : 1);
}

/* ---- the monitor */

int memory_copy_start(struct memory_copy *copy, const struct snapshot *snapshot,
		      int fd, const struct mem *mem, int pagemap_fd,
		      int file_fd)
{
	int ends[2], r;
	pid_t pid;

	*copy = MEMORY_COPY_NONE;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	r = mem_inherit(mem, true);
	pid = r < 0 ? -1 : fork();
	if (pid == 0) {
		close(ends[0]);
		write_all(*snapshot, fd, mem, pagemap_fd, file_fd, ends[1]);
	}
	if (r == 0 && pid < 0)
		r = -errno;
	(void)mem_inherit(mem, false);
	close(ends[1]);
	if (r < 0) {
		close(ends[0]);
		return r;
	}
	copy->pid = pid;
	copy->result_fd = ends[0];
	return 0;
}

static int take_result(int fd, struct snapshot *snapshot, uint64_t *ret_written)
{
	struct result result;
	ssize_t n;

	do
		n = read(fd, &result, sizeof(result));
	while (n < 0 && errno == EINTR);
	if (n != sizeof(result))
		return -ECHILD;
	snapshot->memory_sum = result.memory_sum;
	snapshot->memory_bytes = result.memory_bytes;
	*ret_written = result.written;
	return result.r;
}

int memory_copy_wait(struct memory_copy *copy, int gone_fd,
		     bool (*stops)(void *arg), void *arg,
		     struct snapshot *snapshot, uint64_t *ret_written)
{
	struct pollfd pfd[2] = {
		{.fd = copy->result_fd, .events = POLLIN},
		{.fd = gone_fd},
	};
	int r = -EINTR;

	if (copy->pid == 0)
		return 0;
	while (!pfd[0].revents && !pfd[1].revents && !stops(arg))
		(void)poll(pfd, ARRAY_LEN(pfd), ASK_MS);
	if (pfd[0].revents)
		r = take_result(copy->result_fd, snapshot, ret_written);
	/* The process ends by this where it has not done so. */
	util_close(&copy->result_fd);
	while (waitpid(copy->pid, NULL, 0) < 0 && errno == EINTR)
		;
	*copy = MEMORY_COPY_NONE;
	return r;
}
