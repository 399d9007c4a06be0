/* SPDX-License-Identifier: Apache-2.0 */
/* The tar reader: what it understands, and what it refuses. And SHA-256. */
#include "tests/archive.h"
#include "tools/image/sha256.h"
#include "firmware/archive/tar.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Input that comes in pieces of STEP bytes. */
struct feed {
	const struct bytes *bytes;
	size_t at, step;
};

static ssize_t feed_read(void *arg, void *buf, size_t len)
{
	struct feed *feed = arg;

	len = min_u64(len, min_u64(feed->step, feed->bytes->len - feed->at));
	if (len > 0)
		memcpy(buf, feed->bytes->data + feed->at, len);
	feed->at += len;
	return (ssize_t)len;
}

struct reading {
	struct tar tar;
	struct feed feed;
};

static void begin(struct reading *rd, const struct bytes *bytes, size_t step)
{
	const struct tar_input in = {
		.name = "test", .arg = &rd->feed, .read = feed_read};

	rd->feed = (struct feed){.bytes = bytes, .step = step};
	tar_init(&rd->tar, &in);
}

/* The result of the whole archive: 0 or -errno. */
static int read_through(const struct bytes *bytes)
{
	struct reading rd;
	int r;

	begin(&rd, bytes, 1000);
	while ((r = tar_next(&rd.tar)) > 0)
		;
	tar_done(&rd.tar);
	return r;
}

static void reads_every_type(void **state)
{
	static const struct archive_file files[] = {
		{.type = '0',
		 .path = "file",
		 .content = "content",
		 .mode = 04755,
		 .uid = 1000,
		 .gid = 100},
		{.type = '5', .path = "dir/", .mode = 01777},
		{.type = '2', .path = "link", .link = "../x", .mode = 0777},
		{.type = '1', .path = "hard", .link = "file", .mode = 0644},
		{.type = '3',
		 .path = "null",
		 .mode = 0666,
		 .major = 1,
		 .minor = 3},
		{.type = '4', .path = "sda", .mode = 0660, .major = 8},
		{.type = '6', .path = "pipe", .mode = 0600},
	};
	static const enum tar_type types[] = {TAR_FILE, TAR_DIR,  TAR_SYMLINK,
					      TAR_LINK, TAR_CHAR, TAR_BLOCK,
					      TAR_FIFO};

	(void)state;
	for (size_t step = 1; step < 2000; step = step * 3 + 1) {
		struct bytes tar = {0};
		struct reading rd;
		char buf[32];

		for (unsigned i = 0; i < ARRAY_LEN(files); i++)
			tar_add(&tar, &files[i]);
		tar_end(&tar);
		begin(&rd, &tar, step);
		for (unsigned i = 0; i < ARRAY_LEN(files); i++) {
			const struct tar_entry *e = &rd.tar.entry;

			assert_int_equal(tar_next(&rd.tar), 1);
			assert_int_equal(e->type, types[i]);
			assert_string_equal(e->path, files[i].path);
			assert_int_equal(e->mode, files[i].mode);
			assert_int_equal(e->uid, files[i].uid);
			assert_int_equal(e->gid, files[i].gid);
			assert_int_equal(e->major, files[i].major);
			assert_int_equal(e->minor, files[i].minor);
			assert_int_equal(e->mtime.tv_sec, 1000000000);
			if (files[i].link)
				assert_string_equal(e->link, files[i].link);
			else
				assert_null(e->link);
			if (i == 0) {
				size_t n = 0;
				ssize_t got;

				while ((got = tar_read(&rd.tar, buf + n, 8)) >
				       0)
					n += (size_t)got;
				assert_int_equal(got, 0);
				assert_int_equal(n, 7);
				assert_memory_equal(buf, "content", 7);
			}
		}
		assert_int_equal(tar_next(&rd.tar), 0);
		tar_done(&rd.tar);
		bytes_free(&tar);
	}
}

