/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the tar reader: whatever the bytes are, it ends, stays within them,
 * and says of an entry only what its header promises. The first byte is the
 * size of the pieces in which the input comes; if it is odd, every block gets
 * the checksum of a header, which no fuzzer would guess.
 */
#include "firmware/archive/tar.h"
#include "vmm/base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct feed {
	const uint8_t *data;
	size_t left, step;
};

static ssize_t feed_read(void *arg, void *buf, size_t len)
{
	struct feed *feed = arg;

	len = min_u64(len, min_u64(feed->step, feed->left));
	if (len > 0)
		memcpy(buf, feed->data, len);
	feed->data += len;
	feed->left -= len;
	return (ssize_t)len;
}

static void check(const struct tar_entry *e)
{
	const bool is_link = e->type == TAR_LINK || e->type == TAR_SYMLINK;

	if (e->path[0] == '\0' || strlen(e->path) > TAR_NAME_MAX ||
	    is_link != (e->link != NULL) ||
	    (is_link &&
	     (e->link[0] == '\0' || strlen(e->link) > TAR_NAME_MAX)) ||
	    (e->type != TAR_FILE && e->bytes != 0) || e->bytes > INT64_MAX ||
	    e->mode > 07777 || e->uid == UINT32_MAX || e->gid == UINT32_MAX ||
	    e->mtime.tv_nsec < 0 || e->mtime.tv_nsec >= 1000000000 ||
	    e->nxattrs > TAR_XATTRS_MAX)
		abort();
	for (unsigned i = 0; i < e->nxattrs; i++) {
		const uint8_t *value = e->xattrs[i].value;
		uint8_t sum = 0;

		/* A sanitizer sees whether all of it is there. */
		for (size_t k = 0; k < e->xattrs[i].bytes; k++)
			sum = (uint8_t)(sum + value[k]);
		if (strlen(e->xattrs[i].name) > 1u << 20 && sum)
			abort();
	}
}

static void mend(uint8_t *data, size_t size)
{
	for (; size >= 512; data += 512, size -= 512) {
		unsigned sum = 0;

		if (memcmp(data + 257, "ustar", 5) != 0)
			continue;
		memset(data + 148, ' ', 8);
		for (unsigned i = 0; i < 512; i++)
			sum += data[i];
		snprintf((char *)data + 148, 8, "%06o", sum);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autofree uint8_t *copy = malloc(size);
	struct feed feed;
	const struct tar_input in = {
		.name = "fuzz",
		.arg = &feed,
		.read = feed_read,
	};
	struct tar tar;

	if (size < 1 || !copy)
		return 0;
	memcpy(copy, data, size);
	if (copy[0] & 1)
		mend(copy + 1, size - 1);
	feed = (struct feed){copy + 1, size - 1, data[0] + 1u};
	tar_init(&tar, &in);
	while (tar_next(&tar) > 0) {
		char buf[700];
		uint64_t got = 0;
		ssize_t n = 0;

		check(&tar.entry);
		/* Every other entry's data is left for the reader to skip. */
		while (tar.number % 2 &&
		       (n = tar_read(&tar, buf, sizeof(buf))) > 0)
			got += (uint64_t)n;
		if (n == 0 && got != 0 && got != tar.entry.bytes)
			abort();
		if (n < 0)
			break;
	}
	tar_done(&tar);
	return 0;
}
