/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-init: PID 1 of a container's VM. Sets up the little it needs itself,
 * serves the host as the agent of docs/AGENT, and powers the machine off.
 * Inside of a container, as "bulkhead-init -- COMMAND...", it is a PID 1 that
 * reaps. With a distribution's kernel it loads modules first; for `bulkhead
 * boot` it then mounts the root and becomes its init.
 */
#include "firmware/init/cgroup.h"
#include "firmware/init/host-socket.h"
#include "firmware/init/modules.h"
#include "firmware/init/mount-root.h"
#include "firmware/init/reaper.h"
#include "firmware/init/server.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void make_devices(void)
{
	mkdir("/dev", 0755);
	mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3));
	mknod("/dev/urandom", S_IFCHR | 0600, makedev(1, 9));
	mknod("/dev/kmsg", S_IFCHR | 0600, makedev(1, 11));
	mknod("/dev/console", S_IFCHR | 0600, makedev(5, 1));
}

/*
 * The kernel opens none of these without a console, whose driver may be one of
 * the modules.
 */
static void open_stdio(void)
{
	int fd = STDIN_FILENO;

	while (fcntl(STDERR_FILENO, F_GETFD) < 0 && fd >= 0 &&
	       fd <= STDERR_FILENO)
		fd = open("/dev/console", O_RDWR | O_NOCTTY);
	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	util_close(&fd);
}

static int serve(void)
{
	struct server server;
	const int fd = host_listen();
	struct init_failure f;
	int r;

	if (fd < 0) {
		init_say("vsock: %s", strerror(-fd));
		return fd;
	}
	r = server_init(&server, &server_actions, fd);
	if (r < 0) {
		init_say("signalfd: %s", strerror(-r));
		return r;
	}
	/* A container that cannot do without says why. */
	(void)cgroup_begin(&f);
	r = server_report(&server);
	if (r == -ENODEV) {
		/* Nobody could ever reach the agent. */
		init_say("vsock: no device, or no driver for it");
		return -ENODEV;
	}
	server.report_due = r < 0;
	r = server_run(&server);
	if (r < 0)
		init_say("poll: %s", strerror(-r));
	/*
	 * The container's mounts are still there: now what they owe is written.
	 * Taking them apart would take longer than the power-off that follows.
	 */
	sync();
	return r;
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "--") == 0)
		return reaper_run(argv + 2);
	if (getpid() != 1) {
		fputs("bulkhead-init is PID 1 of a VM that bulkhead runs\n",
		      stderr);
		return 2;
	}
	if (access("/mount-root", F_OK) == 0)
		return root_mount_and_run(argv);
	/* The container may not look into a process before its exec. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	process_raise_priority();
	make_devices();
	(void)modules_load("load", 1);
	open_stdio();
	umask(022);
	mkdir("/proc", 0555);
	if (mount("proc", "/proc", "proc", 0, NULL) < 0)
		init_say("mount /proc: %s", strerror(errno));
	mkdir("/sys", 0555);
	if (mount("sysfs", "/sys", "sysfs", 0, NULL) < 0)
		init_say("mount /sys: %s", strerror(errno));
	serve();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