static void passes_over_data(void **state)
{
	struct bytes tar = {0};
	struct reading rd;
	char content[3001];

	(void)state;
	memset(content, 'x', 3000);
	content[3000] = '\0';
	tar_file(&tar, "a", content);
	tar_file(&tar, "b", "b");
	tar_end(&tar);
	begin(&rd, &tar, 77);
	assert_int_equal(tar_next(&rd.tar), 1);
	assert_int_equal(tar_read(&rd.tar, content, 10), 10);
	assert_int_equal(tar_next(&rd.tar), 1);
	assert_string_equal(rd.tar.entry.path, "b");
	assert_int_equal(tar_next(&rd.tar), 0);
	tar_done(&rd.tar);
	bytes_free(&tar);
}

static void an_empty_archive_has_no_entries(void **state)
{
	struct bytes tar = {0};

	(void)state;
	assert_int_equal(read_through(&tar), 0);
	tar_end(&tar);
	assert_int_equal(read_through(&tar), 0);
	bytes_free(&tar);
}

static void reads_extended_headers(void **state)
{
	struct bytes tar = {0};
	struct reading rd;
	const struct tar_entry *e = &rd.tar.entry;
	char name[1001];

	(void)state;
	memset(name, 'n', 1000);
	name[1000] = '\0';
	tar_pax(&tar, "path", name, 1000);
	tar_file(&tar, "short", "x");
	tar_pax(&tar, "SCHILY.xattr.user.x", "a\0=\nb", 5);
	tar_file(&tar, "second", "");
	tar_pax(&tar, "uid", "70000", 5);
	tar_file(&tar, "third", "");
	tar_pax(&tar, "mtime", "-1.25", 5);
	tar_file(&tar, "fourth", "");
	tar_pax(&tar, "linkpath", name, 1000);
	tar_symlink(&tar, "fifth", "x");
	tar_end(&tar);
	begin(&rd, &tar, 512);
	assert_int_equal(tar_next(&rd.tar), 1);
	assert_string_equal(e->path, name);
	assert_int_equal(tar_next(&rd.tar), 1);
	assert_string_equal(e->path, "second");
	assert_int_equal(e->nxattrs, 1);
	assert_string_equal(e->xattrs[0].name, "user.x");
	assert_int_equal(e->xattrs[0].bytes, 5);
	assert_memory_equal(e->xattrs[0].value, "a\0=\nb", 5);
	assert_int_equal(tar_next(&rd.tar), 1);
	assert_int_equal(e->uid, 70000);
	assert_int_equal(e->nxattrs, 0);
	assert_int_equal(tar_next(&rd.tar), 1);
	assert_int_equal(e->uid, 0);
	assert_int_equal(e->mtime.tv_sec, -2);
	assert_int_equal(e->mtime.tv_nsec, 750000000);
	assert_int_equal(tar_next(&rd.tar), 1);
	assert_string_equal(e->link, name);
	assert_int_equal(tar_next(&rd.tar), 0);
	tar_done(&rd.tar);
	bytes_free(&tar);
}

static void reads_gnu_long_names(void **state)
{
	struct bytes tar = {0};
	struct reading rd;
	char name[301];

	(void)state;
	memset(name, 'g', 300);
	name[300] = '\0';
	tar_add(&tar, &(struct archive_file){.type = 'L',
					     .path = "././@LongLink",
					     .content = name});
	tar_file(&tar, "ggg", "x");
	tar_add(&tar, &(struct archive_file){.type = 'K',
					     .path = "././@LongLink",
					     .content = name});
	tar_symlink(&tar, "link", "ggg");
	tar_end(&tar);
	begin(&rd, &tar, 512);
	assert_int_equal(tar_next(&rd.tar), 1);
	assert_string_equal(rd.tar.entry.path, name);
	assert_int_equal(tar_next(&rd.tar), 1);
	assert_string_equal(rd.tar.entry.path, "link");
	assert_string_equal(rd.tar.entry.link, name);
	assert_int_equal(tar_next(&rd.tar), 0);
	tar_done(&rd.tar);
	bytes_free(&tar);
}

