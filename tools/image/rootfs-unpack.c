/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers, one over the other, become a tree. This is done by a process that can
 * do little else.
 */
#include "tools/image/rootfs-parts.h"
#include "firmware/archive/tar.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- layers */

static int not_as_told(const char *name)
{
	return log_ret(-EINVAL,
		       "%s: is not what its digest or size says: it is damaged "
		       "or was tampered with",
		       name);
}

static int check_digests(const char *name, const struct layer *layer,
			 struct stream *stream)
{
	char blob[IMAGE_DIGEST_MAX], plain[IMAGE_DIGEST_MAX];
	int r = stream_finish(stream, blob, plain);

	if (r < 0)
		return r;
	if (strcmp(plain, layer->diff_id) != 0 ||
	    (layer->digest[0] && strcmp(blob, layer->digest) != 0))
		return not_as_told(name);
	return 0;
}

static int apply_layer(struct tree *tree, struct stream *stream)
{
	const struct tar_input in = {
		.name = tree->name,
		.arg = stream,
		.read = stream_read,
	};
	struct tar tar;
	int r;

	tar_init(&tar, &in);
	while ((r = tar_next(&tar)) > 0) {
		r = tree_count(tree);
		if (r < 0)
			break;
		r = tree_apply(tree, &tar);
		if (r < 0)
			break;
	}
	tree_leave_parent(tree);
	tar_done(&tar);
	return r;
}

static int unpack_layer(const struct source *src, const struct layer *layer,
			struct tree *tree, struct budget *budget)
{
	autofd int fd = -1;
	struct stream *stream;
	struct blob blob;
	int r = source_find(src, layer->member, &blob, &fd);

	if (r == -ENOENT)
		return log_ret(-EINVAL, "%s: '%s' is missing", tree->name,
			       layer->member);
	if (r < 0)
		return r;
	if (layer->bytes >= 0 && (uint64_t)layer->bytes != blob.bytes)
		return not_as_told(tree->name);
	stream = stream_open(tree->name, &blob, budget);
	tree->made = inodes_new();
	if (!stream || !tree->made)
		r = log_ret(-ENOMEM, "%s: no memory", tree->name);
	if (r == 0)
		r = apply_layer(tree, stream);
	if (r == 0)
		r = check_digests(tree->name, layer, stream);
	inodes_free(take_ptr(tree->made));
	stream_close(stream);
	return r;
}

static int unpack_layers(const struct source *src, const struct meta *meta,
			 struct tree *tree, struct budget *budget)
{
	char name[512];
	int r;

	tree->name = name;
	snprintf(name, sizeof(name), "image '%.400s'", src->path);
	r = tree_start(tree);
	for (unsigned i = 0; r == 0 && i < meta->nlayers; i++) {
		snprintf(name, sizeof(name), "image '%.400s': layer %u",
			 src->path, i + 1);
		r = unpack_layer(src, &meta->layers[i], tree, budget);
	}
	if (r == 0 && tree->devices > 0)
		log_warn("image '%s': %ju device nodes left out; the guest "
			 "makes its own /dev",
			 src->path, (uintmax_t)tree->devices);
	return r;
}

/* ---- the process */

struct result {
	int code;
	struct unpacked unpacked;
};

struct job {
	const struct source *src;
	const struct meta *meta;
	struct tree tree;
	struct budget budget;
};

static void run(void *arg, void *ret)
{
	struct job *job = arg;
	struct result *result = ret;
	const uint64_t bytes = job->budget.bytes, files = job->budget.files;

	job->tree.files = files;
	job->tree.buf = malloc(TREE_BUF_BYTES);
	result->code = job->tree.buf ? unpack_layers(job->src, job->meta,
						     &job->tree, &job->budget)
				     : log_ret(-ENOMEM, "image '%s': no memory",
					       job->src->path);
	free(job->tree.buf);
	result->unpacked = (struct unpacked){
		.bytes = bytes - job->budget.bytes,
		.files = files - job->tree.files,
		.has_xattrs = job->tree.has_xattrs,
	};
}

int unpack(const struct source *src, const struct meta *meta, int tree_fd,
	   bool owner_xattr, const struct budget *budget, struct unpacked *ret)
{
	struct job job = {
		.src = src,
		.meta = meta,
		.tree = {.root = tree_fd,
			 .owner_xattr = owner_xattr,
			 .parent_fd = -1},
		.budget = *budget,
	};
	struct result result;
	int r = walled(src->path, tree_fd, src->dir, run, &job, &result,
		       sizeof(result));

	if (r < 0)
		return r;
	*ret = result.unpacked;
	return result.code;
}
