/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON configuration, and a device's text (the input after its first NUL).
 * An accepted one must be printable and read back as the same.
 */
#include "vmm/config/config.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct config_key keys[] = {
	{.name = "path", .kind = CONFIG_TEXT, .required = true, .bare = true},
	{.name = "readonly", .kind = CONFIG_FLAG},
	{.name = "cache", .kind = CONFIG_CHOICE, .choices = "none|some|all"},
	{.name = "depth", .kind = CONFIG_NUMBER, .min = 1, .max = 64},
	{.name = "part", .kind = CONFIG_SIZE, .min = 512},
	{.name = "mac", .kind = CONFIG_MAC},
	{0},
};
static const struct config_type disk = {
	.name = "disk", .help = "a disk", .keys = keys};
static const struct config_type *const types[] = {&disk, NULL};

/* The configuration as JSON, allocated; NULL when it has none. */
static char *dump(const struct config *cfg)
{
	autofd int fd = memfd_create("dump", MFD_CLOEXEC);
	autofree char *text = NULL;
	off_t bytes;

	if (fd < 0 || config_write_json(cfg, fd, types) < 0)
		return NULL;
	bytes = lseek(fd, 0, SEEK_END);
	text = calloc(1, (size_t)bytes + 1);
	if (!text || util_read_at(fd, text, (size_t)bytes, 0) < 0)
		return NULL;
	return take_ptr(text);
}

static void check_round_trip(const struct config *cfg)
{
	autofree char *first = dump(cfg);
	autofree char *second = NULL;
	struct config again;

	if (!first)
		return;
	config_init(&again);
	if (config_read_json_bytes(&again, "again", first, strlen(first),
				   types) < 0)
		abort();
	second = dump(&again);
	if (!second || strcmp(first, second) != 0)
		abort();
	config_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
	size_t json = nul ? (size_t)(nul - data) : size;
	struct config cfg;

	log_setup(LOG_ERROR, false);
	config_init(&cfg);
	if (config_read_json_bytes(&cfg, "fuzz", data, json, types) == 0)
		check_round_trip(&cfg);
	if (nul) {
		autofree char *text =
			strndup((const char *)nul + 1, size - json - 1);

		if (text && config_add_device(&cfg, &disk, text) == 0 &&
		    config_check(&cfg, types) == 0)
			check_round_trip(&cfg);
	}
	config_done(&cfg);
	return 0;
}
