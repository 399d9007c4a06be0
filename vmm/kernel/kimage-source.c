/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel file's bytes, and their place in guest memory. */
#include "vmm/kernel/kimage-parts.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>

unsigned long long kimage_mib(uint64_t bytes)
{
	return (bytes + MIB - 1) / MIB;
}

int kimage_read(const struct kimage_source *src, void *buf, size_t len,
		uint64_t offset)
{
	int r;

	if (!range_fits(offset, len, src->bytes))
		return kimage_bad(src, "is truncated");
	if (src->data) {
		if (len)
			memcpy(buf, src->data + offset, len);
		return 0;
	}
	r = util_read_at(src->fd, buf, len, offset);
	if (r == -ENODATA)
		return kimage_bad(src, "became shorter while it was read");
	if (r < 0)
		return log_ret(r, "kernel '%s': read: %s", src->name,
			       strerror(-r));
	return 0;
}

int kimage_place(const struct kimage_source *src, const struct mem *mem,
		 gpa_t gpa, uint64_t bytes, uint8_t **ret_host)
{
	uint8_t *host;

	if (gpa < KIMAGE_LOAD_MIN)
		return kimage_bad(
			src,
			"wants to lie at 0x%llx: the first MiB belongs "
			"to the monitor",
			(unsigned long long)gpa);
	if (!range_fits(gpa, bytes, MEM_LOW_END))
		return kimage_bad(src,
				  "wants 0x%llx bytes at 0x%llx: kernels have "
				  "to lie below 0x%llx",
				  (unsigned long long)bytes,
				  (unsigned long long)gpa,
				  (unsigned long long)MEM_LOW_END);
	host = mem_at(mem, gpa, bytes);
	if (!host)
		return log_ret(-E2BIG,
			       "kernel '%s' needs memory up to %llu MiB, the "
			       "guest has %llu: raise --memory",
			       src->name, kimage_mib(gpa + bytes),
			       (unsigned long long)(mem->bytes / MIB));
	*ret_host = host;
	return 0;
}
