/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether an image is the one that a saved guest had. Its content is not
 * looked at, which would take as long as the image is large.
 */
#include "devices/host/block-parts.h"

#include "vmm/base/visit.h"

struct then {
	uint64_t bytes;
	bool readonly;
	struct block_identity file;
};

static void compare(const struct block *b, const struct then *then,
		    struct visitor *v)
{
	const struct block_identity *now = &b->noted;

	if (b->info.bytes != then->bytes)
		visit_wrong(v, "its disk has %llu bytes, and had %llu: '%s'",
			    (unsigned long long)b->info.bytes,
			    (unsigned long long)then->bytes, b->path);
	else if (b->info.readonly != then->readonly)
		visit_wrong(v, "its disk was %s: %s 'readonly': '%s'",
			    then->readonly ? "readonly" : "writable",
			    then->readonly ? "add" : "leave out", b->path);
	else if (now->inode == then->file.inode &&
		 now->device == then->file.device &&
		 now->written_ns != then->file.written_ns)
		visit_wrong(v,
			    "its disk was written to since; take a copy from "
			    "when it was saved ('cp -p'): '%s'",
			    b->path);
}

/* Loading, the file's time from before it was opened counts. */
void block_visit(struct block *b, struct visitor *v)
{
	struct then then = {
		.bytes = b->info.bytes,
		.readonly = b->info.readonly,
		.file = visit_loads(v) ? b->noted : block_file_identity(b),
	};

	VISIT(v, &then, bytes);
	VISIT(v, &then, readonly);
	VISIT(v, &then.file, device);
	VISIT(v, &then.file, inode);
	VISIT(v, &then.file, written_ns);
	if (visit_loads(v) && visit_goes_on(v))
		compare(b, &then, v);
}
