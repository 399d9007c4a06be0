/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A distribution's kernel has as modules what the project's own has built in.
 * bulkhead-init loads them from the initial RAM disk that is made in memory, so
 * nothing is installed and nothing is left behind.
 */
#include "tools/guest/distro.h"

#include "tools/guest/cache.h"
#include "tools/guest/modules.h"
#include "tools/guest/unpack.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#include <asm/bootparam.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* ---- finding one */

/* All that a kernel needs to be thought of. */
static const char *const musts[] = {"virtio_mmio", "virtiofs"};

void distro_done(struct distro *distro)
{
	free(distro->version);
	free(distro->image);
	free(distro->modules);
	*distro = (struct distro){0};
}

/* The first reason is that of the newest. */
static void set_why(char *why, const char *text)
{
	if (!why[0])
		snprintf(why, DISTRO_WHY, "%s", text);
}

/* Where a bzImage's header is, and what tells it. */
#define HEADER_AT    0x1f1
#define HEADER_MAGIC 0x53726448 /* "HdrS" */
/* kernel_version is an address from here. */
#define VERSION_FROM  0x200
#define VERSION_BYTES 128

/*
 * The version that the bzImage PATH says it has, or "" where it says none, as
 * other images do not. 0 or -errno: it cannot be read.
 */
static int read_version(const char *path, char ret[VERSION_BYTES])
{
	autofd int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct setup_header hdr;
	ssize_t n;

	ret[0] = '\0';
	if (fd < 0)
		return -errno;
	if (pread(fd, &hdr, sizeof(hdr), HEADER_AT) != sizeof(hdr) ||
	    hdr.header != HEADER_MAGIC || !hdr.kernel_version)
		return 0;
	n = pread(fd, ret, VERSION_BYTES - 1,
		  VERSION_FROM + hdr.kernel_version);
	ret[n > 0 ? n : 0] = '\0';
	/* The kernel says behind it who built it, and when. */
	ret[strcspn(ret, " ")] = '\0';
	return 0;
}

/*
 * Whether the image can be read, and is of the modules' version: no module
 * loads into another kernel. 0, -ENOEXEC: of another, or -errno; with a reason.
 */
static int check_image(const struct distro *d, char *text, size_t bytes)
{
	char version[VERSION_BYTES];
	int r = read_version(d->image, version);

	if (r < 0) {
		snprintf(text, bytes, "'%s': %s", d->image, strerror(-r));
		return r;
	}
	if (!version[0] || strcmp(version, d->version) == 0)
		return 0;
	text_make_printable(version);
	snprintf(text, bytes, "'%s' is Linux %s, and '%s' is not for it",
		 d->image, version, d->modules);
	return -ENOEXEC;
}

/*
 * Debian and Ubuntu name the image by its version, Fedora puts it beside the
 * modules, Alpine names it by its flavour. 0: it can be read.
 */
static int find_image(const char *root, struct distro *d, char *why)
{
	const char *flavour = strrchr(d->version, '-');
	char text[MODULES_WHY];
	int r = -ENOENT;

	for (unsigned i = 0; i < 3 && r == -ENOENT; i++) {
		free(d->image);
		d->image = NULL;
		r = i == 0   ? asprintf(&d->image, "%s/boot/vmlinuz-%s", root,
					d->version)
		    : i == 1 ? asprintf(&d->image, "%s/vmlinuz", d->modules)
			     : asprintf(&d->image, "%s/boot/vmlinuz-%s", root,
					flavour ? flavour + 1 : d->version);
		if (r < 0) {
			d->image = NULL;
			return -ENOMEM;
		}
		r = check_image(d, text, sizeof(text));
		if (r == -ENOEXEC) {
			set_why(why, text);
			r = -ENOENT;
		}
	}
	if (r < 0)
		set_why(why, text);
	return r;
}

static int check_modules(const struct distro *d, char *why)
{
	struct modules *m = NULL;
	char text[MODULES_WHY];
	int r = modules_open(d->modules, &m, text);

	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(musts); i++) {
		if (modules_has(m, musts[i]))
			continue;
		snprintf(text, sizeof(text), "'%s' has no module %s",
			 d->modules, musts[i]);
		r = -ENOENT;
	}
	if (r < 0)
		set_why(why, text);
	modules_close(m);
	return r;
}

/* Takes one that cannot be used for none, and says why. */
static int try_version(const char *root, const char *version,
		       struct distro *ret, char *why)
{
	struct distro d = {.version = strdup(version)};
	int r = d.version ? 0 : -ENOMEM;

	if (r == 0 &&
	    asprintf(&d.modules, "%s/lib/modules/%s", root, version) < 0) {
		d.modules = NULL;
		r = -ENOMEM;
	}
	if (r == 0)
		r = find_image(root, &d, why);
	if (r == 0)
		r = check_modules(&d, why);
	if (r == 0)
		*ret = d;
	else
		distro_done(&d);
	return r == 0 || r == -ENOMEM ? r : -ENOENT;
}

