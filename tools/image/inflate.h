/* SPDX-License-Identifier: Apache-2.0 */
/* The formats that layers, archives and kernels are packed with. */
#ifndef TOOLS_IMAGE_INFLATE_H
#define TOOLS_IMAGE_INFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a tar archive says that it is one. */
#define TAR_MAGIC_AT 257

/* A format. */
struct packing;

/* The one that begins with HEAD, supported or not; NULL: none. */
const struct packing *packing_find(const uint8_t *head, size_t len);
bool packing_supported(const struct packing *packing);
const char *packing_name(const struct packing *packing);

struct inflater;

/* The rest of the input, and of the room for output. */
struct flow {
	const uint8_t *in;
	size_t in_len;
	bool last; /* nothing comes after it */
	uint8_t *out;
	size_t out_len;
};

/* NAME begins messages; borrowed. NULL: no memory. Its memory is bounded. */
struct inflater *inflater_open(const char *name, const struct packing *packing);
void inflater_close(struct inflater *inflater);

/*
 * Takes some input and gives some output. Input may be none only where it is
 * the last. 0; 1: that was all; or -errno, logged: -EINVAL (damaged, cut off,
 * or followed by something else), -ENOTSUP, -ENOMEM.
 */
int inflater_run(struct inflater *inflater, struct flow *flow);

#endif
