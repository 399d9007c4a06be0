/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's actions on the machine whose PID 1 it is. */
#include "firmware/init/container.h"
#include "firmware/init/crun.h"
#include "firmware/init/host-socket.h"
#include "firmware/init/machine-id.h"
#include "firmware/init/net.h"
#include "firmware/init/server.h"

#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* A clock that is nearly right does not jump; it runs faster or slower. */
#define CLOCK_SLACK_NS 100000000
/* For processes to come to where they can stand still. */
#define HOLD_MS 2000

static int set_clock(const struct agent_time *wire, struct init_failure *f)
{
	const uint32_t ns = le32toh(wire->nanoseconds);
	struct timespec now, then;
	int64_t seconds, apart;

	then.tv_sec = (time_t)le64toh(wire->seconds);
	then.tv_nsec = (long)ns;
	/* The kernel takes 64-bit nanoseconds: up to the year 2262. */
	if (ns >= 1000000000 || le64toh(wire->seconds) > INT64_MAX / 1000000000)
		return init_fail(f, INIT_STATUS_SETUP, EINVAL, "set the clock");
	clock_gettime(CLOCK_REALTIME, &now);
	seconds = then.tv_sec - now.tv_sec;
	apart = seconds * 1000000000 + then.tv_nsec - now.tv_nsec;
	if (seconds >= -1 && seconds <= 1 && apart > -CLOCK_SLACK_NS &&
	    apart < CLOCK_SLACK_NS) {
		const struct timeval slew = {
			.tv_sec = apart < 0 ? -1 : 0,
			.tv_usec =
				(apart < 0 ? apart + 1000000000 : apart) / 1000,
		};

		if (adjtime(&slew, NULL) < 0)
			return init_fail(f, INIT_STATUS_SETUP, errno,
					 "adjust the clock");
		return 0;
	}
	if (clock_settime(CLOCK_REALTIME, &then) < 0)
		return init_fail(f, INIT_STATUS_SETUP, errno, "set the clock");
	return 0;
}

/*
 * RNDADDENTROPY mixes the bytes into the pool that keys are made of;
 * RNDRESEEDCRNG makes new ones, which every CPU's generator and getrandom(3) of
 * the vDSO take at their next use. Without the second the old keys, which other
 * machines of the same snapshot have as well, stay for up to a minute.
 */
static int add_entropy(const struct agent_entropy *entropy,
		       struct init_failure *f)
{
	struct {
		struct rand_pool_info head;
		uint8_t bytes[sizeof(entropy->bytes)];
	} wire = {
		.head.entropy_count = 8 * sizeof(entropy->bytes),
		.head.buf_size = sizeof(entropy->bytes),
	};
	autofd int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	int r = 0;

	memcpy(wire.bytes, entropy->bytes, sizeof(wire.bytes));
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &wire) < 0 ||
	    ioctl(fd, RNDRESEEDCRNG) < 0)
		r = init_fail(f, INIT_STATUS_SETUP, errno,
			      "new keys for random numbers");
	explicit_bzero(&wire, sizeof(wire));
	return r;
}

static int configure(const struct init_config *config, struct init_failure *f)
{
	if (config->container)
		return container_prepare(config, f);
	if (net_configure(config, f))
		return -1;
	return config->oci ? crun_prepare(f) : 0;
}

/*
 * A process that is in the middle of a read of a share goes as far as to its
 * end: so this takes some time, but not for ever.
 */
static int hold(struct container *box, bool held, struct init_failure *f)
{
	const struct timespec step = {.tv_nsec = 1000000};
	int r = cgroup_freeze(&box->group, held);

	for (unsigned i = 0; r == 0 && held; i++) {
		if (cgroup_is_frozen(&box->group))
			break;
		if (i == HOLD_MS) {
			(void)cgroup_freeze(&box->group, false);
			r = -ETIMEDOUT;
		}
		nanosleep(&step, NULL);
	}
	return r < 0 ? init_fail(f, INIT_STATUS_SETUP, -r,
				 "the container's processes")
		     : 0;
}

/* As its main process sees it. */
static int open_root(const struct container *box)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/root", (int)box->main_pid);
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* The agent is in its namespace for this moment. */
static int rename_box(struct container *box, const char *hostname,
		      struct init_failure *f)
{
	char path[40];
	autofd int root = -1;
	autofd int own = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
	autofd int there = -1;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%d/ns/uts", (int)box->main_pid);
	there = open(path, O_RDONLY | O_CLOEXEC);
	if (own < 0 || there < 0 || setns(there, CLONE_NEWUTS) < 0)
		return init_fail_path(f, errno, "enter", path);
	if (sethostname(hostname, strlen(hostname)) < 0)
		r = init_fail_path(f, errno, "set hostname", hostname);
	if (setns(own, CLONE_NEWUTS) < 0)
		r = init_fail(f, INIT_STATUS_SETUP, errno, "leave a namespace");
	root = open_root(box);
	if (r == 0 && root >= 0)
		container_rename(root, box->config, hostname);
	return r;
}

static int mark_box(struct container *box, const struct init_clone *clone,
		    struct init_failure *f)
{
	autofd int root = open_root(box);
	uint8_t random[MACHINE_ID_BYTES];

	if (root < 0)
		return init_fail(f, INIT_STATUS_SETUP, errno,
				 "the container's root");
	/* The host's fresh ones are in the kernel's generator. */
	if (getrandom(random, sizeof(random), 0) == sizeof(random))
		(void)machine_id_renew(root, random);
	return container_mark(root, clone, f);
}

static void send_signal(pid_t pid, int number)
{
	kill(pid, number); /* it may just have ended */
}

const struct server_actions server_actions = {
	.configure = configure,
	.prepare = process_prepare,
	.start = process_begin,
	.set_clock = set_clock,
	.add_entropy = add_entropy,
	.kill = send_signal,
	.hold = hold,
	.rename = rename_box,
	.mark = mark_box,
	.report = host_report,
};
