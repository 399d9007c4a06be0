/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/config, vmm/config-json, vmm/suggest: with device types of its own. */
#include "vmm/config/config.h"

#include "vmm/base/log.h"
#include "vmm/base/suggest.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static const struct config_key disk_keys[] = {
	{.name = "path",
	 .kind = CONFIG_TEXT,
	 .path = true,
	 .required = true,
	 .bare = true},
	{.name = "readonly", .kind = CONFIG_FLAG},
	{.name = "id", .kind = CONFIG_TEXT},
	{.name = "cache", .kind = CONFIG_CHOICE, .choices = "none|some|all"},
	{.name = "depth", .kind = CONFIG_NUMBER, .min = 1, .max = 64},
	{.name = "part", .kind = CONFIG_SIZE, .min = 512},
	{.name = "mac", .kind = CONFIG_MAC},
	{.name = "tag", .kind = CONFIG_TEXT, .list = true},
	{0},
};
static const struct config_key no_keys[] = {{0}};
static int check_disk(const struct config_device *dev)
{
	if (config_flag(dev, "readonly") && config_text(dev, "part"))
		return log_ret(-EINVAL, "disk: readonly excludes part");
	return 0;
}

static const struct config_type disk = {
	.name = "disk",
	.help = "a disk",
	.keys = disk_keys,
	.check = check_disk,
};
static const struct config_type plain = {
	.name = "plain", .help = "no keys", .keys = no_keys};
static const struct config_type keyless = {
	.name = "keyless", .help = "none", .keys = NULL};
static const struct config_type *const types[] = {&disk, &plain, &keyless,
						  NULL};

/* The function's messages on standard error, in TEXT. */
struct capture {
	int saved, fd;
	char text[4096];
};

static void capture_begin(struct capture *c)
{
	fflush(stderr);
	c->saved = dup(STDERR_FILENO);
	c->fd = memfd_create("stderr", MFD_CLOEXEC);
	assert_true(c->saved >= 0 && c->fd >= 0);
	dup2(c->fd, STDERR_FILENO);
}

static void capture_end(struct capture *c)
{
	ssize_t n;

	fflush(stderr);
	dup2(c->saved, STDERR_FILENO);
	close(c->saved);
	n = pread(c->fd, c->text, sizeof(c->text) - 1, 0);
	c->text[n > 0 ? n : 0] = '\0';
	close(c->fd);
}

/* The one line it said contains PART. */
static void assert_said(const struct capture *c, const char *part)
{
	const char *newline = strchr(c->text, '\n');

	if (!strstr(c->text, part))
		fail_msg("expected '%s' in '%s'", part, c->text);
	assert_non_null(newline);
	assert_string_equal(newline, "\n");
}

static int setup(void **state)
{
	static struct config cfg;

	config_init(&cfg);
	assert_int_equal(config_set(&cfg, "--", "kernel", "vmlinux"), 0);
	*state = &cfg;
	return 0;
}

static int teardown(void **state)
{
	config_done(*state);
	return 0;
}

static void set_fails(struct config *cfg, const char *name, const char *value,
		      const char *said)
{
	struct capture c;
	int r;

	capture_begin(&c);
	r = config_set(cfg, "--", name, value);
	capture_end(&c);
	assert_int_equal(r, -EINVAL);
	assert_said(&c, said);
}

static void test_defaults(void **state)
{
	const struct config *cfg = *state;

	assert_true(cfg->memory_bytes == 256 * MIB);
	assert_int_equal(cfg->cpus, 1);
	assert_true(cfg->sandbox);
	assert_int_equal(cfg->ndevices, 0);
	assert_int_equal(config_check(cfg, types), 0);
}

