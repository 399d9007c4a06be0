/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the documents of an image: the input is an index, a manifest, a
 * configuration or docker save's list, and what leads to it in an archive is
 * made with right digests. An accepted image is whole.
 *
 * Input: one byte that chooses, and the document.
 */
#include "tests/archive.h"
#include "tools/image/rootfs-parts.h"
#include "vmm/base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void add_text(struct bytes *tar, const char *name, const char *text)
{
	const struct bytes b = {.data = (uint8_t *)text, .len = strlen(text)};

	tar_member(tar, name, &b);
}

/* Under its digest; gives that. */
static void add_blob(struct bytes *tar, const struct bytes *blob,
		     char ret_digest[IMAGE_DIGEST_MAX])
{
	char name[100];

	memcpy(ret_digest, "sha256:", 7);
	sha256_hex(blob->data, blob->len, ret_digest + 7);
	snprintf(name, sizeof(name), "blobs/sha256/%s", ret_digest + 7);
	tar_member(tar, name, blob);
}

static void add_index(struct bytes *tar, const struct bytes *manifest)
{
	char digest[IMAGE_DIGEST_MAX], text[200];

	add_blob(tar, manifest, digest);
	snprintf(text, sizeof(text), "{\"manifests\":[{\"digest\":\"%s\"}]}",
		 digest);
	add_text(tar, "index.json", text);
}

static void make(struct bytes *tar, uint8_t choice, const struct bytes *doc)
{
	char digest[IMAGE_DIGEST_MAX], text[400];
	struct bytes manifest = {.data = (uint8_t *)text};

	switch (choice % 5) {
	case 0:
		tar_member(tar, "index.json", doc);
		break;
	case 1:
		add_index(tar, doc);
		break;
	case 2: /* a configuration, with one layer */
		add_blob(tar, doc, digest);
		snprintf(text, sizeof(text),
			 "{\"config\":{\"digest\":\"%s\"},\"layers\":"
			 "[{\"digest\":\"%s\"}]}",
			 digest, digest);
		manifest.len = strlen(text);
		add_index(tar, &manifest);
		break;
	case 3:
		tar_member(tar, "manifest.json", doc);
		add_text(tar, "c.json", "{\"rootfs\":{\"diff_ids\":[]}}");
		break;
	case 4:
		add_text(tar, "manifest.json",
			 "[{\"Config\":\"c\",\"Layers\":[\"l\"]}]");
		tar_member(tar, "c", doc);
		break;
	}
	tar_end(tar);
}

static void check_list(char **list)
{
	must(list != NULL);
	for (; *list; list++)
		(void)strlen(*list);
}

static void check(const struct meta *meta)
{
	const struct rootfs_config *c = &meta->config;

	must(digest_valid(meta->digest));
	check_list(c->entrypoint);
	check_list(c->cmd);
	check_list(c->env);
	check_list(c->ports);
	check_list(c->volumes);
	must(meta->nlayers <= IMAGE_LAYERS_MAX);
	for (unsigned i = 0; i < meta->nlayers; i++)
		must(meta->layers[i].member != NULL &&
		     digest_valid(meta->layers[i].diff_id));
	for (const char *p = meta->name; p && *p; p++)
		must(*p > ' ' && *p < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct bytes doc = {.data = (uint8_t *)data + 1, .len = size - 1};
	struct bytes tar = {0};
	struct source src;
	struct meta meta;
	int fd;

	if (size < 1)
		return 0;
	make(&tar, data[0], &doc);
	fd = memfd_create("image", MFD_CLOEXEC);
	must(fd >= 0 && util_write_all(fd, tar.data, tar.len) == 0);
	bytes_free(&tar);
	must(source_open(&src, "fuzz", fd) == 0);
	if (meta_read(&src, data[0] & 8 ? "a:1" : NULL, &meta) == 0) {
		check(&meta);
		meta_done(&meta);
	}
	source_close(&src);
	return 0;
}
