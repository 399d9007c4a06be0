/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of device types: Makefile.am's VIRTIO_DEVICES. It is the one file
 * that knows all devices, so that what they share knows none.
 */
#include "devices/virtio/virtio.h"

#include <string.h>

#define VIRTIO(name) extern const struct virtio_ops virtio_##name;
#include "devices/virtio/table.inc"
#undef VIRTIO

#define VIRTIO(name) &virtio_##name,
static const struct virtio_ops *const devices[] = {
#include "devices/virtio/table.inc"
	NULL,
};
#undef VIRTIO

/* Belongs to an fs device, and is none for the guest. */
extern const struct config_type virtio_fs_tree;

#define VIRTIO(name) &virtio_##name.type,
static const struct config_type *const types[] = {
#include "devices/virtio/table.inc"
	&virtio_fs_tree,
	NULL,
};
#undef VIRTIO

const struct virtio_ops *const *virtio_list(void)
{
	return devices;
}

const struct virtio_ops *virtio_find(const char *type)
{
	for (unsigned i = 0; devices[i]; i++) {
		if (strcmp(devices[i]->type.name, type) == 0)
			return devices[i];
	}
	return NULL;
}

const struct config_type *const *virtio_config_types(void)
{
	return types;
}

const struct config_type *virtio_config_type(const char *name)
{
	for (unsigned i = 0; types[i]; i++) {
		if (strcmp(types[i]->name, name) == 0)
			return types[i];
	}
	return NULL;
}