static void test_set(void **state)
{
	struct config *cfg = *state;

	assert_int_equal(config_set(cfg, "--", "memory", "1G"), 0);
	assert_true(cfg->memory_bytes == GIB);
	assert_int_equal(config_set(cfg, "--", "cpus", "4"), 0);
	assert_int_equal(cfg->cpus, 4);
	assert_int_equal(config_set(cfg, "--", "console", "none"), 0);
	assert_int_equal(cfg->console, CONFIG_CONSOLE_NONE);
	assert_int_equal(config_set(cfg, "--", "entry", "pvh"), 0);
	assert_int_equal(cfg->entry, CONFIG_ENTRY_PVH);
	assert_int_equal(config_set(cfg, "--", "assist", "off"), 0);
	assert_int_equal(cfg->assist, CONFIG_ASSIST_OFF);
	assert_int_equal(config_set(cfg, "--", "sandbox", "false"), 0);
	assert_false(cfg->sandbox);
	assert_int_equal(config_set(cfg, "--", "name", "one"), 0);
	assert_int_equal(config_set(cfg, "--", "name", "two"), 0);
	assert_string_equal(cfg->name, "two");
	assert_int_equal(config_set(cfg, "--", "nonsense", "1"), -ENOENT);
}

static void test_set_bad(void **state)
{
	struct config *cfg = *state;

	set_fails(cfg, "memory", "12X",
		  "bulkhead: --memory '12X': not a size: use a number with K, "
		  "M or G");
	set_fails(cfg, "cpus", "two", "--cpus 'two': not a whole number");
	set_fails(cfg, "cpus", "-1", "--cpus '-1'");
	set_fails(cfg, "console", "vga",
		  "--console 'vga': not one of auto, serial, virtio, none");
	set_fails(cfg, "console", "aut", "--console 'aut'");
	set_fails(cfg, "console", "", "--console ''");
	set_fails(cfg, "kernel", "", "--kernel ''");
	assert_string_equal(cfg->kernel, "vmlinux");
	assert_int_equal(cfg->cpus, 1);
}

static void check_fails(const struct config *cfg, const char *said)
{
	struct capture c;
	int r;

	capture_begin(&c);
	r = config_check(cfg, types);
	capture_end(&c);
	assert_int_equal(r, -EINVAL);
	assert_said(&c, said);
}

static void test_limits(void **state)
{
	struct config *cfg = *state;

	cfg->cpus = 0;
	check_fails(cfg, "cpus '0': must be 1 to 32");
	cfg->cpus = 33;
	check_fails(cfg, "cpus '33'");
	cfg->cpus = 32;
	cfg->memory_bytes = 32 * MIB - 4096;
	check_fails(cfg, "memory '32764K': must be 32M to 1024G");
	cfg->memory_bytes = 1024 * GIB + 4096;
	check_fails(cfg, "must be 32M to 1024G");
	cfg->memory_bytes = 32 * MIB + 1;
	check_fails(cfg, "multiple of 4K");
	cfg->memory_bytes = 32 * MIB;
	assert_int_equal(config_check(cfg, types), 0);
	assert_int_equal(config_set(cfg, "", "name", "a/b"), 0);
	check_fails(cfg, "name 'a/b'");
	assert_int_equal(config_set(cfg, "", "name", "web-1.example_a"), 0);
	assert_int_equal(config_check(cfg, types), 0);
	free(cfg->kernel);
	cfg->kernel = NULL;
	check_fails(cfg, "no kernel");
}

static void test_device(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 9};
	struct config *cfg = *state;
	const struct config_device *d = &cfg->device[0];
	uint8_t got[6];

	assert_int_equal(
		config_add_device(cfg, &disk,
				  "a,,b.img,readonly=no,part=1M,depth=0x8,"
				  "mac=02:00:00:00:00:09,cache=some"),
		0);
	assert_int_equal(cfg->ndevices, 1);
	assert_string_equal(d->type, "disk");
	assert_string_equal(config_text(d, "path"), "a,b.img");
	assert_null(config_text(d, "id"));
	assert_false(config_flag(d, "readonly"));
	assert_false(config_flag(d, "id"));
	assert_true(config_number(d, "part", 7) == MIB);
	assert_true(config_number(d, "depth", 7) == 8);
	assert_true(config_number(d, "absent", 7) == 7);
	assert_true(config_mac(d, "mac", got));
	assert_memory_equal(got, mac, 6);
	assert_false(config_mac(d, "absent", got));
	assert_int_equal(config_check(cfg, types), 0);
}