static int not_hidden(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int is_distro(const struct dirent *entry)
{
	return strncmp(entry->d_name, "distro-", 7) == 0;
}

static int newest_first(const struct dirent **a, const struct dirent **b)
{
	return strverscmp((*b)->d_name, (*a)->d_name);
}

/* try_each() calls one for each entry, the newest first, until it succeeds. */
typedef int (*try_fn)(const char *dir, const char *name, struct distro *ret,
		      char *why);

static int try_each(const char *path, const char *dir,
		    int (*filter)(const struct dirent *), try_fn try,
		    struct distro *ret, char *why)
{
	struct dirent **entry = NULL;
	int n = scandir(path, &entry, filter, newest_first);
	int r = -ENOENT;

	for (int i = 0; i < n; i++) {
		if (r == -ENOENT)
			r = try(dir, entry[i]->d_name, ret, why);
		free(entry[i]);
	}
	free(entry);
	return r;
}

static int find_below(const char *root, struct distro *ret, char *why)
{
	autofree char *path = NULL;

	if (asprintf(&path, "%s/lib/modules", root) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	return try_each(path, root, not_hidden, try_version, ret, why);
}

static int try_package(const char *cache, const char *name, struct distro *ret,
		       char *why)
{
	autofree char *root = NULL;

	if (asprintf(&root, "%s/%s", cache, name) < 0) {
		root = NULL;
		return -ENOMEM;
	}
	return find_below(root, ret, why);
}

int distro_find_below(const char *root, struct distro *ret, char *ret_why)
{
	ret_why[0] = '\0';
	return find_below(root, ret, ret_why);
}

int distro_find(struct distro *ret, char *ret_why)
{
	const char *root = getenv("BULKHEAD_DISTRO");
	autofree char *cache = cache_dir();
	int r;

	ret_why[0] = '\0';
	if (root && root[0])
		return find_below(root, ret, ret_why);
	r = find_below("", ret, ret_why);
	if (r == -ENOENT && cache)
		r = try_each(cache, cache, is_distro, try_package, ret,
			     ret_why);
	return r;
}

/* ---- its modules */

/* The driver of a device, and whether a guest does without. */
static const struct driver {
	const char *device, *module;
	bool optional;
} drivers[] = {
	{"blk", "virtio_blk", false},
	{"net", "virtio_net", false},
	{"fs", "virtiofs", false},
	{"vsock", "vmw_vsock_virtio_transport", false},
	{"rng", "virtio-rng", true},
};

/*
 * File systems that a root may have, and what they ask the kernel for by names
 * that modules.dep does not have.
 */
static const struct filesystem {
	const char *type;
	const char *names[6]; /* NULL ends them */
} filesystems[] = {
	{"ext4", {"crc32c_generic", "ext4", NULL}},
	{"erofs", {"crc32c_generic", "erofs", NULL}},
	{"squashfs", {"squashfs", NULL}},
	{"xfs", {"crc32c_generic", "xfs", NULL}},
	{"btrfs",
	 {"crc32c_generic", "xxhash_generic", "sha256_generic",
	  "blake2b_generic", "btrfs", NULL}},
};

static bool has_device(const struct config *cfg, const char *type)
{
	for (unsigned i = 0; i < cfg->ndevices; i++)
		if (strcmp(cfg->device[i].type, type) == 0)
			return true;
	return false;
}

/* First the bus and the console, so that what fails then can be read. */
static int list_drivers(const struct distro *d, struct modules *m,
			const struct config *cfg, bool mount_root,
			struct initrd_files *files)
{
	const char *names[ARRAY_LEN(drivers) + 4];
	unsigned n = 0;

	names[n++] = "virtio_mmio";
	names[n++] = "virtio_console";
	for (unsigned i = 0; i < ARRAY_LEN(drivers); i++) {
		const struct driver *driver = &drivers[i];

		if (!has_device(cfg, driver->device))
			continue;
		if (!driver->optional && !modules_has(m, driver->module))
			return log_ret(-ENOENT,
				       "the distribution's kernel %s has no "
				       "module %s, which the device '%s' "
				       "needs",
				       d->version, driver->module,
				       driver->device);
		names[n++] = driver->module;
	}
	if (!mount_root) {
		if (!modules_has(m, "overlay"))
			return log_ret(-ENOENT,
				       "the distribution's kernel %s has no "
				       "module overlay, which containers need",
				       d->version);
		names[n++] = "overlay";
	}
	names[n] = NULL;
	return modules_list(m, "load", names, files);
}

static int list_filesystems(struct modules *m, struct initrd_files *files)
{
	char list[32];
	int r = 0;

	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(filesystems); i++) {
		snprintf(list, sizeof(list), "fs-%s", filesystems[i].type);
		r = modules_list(m, list, filesystems[i].names, files);
	}
	return r;
}

int distro_files(const struct distro *d, const struct config *cfg,
		 bool mount_root, struct initrd_files *files)
{
	const size_t first = files->count;
	struct modules *m = NULL;
	char why[MODULES_WHY];
	int r = modules_open(d->modules, &m, why);

	if (r < 0)
		return log_ret(r, "%s", why);
	r = list_drivers(d, m, cfg, mount_root, files);
	if (r == 0 && mount_root && has_device(cfg, "blk"))
		r = list_filesystems(m, files);
	if (r == 0 && mount_root) {
		r = initrd_add_data(files, "mount-root", "", 0);
		if (r < 0)
			log_error("the initial RAM disk: %s", strerror(-r));
	}
	modules_close(m);
	return r < 0 ? r
		     : unpack_files(files->file + first, files->count - first);
}