static void joins_ustar_prefix(void **state)
{
	struct bytes tar = {0};
	struct reading rd;
	unsigned sum = 0;

	(void)state;
	tar_file(&tar, "name", "x");
	memcpy(tar.data + 345, "a/b", 3);
	memset(tar.data + 148, ' ', 8);
	for (unsigned i = 0; i < 512; i++)
		sum += tar.data[i];
	snprintf((char *)tar.data + 148, 8, "%06o", sum);
	begin(&rd, &tar, 512);
	assert_int_equal(tar_next(&rd.tar), 1);
	assert_string_equal(rd.tar.entry.path, "a/b/name");
	tar_done(&rd.tar);
	bytes_free(&tar);
}

/* One header each, and the result of reading it. */
static void refuses_bad_headers(void **state)
{
	static const struct {
		struct archive_file file;
		int result;
	} cases[] = {
		{{.type = 'S', .path = "sparse"}, -ENOTSUP},
		{{.type = 'M', .path = "multi"}, -ENOTSUP},
		{{.type = 'V', .path = "volume"}, -ENOTSUP},
		{{.type = 'D', .path = "dump"}, -ENOTSUP},
		{{.type = '0', .path = ""}, -EINVAL},
		{{.type = '2', .path = "l", .link = ""}, -EINVAL},
		{{.type = '1', .path = "l"}, -EINVAL},
		{{.type = '3', .path = "d", .major = 07777777}, -EINVAL},
		/* more data than there is */
		{{.type = '0', .path = "f", .size = 1 << 20}, -EINVAL},
		{{.type = 'x', .path = "x", .size = 4096}, -EINVAL},
		/* an extended header as a bomb */
		{{.type = 'x', .path = "x", .size = 1ull << 32}, -EINVAL},
		{{.type = 'L', .path = "x", .size = 1ull << 32}, -EINVAL},
		{{.type = 'K', .path = "x", .size = 5000}, -EINVAL},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct bytes tar = {0};

		tar_add(&tar, &cases[i].file);
		tar_end(&tar);
		assert_int_equal(read_through(&tar), cases[i].result);
		bytes_free(&tar);
	}
}

static void refuses_bad_records(void **state)
{
	static const char *const records[] = {
		"5 a=b\n",  /* too short */
		"70 a=b\n", /* too long */
		"18446744073709551615 a=b\n",
		"99999999999999999999999 a=b\n",
		"-6 a=b\n",
		" 6 a=b\n",
		"6\ta=b\n",
		"0 \n",
		"2 \n",
		"3 \n",
		"4 =\n",
		"6 abb\n",
		"6 a=bb",
		"7 =bcd\n",
		"a=b\n",
		"9 size=x\n",
		"10 size=-1\n",
		"12 size=0x10\n",
		"31 size=99999999999999999999\n",
		"20 uid=4294967295\n",
		"11 mtime=x\n",
		"22 GNU.sparse.major=1\n",
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(records); i++) {
		struct bytes tar = {0};
		int r;

		tar_add(&tar, &(struct archive_file){.type = 'x',
						     .path = "pax",
						     .content = records[i]});
		tar_file(&tar, "f", "");
		tar_end(&tar);
		r = read_through(&tar);
		if (r != -EINVAL && r != -ENOTSUP)
			fail_msg("'%s': %d", records[i], r);
		bytes_free(&tar);
	}
}

static void refuses_names_with_nul(void **state)
{
	struct bytes tar = {0};

	(void)state;
	tar_pax(&tar, "path", "a\0b", 3);
	tar_file(&tar, "f", "");
	tar_end(&tar);
	assert_int_equal(read_through(&tar), -EINVAL);
	bytes_free(&tar);
}

