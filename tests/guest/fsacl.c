/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test guest's POSIX ACLs (acl(5)), set and read as the extended attributes
 * they are to the kernel.
 */
#include "fs.h"
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ACCESS  "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

/* As in linux/posix_acl_xattr.h, on a little-endian machine. */
struct acl {
	uint32_t version;
	struct entry {
		uint16_t tag, perm;
		uint32_t id;
	} entry[5];
};

enum {
	USER_OBJ = 1,
	NAMED_USER = 2,
	GROUP_OBJ = 4,
	MASK = 16,
	OTHER = 32,
};

/* The owner's, USER's, the group's, the mask and the others' permissions. */
static struct acl acl_of(unsigned owner, unsigned user, unsigned group,
			 unsigned mask, unsigned other)
{
	return (struct acl){
		2,
		{{USER_OBJ, (uint16_t)owner, UINT32_MAX},
		 {NAMED_USER, (uint16_t)user, USER},
		 {GROUP_OBJ, (uint16_t)group, UINT32_MAX},
		 {MASK, (uint16_t)mask, UINT32_MAX},
		 {OTHER, (uint16_t)other, UINT32_MAX}},
	};
}

static bool has(const char *name, const char *which, const struct acl *want)
{
	struct acl got;

	return getxattr(name, which, &got, sizeof(got)) == sizeof(got) &&
	       memcmp(&got, want, sizeof(got)) == 0;
}

static int set(const char *name, const char *which, const struct acl *acl)
{
	return setxattr(name, which, acl, sizeof(*acl), 0);
}

static int user_reads(void)
{
	const int fd = open("secret", O_RDONLY | O_CLOEXEC);
	const struct acl more = acl_of(6, 6, 0, 6, 0);

	MUST(fd >= 0 && close(fd) == 0);
	REFUSED(open("secret", O_WRONLY), EACCES);
	REFUSED(set("secret", ACCESS, &more), EPERM);
	return 0;
}

static int user_does_not(void)
{
	REFUSED(open("secret", O_RDONLY), EACCES);
	return 0;
}

/* A mode and an ACL are two views of the same. */
static int check_access(void)
{
	struct acl acl = acl_of(6, 4, 0, 4, 0);
	char list[256];

	MUST(make_file("secret", 0600, "s") == 0);
	MUST(as_user(user_does_not) == 0);
	MUST(set("secret", ACCESS, &acl) == 0);
	MUST(mode_of("secret") == (S_IFREG | 0640));
	MUST(has("secret", ACCESS, &acl) && as_user(user_reads) == 0);
	MUST(listxattr("secret", list, sizeof(list)) == sizeof(ACCESS) &&
	     strcmp(list, ACCESS) == 0);
	MUST(chmod("secret", 0600) == 0 && as_user(user_does_not) == 0);
	acl = acl_of(6, 4, 0, 0, 0);
	MUST(has("secret", ACCESS, &acl));
	MUST(chmod("secret", 0644) == 0 && as_user(user_reads) == 0);
	MUST(removexattr("secret", ACCESS) == 0);
	REFUSED(getxattr("secret", ACCESS, list, sizeof(list)), ENODATA);
	REFUSED(set("secret", DEFAULT, &acl), EACCES);
	/* One that says no more than a mode does becomes one. */
	acl = acl_of(7, 0, 0, 0, 0);
	acl.entry[1] = (struct entry){GROUP_OBJ, 5, UINT32_MAX};
	acl.entry[2] = (struct entry){OTHER, 4, UINT32_MAX};
	MUST(setxattr("secret", ACCESS, &acl, 4 + 3 * 8, 0) == 0);
	MUST(mode_of("secret") == (S_IFREG | 0754));
	REFUSED(getxattr("secret", ACCESS, list, sizeof(list)), ENODATA);
	acl.version = 3;
	REFUSED(setxattr("secret", ACCESS, &acl, 4 + 3 * 8, 0), EOPNOTSUPP);
	return 0;
}

/* A new file in a directory inherits, and then umask(2) has no say. */
static int check_default(void)
{
	const struct acl acl = acl_of(7, 7, 5, 7, 0);
	const struct acl file = acl_of(6, 7, 5, 6, 0);
	int fd;

	umask(077);
	MUST(mkdir("d", 0700) == 0 && set("d", DEFAULT, &acl) == 0);
	MUST(mode_of("d") == (S_IFDIR | 0700) && has("d", DEFAULT, &acl));
	MUST(make_file("d/f", 0666, "") == 0);
	MUST(mode_of("d/f") == (S_IFREG | 0660) && has("d/f", ACCESS, &file));
	MUST(mkdir("d/e", 0777) == 0 && mode_of("d/e") == (S_IFDIR | 0770));
	MUST(has("d/e", ACCESS, &acl) && has("d/e", DEFAULT, &acl));
	MUST(mkfifo("d/p", 0666) == 0 && mode_of("d/p") == (S_IFIFO | 0660));
	fd = open("d", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
	MUST(fd >= 0 && fchmod(fd, 0640) == 0 && close(fd) == 0);
	/* Beside it, umask(2) counts as ever. */
	MUST(make_file("plain", 0666, "") == 0);
	MUST(mode_of("plain") == (S_IFREG | 0600));
	umask(027);
	MUST(mkdir("plain-d", 0777) == 0);
	MUST(mode_of("plain-d") == (S_IFDIR | 0750));
	MUST(make_file("plain-d/f", 0666, "") == 0);
	MUST(mode_of("plain-d/f") == (S_IFREG | 0640));
	MUST(removexattr("d", DEFAULT) == 0 && make_file("d/g", 0666, "") == 0);
	MUST(mode_of("d/g") == (S_IFREG | 0640));
	umask(0);
	return 0;
}

static int user_sets(void)
{
	const struct acl acl = acl_of(7, 7, 5, 5, 5);

	return set("mine", ACCESS, &acl);
}

/* A user who is not in a file's group keeps no set-group-ID bit by an ACL. */
static int check_sgid(void)
{
	MUST(make_file("mine", 0755, "") == 0 && chown("mine", USER, 7) == 0);
	MUST(chmod("mine", 02755) == 0 && as_user(user_sets) == 0);
	MUST(mode_of("mine") == (S_IFREG | 0755));
	return 0;
}

static int enter(const char *dir, const char *name)
{
	return chdir(dir) || mkdir(name, 0755) || chdir(name)
		       ? guest_fail("%s/%s", dir, name)
		       : 0;
}

int do_acl(char **arg)
{
	int r = enter(arg[0], "acl");

	umask(0);
	if (r == 0)
		r = check_access() || check_default() || check_sgid() ? -1 : 0;
	return chdir("/") || r ? -1 : 0;
}

/* Refused, not lost. */
int do_noacl(char **arg)
{
	struct acl acl = acl_of(6, 4, 0, 4, 0);

	if (enter(arg[0], "noacl"))
		return -1;
	MUST(make_file("f", 0600, "") == 0);
	REFUSED(set("f", ACCESS, &acl), EOPNOTSUPP);
	REFUSED(set(".", DEFAULT, &acl), EOPNOTSUPP);
	MUST(mode_of("f") == (S_IFREG | 0600));
	return chdir("/");
}