static void test_device_forms(void **state)
{
	struct config *cfg = *state;

	assert_int_equal(config_add_device(cfg, &disk, "./a=b.img"), 0);
	assert_string_equal(config_text(&cfg->device[0], "path"), "./a=b.img");
	assert_int_equal(config_add_device(cfg, &disk, "path=a=b,readonly=off"),
			 0);
	assert_string_equal(config_text(&cfg->device[1], "path"), "a=b");
	assert_false(config_flag(&cfg->device[1], "readonly"));
	assert_int_equal(config_add_device(cfg, &disk, "readonly,path=x"), 0);
	assert_true(config_flag(&cfg->device[2], "readonly"));
	assert_int_equal(config_add_device(cfg, &plain, ""), 0);
	assert_int_equal(config_add_device(cfg, &keyless, ""), 0);
	assert_int_equal(
		config_add_device(cfg, &disk, "x,tag=a,id=i,tag=b,,c,tag=d"),
		0);
	assert_string_equal(config_text(&cfg->device[5], "tag"), "a,b,c,d");
	assert_int_equal(cfg->device[5].nparams, 3);
	assert_int_equal(config_check(cfg, types), 0);
}

static void add_fails(struct config *cfg, const struct config_type *type,
		      const char *text, const char *said)
{
	unsigned before = cfg->ndevices;
	struct capture c;
	int r;

	capture_begin(&c);
	r = config_add_device(cfg, type, text);
	if (r == 0) {
		r = config_check(cfg, types);
		before++;
	}
	capture_end(&c);
	assert_int_equal(r, -EINVAL);
	assert_said(&c, said);
	assert_int_equal(cfg->ndevices, before);
	if (before) {
		/* The next one is judged alone. */
		config_done(cfg);
		config_init(cfg);
		assert_int_equal(config_set(cfg, "", "kernel", "k"), 0);
	}
}

static void test_device_bad(void **state)
{
	struct config *cfg = *state;

	add_fails(cfg, &disk, "x,readnly",
		  "disk: unknown key 'readnly': did you mean 'readonly'? known "
		  "are: path, readonly, id, cache, depth, part, mac, tag");
	add_fails(cfg, &disk, "pat=x", "did you mean 'path'?");
	add_fails(cfg, &disk, "x,zzzzzz=1", "unknown key 'zzzzzz': known are:");
	add_fails(cfg, &disk, "x,", "an item is empty");
	add_fails(cfg, &disk, "", "key 'path'");
	add_fails(cfg, &disk, "x,id", "key 'id' needs a value");
	add_fails(cfg, &disk, "x,id=", "id ''");
	add_fails(cfg, &disk, "x,,y,", "an item is empty");
	add_fails(cfg, &disk, ",x", "an item is empty");
	add_fails(cfg, &disk, "x,path=y", "key 'path' is given twice");
	add_fails(cfg, &disk, "x,readonly=maybe", "not true or false");
	add_fails(cfg, &disk, "x,cache=a", "not one of none, some, all");
	add_fails(cfg, &disk, "x,depth=65", "at most 64");
	add_fails(cfg, &disk, "x,depth=0", "at least 1");
	add_fails(cfg, &disk, "x,depth=1K", "not a whole number");
	add_fails(cfg, &disk, "x,part=1", "at least 512");
	add_fails(cfg, &disk, "x,part=big", "not a size");
	add_fails(cfg, &disk, "x,mac=03:00:00:00:00:01", "station");
	add_fails(cfg, &disk, "readonly", "key 'path'");
	add_fails(cfg, &disk, "x,readonly,part=1K", "readonly excludes part");
	add_fails(cfg, &plain, "x", "unknown key 'x': known are: none");
	add_fails(cfg, &keyless, "x=1", "unknown key 'x'");
}

static void test_device_count(void **state)
{
	struct config *cfg = *state;

	for (int i = 0; i < CONFIG_DEVICES_MAX; i++)
		assert_int_equal(config_add_device(cfg, &plain, ""), 0);
	add_fails(cfg, &plain, "", "256 devices already");
}