static void refuses_endless_names(void **state)
{
	struct bytes tar = {0};
	char name[5000];

	(void)state;
	memset(name, 'a', sizeof(name));
	tar_pax(&tar, "path", name, sizeof(name));
	tar_file(&tar, "f", "");
	tar_end(&tar);
	assert_int_equal(read_through(&tar), -EINVAL);
	bytes_free(&tar);
}

static void bounds_xattrs(void **state)
{
	struct bytes tar = {0}, records = {0};
	char text[64];

	(void)state;
	for (unsigned i = 0; i < TAR_XATTRS_MAX + 1; i++) {
		int n = snprintf(text, sizeof(text),
				 "26 SCHILY.xattr.user.%02u=x\n", i);

		assert_int_equal(n, 26);
		bytes_add(&records, text, 26);
	}
	bytes_add(&records, "", 1);
	records.len--;
	tar_add(&tar, &(struct archive_file){.type = 'x',
					     .path = "pax",
					     .content = (char *)records.data});
	tar_file(&tar, "f", "");
	tar_end(&tar);
	assert_int_equal(read_through(&tar), -EINVAL);
	bytes_free(&tar);
	bytes_free(&records);
}

/* Every bit of a header counts: the checksum, or what it says. */
static void survives_any_cut_and_flip(void **state)
{
	struct bytes tar = {0};

	(void)state;
	tar_pax(&tar, "path", "long", 4);
	tar_file(&tar, "f", "content");
	tar_symlink(&tar, "l", "f");
	tar_end(&tar);
	for (size_t len = 0; len < tar.len; len++) {
		struct bytes cut = {.data = malloc(len + 1), .len = len};

		memcpy(cut.data, tar.data, len);
		(void)read_through(&cut);
		bytes_free(&cut);
	}
	for (size_t i = 0; i < 512; i++) {
		tar.data[i] ^= 0x55;
		/* Only the padding of the header's sum may change. */
		if (read_through(&tar) == 0)
			assert_in_range(i, 148, 155);
		tar.data[i] ^= 0x55;
	}
	bytes_free(&tar);
}

/* FIPS 180-4's own examples, and lengths around a block. */
static void hashes(void **state)
{
	struct sha256 hash;
	char hex[SHA256_HEX], again[SHA256_HEX], data[200];

	(void)state;
	sha256_hex("abc", 3, hex);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223"
				 "b00361a396177a9cb410ff61f20015ad");
	sha256_hex("", 0, hex);
	assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb924"
				 "27ae41e4649b934ca495991b7852b855");
	sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		   56, hex);
	assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039"
				 "a33ce45964ff2167f6ecedd419db06c1");
	sha256_init(&hash);
	memset(data, 'a', sizeof(data));
	for (unsigned i = 0; i < 5000; i++)
		sha256_update(&hash, data, sizeof(data));
	sha256_final_hex(&hash, hex);
	assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67"
				 "f1809a48a497200e046d39ccc7112cd0");
	for (size_t len = 0; len < sizeof(data); len++) {
		sha256_hex(data, len, hex);
		sha256_init(&hash);
		for (size_t i = 0; i < len; i++)
			sha256_update(&hash, data + i, 1);
		sha256_final_hex(&hash, again);
		assert_string_equal(hex, again);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_type),
		cmocka_unit_test(passes_over_data),
		cmocka_unit_test(an_empty_archive_has_no_entries),
		cmocka_unit_test(reads_extended_headers),
		cmocka_unit_test(reads_gnu_long_names),
		cmocka_unit_test(joins_ustar_prefix),
		cmocka_unit_test(refuses_bad_headers),
		cmocka_unit_test(refuses_bad_records),
		cmocka_unit_test(refuses_names_with_nul),
		cmocka_unit_test(refuses_endless_names),
		cmocka_unit_test(bounds_xattrs),
		cmocka_unit_test(survives_any_cut_and_flip),
		cmocka_unit_test(hashes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
