/* SPDX-License-Identifier: Apache-2.0 */
/* The test guest asks its kernel for what programs in containers ask for. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <linux/vm_sockets.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LANDLOCK_VERSION 1u /* LANDLOCK_CREATE_RULESET_VERSION */
#define VSOCK_PORT       1234

static int has_userfaultfd(void)
{
	return (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
}

static int has_landlock(void)
{
	return (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
			    LANDLOCK_VERSION);
}

static int has_binfmt_misc(void)
{
	mkdir("/tmp", 0755);
	mkdir("/tmp/binfmt", 0755);
	return mount("binfmt_misc", "/tmp/binfmt", "binfmt_misc", 0, NULL);
}

/* A word of its own in FILE. */
static int lists(const char *file, const char *word)
{
	char text[8192], *save;

	if (guest_read(file, text, sizeof(text)))
		return -1;
	for (char *p = strtok_r(text, " \t\n", &save); p;
	     p = strtok_r(NULL, " \t\n", &save)) {
		if (strcmp(p, word) == 0)
			return 0;
	}
	errno = ENOENT;
	return -1;
}

static int has_squashfs(void)
{
	return lists("/proc/filesystems", "squashfs");
}

static int has_ip_set(void)
{
	return lists("/proc/net/ip_tables_matches", "set");
}

static int has_vsock_loopback(void)
{
	const struct sockaddr_vm to = {
		.svm_family = AF_VSOCK,
		.svm_port = VSOCK_PORT,
		.svm_cid = VMADDR_CID_LOCAL,
	};
	const int server = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int client = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = server < 0 || client < 0 ? -1 : 0;

	if (r == 0)
		r = bind(server, (const void *)&to, sizeof(to));
	if (r == 0)
		r = listen(server, 1);
	if (r == 0)
		r = connect(client, (const void *)&to, sizeof(to));
	return r;
}

/* Only a kernel that can restore processes lets their ids be chosen so. */
static int has_checkpoint(void)
{
	return access("/proc/sys/kernel/ns_last_pid", R_OK | W_OK);
}

static const struct offer {
	const char *name;
	int (*ask)(void); /* negative: it is not there, errno says why */
} offers[] = {
	{"userfaultfd", has_userfaultfd},
	{"landlock", has_landlock},
	{"binfmt_misc", has_binfmt_misc},
	{"squashfs", has_squashfs},
	{"ip_set", has_ip_set},
	{"vsock-loopback", has_vsock_loopback},
	{"checkpoint", has_checkpoint},
	{NULL, NULL},
};

static int do_offers(char **arg)
{
	(void)arg;
	guest_mounts();
	for (const struct offer *o = offers; o->name; o++) {
		errno = 0;
		if (o->ask() < 0)
			return guest_fail("offers: %s", o->name);
		say("fact %s yes", o->name);
	}
	return 0;
}

const struct action offer_actions[] = {
	{"offers", 0, do_offers, ""},
	{NULL, 0, NULL, NULL},
};