static void test_unknown_type(void **state)
{
	static const struct config_type other = {
		.name = "other", .help = "", .keys = no_keys};
	struct config *cfg = *state;

	assert_int_equal(config_add_device(cfg, &other, ""), 0);
	check_fails(cfg, "device type 'other' is unknown");
}

static void read_json(struct config *cfg, const char *text)
{
	assert_int_equal(config_read_json_bytes(cfg, "x.json", text,
						strlen(text), types),
			 0);
}

static void json_fails(struct config *cfg, const char *text, const char *said)
{
	struct capture c;
	int r;

	capture_begin(&c);
	r = config_read_json_bytes(cfg, "x.json", text, strlen(text), types);
	capture_end(&c);
	assert_int_equal(r, -EINVAL);
	assert_said(&c, said);
}

/* Paths of devices, and no other text. */
static void test_directory(void **state)
{
	struct config cfg;

	(void)state;
	config_init(&cfg);
	assert_int_equal(config_add_device(&cfg, &disk, "a/b,id=c/d"), 0);
	assert_int_equal(config_add_device(&cfg, &disk, "/e"), 0);
	assert_int_equal(config_set_directory(&cfg, "/where", types), 0);
	assert_string_equal(config_text(&cfg.device[0], "path"), "/where/a/b");
	assert_string_equal(config_text(&cfg.device[0], "id"), "c/d");
	assert_string_equal(config_text(&cfg.device[1], "path"), "/e");
	config_done(&cfg);
}

static void test_json(void **state)
{
	struct config *cfg = *state;

	read_json(cfg, "{\"memory\": 67108864, \"cpus\": \"3\", "
		       "\"hugetlb\": true, \"console\": \"serial\","
		       "\"devices\": [{\"type\": \"disk\", \"path\": \"a,b\","
		       "\"readonly\": true, \"depth\": 3}]}");
	assert_string_equal(cfg->kernel, "vmlinux");
	assert_true(cfg->memory_bytes == 64 * MIB);
	assert_int_equal(cfg->cpus, 3);
	assert_true(cfg->hugetlb);
	assert_int_equal(cfg->console, CONFIG_CONSOLE_SERIAL);
	assert_int_equal(cfg->ndevices, 1);
	assert_string_equal(config_text(&cfg->device[0], "path"), "a,b");
	assert_true(config_flag(&cfg->device[0], "readonly"));
	/* Over what is there: values replace, devices are added. */
	read_json(cfg, "{\"cpus\": 1, \"devices\": [{\"type\": \"plain\"}]}");
	assert_int_equal(cfg->cpus, 1);
	assert_int_equal(cfg->ndevices, 2);
	assert_int_equal(config_check(cfg, types), 0);
}

static void test_json_bad(void **state)
{
	struct config *cfg = *state;

	json_fails(cfg, "", "config 'x.json': line 1:");
	json_fails(cfg, "{\n\"cpus\": 1,\n}", "config 'x.json': line 3:");
	json_fails(cfg, "[]", "expected an object");
	json_fails(cfg, "{\"cpus\": 1, \"cpus\": 2}", "cpus");
	json_fails(cfg, "{\"cpu\": 1}",
		   "config 'x.json': unknown key 'cpu': did you mean 'cpus'?");
	json_fails(cfg, "{\"memory\": \"12X\"}",
		   "config 'x.json': memory '12X': not a size");
	json_fails(cfg, "{\"memory\": 1.5}", "memory: expected a string");
	json_fails(cfg, "{\"memory\": -1}", "memory '-1'");
	json_fails(cfg, "{\"kernel\": null}", "kernel: expected a string");
	json_fails(cfg, "{\"devices\": {}}", "devices: expected a list");
	json_fails(cfg, "{\"devices\": [1]}", "devices[0]: expected an object");
	json_fails(cfg, "{\"devices\": [{}]}", "devices[0]");
	json_fails(cfg, "{\"devices\": [{\"type\": \"dsk\"}]}",
		   "unknown device type 'dsk': did you mean 'disk'?");
	json_fails(cfg, "{\"devices\": [{\"type\": \"disk\", \"x\": 1}]}",
		   "disk: unknown key 'x'");
	json_fails(cfg, "{\"devices\": [{\"type\": \"disk\", \"id\": []}]}",
		   "id: expected a string");
	assert_int_equal(cfg->ndevices, 0);
}

