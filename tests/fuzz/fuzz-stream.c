/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes what unpacks layers: gzip, zstd, xz. However a blob is read, in large
 * pieces or in small ones, it is the same bytes or the same refusal, and never
 * more bytes than the budget has.
 *
 * Input: one byte that chooses the pieces, and the blob.
 */
#include "tools/image/rootfs-parts.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BUDGET (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

struct outcome {
	int r;
	uint64_t bytes;
	char blob[IMAGE_DIGEST_MAX], plain[IMAGE_DIGEST_MAX];
};

static struct outcome read_all(const struct blob *blob, size_t piece)
{
	struct budget budget = {.bytes = BUDGET, .max_bytes = BUDGET};
	struct stream *s = stream_open("fuzz", blob, &budget);
	char *buf = malloc(piece);
	struct outcome o = {0};
	ssize_t n;

	must(s && buf);
	while ((n = stream_read(s, buf, piece)) > 0)
		o.bytes += (uint64_t)n;
	o.r = (int)n;
	if (n == 0)
		o.r = stream_finish(s, o.blob, o.plain);
	must(o.bytes + budget.bytes == BUDGET);
	free(buf);
	stream_close(s);
	return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole, parts;
	struct blob blob = {0};
	int fd;

	if (size < 2)
		return 0;
	fd = memfd_create("blob", MFD_CLOEXEC);
	must(fd >= 0 && util_write_all(fd, data + 1, size - 1) == 0);
	blob = (struct blob){.fd = fd, .bytes = size - 1};
	whole = read_all(&blob, BUDGET + 1);
	parts = read_all(&blob, 1 + 7 * (size_t)data[0]);
	must(whole.r == parts.r);
	if (whole.r == 0)
		must(whole.bytes == parts.bytes &&
		     strcmp(whole.plain, parts.plain) == 0 &&
		     strcmp(whole.blob, parts.blob) == 0);
	close(fd);
	return 0;
}