/* FD's whole content, at most BYTES - 1. */
static void content(int fd, char *buf, size_t bytes)
{
	ssize_t n = pread(fd, buf, bytes - 1, 0);

	assert_true(n > 0);
	buf[n] = '\0';
}

static void test_json_round_trip(void **state)
{
	autofd int first = memfd_create("first", MFD_CLOEXEC);
	autofd int second = memfd_create("second", MFD_CLOEXEC);
	struct config *cfg = *state, again;
	char a[4096], b[4096];

	assert_int_equal(config_set(cfg, "", "append",
				    "quote \" and \\ \t\xc3"
				    "\xa4"),
			 0);
	assert_int_equal(config_set(cfg, "", "memory", "33555456"), 0);
	assert_int_equal(config_set(cfg, "", "assist", "on"), 0);
	assert_int_equal(config_add_device(cfg, &disk,
					   "x,,y,readonly,depth=0x10,part=1K"),
			 0);
	assert_int_equal(config_add_device(cfg, &plain, ""), 0);
	assert_int_equal(config_write_json(cfg, first, types), 0);
	content(first, a, sizeof(a));
	config_init(&again);
	read_json(&again, a);
	assert_true(again.memory_bytes == cfg->memory_bytes);
	assert_string_equal(again.append, cfg->append);
	assert_string_equal(config_text(&again.device[0], "path"), "x,y");
	assert_int_equal(config_write_json(&again, second, types), 0);
	content(second, b, sizeof(b));
	assert_string_equal(a, b);
	config_done(&again);
}

static void test_json_files(void **state)
{
	struct config *cfg = *state;
	struct capture c;
	int r[3];

	capture_begin(&c);
	r[0] = config_read_json(cfg, "/nonexistent.json", types);
	r[1] = config_read_json(cfg, "/tmp", types);
	r[2] = config_read_json(cfg, "/dev/zero", types);
	capture_end(&c);
	assert_int_equal(r[0], -ENOENT);
	assert_int_equal(r[1], -EINVAL);
	assert_int_equal(r[2], -EINVAL);
	assert_non_null(strstr(c.text, "config '/nonexistent.json': No such"));
	assert_non_null(strstr(c.text, "config '/dev/zero': not a regular"));
}

static void test_not_utf8(void **state)
{
	struct config *cfg = *state;
	struct capture c;
	int r;

	assert_int_equal(config_set(cfg, "", "append", "\xff"), 0);
	capture_begin(&c);
	r = config_write_json(cfg, c.fd, types);
	capture_end(&c);
	assert_int_equal(r, -EINVAL);
	assert_said(&c, "UTF-8");
}

static void test_suggest(void **state)
{
	static const char *const words[] = {"memory", "cpus",       "console",
					    "config", "no-sandbox", NULL};

	(void)state;
	assert_string_equal(suggest("memroy", words), "memory");
	assert_string_equal(suggest("mem", words), "memory");
	assert_string_equal(suggest("cpu", words), "cpus");
	assert_string_equal(suggest("sandbox", words), "no-sandbox");
	assert_null(suggest("xyzzy", words));
	assert_null(suggest("", words));
	assert_null(suggest("a", words));
	assert_null(
		suggest("a-word-that-is-longer-than-any-option-here", words));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_defaults),
		TEST(test_set),
		TEST(test_set_bad),
		TEST(test_limits),
		TEST(test_device),
		TEST(test_device_forms),
		TEST(test_device_bad),
		TEST(test_device_count),
		TEST(test_unknown_type),
		TEST(test_json),
		TEST(test_json_bad),
		TEST(test_json_round_trip),
		TEST(test_json_files),
		TEST(test_not_utf8),
		cmocka_unit_test(test_suggest),
		cmocka_unit_test(test_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
