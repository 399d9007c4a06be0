/* SPDX-License-Identifier: Apache-2.0 */
/* A share of the host's, which is a virtio-fs device. */
#ifndef FIRMWARE_INIT_SHARE_H
#define FIRMWARE_INIT_SHARE_H

#include "firmware/init/failure.h"

/*
 * The share of the device with TAG as a mount that is not attached: once for
 * each device. A descriptor, or -1 with the failure filled in.
 */
int share_mount(const char *tag, struct init_failure *f);

#endif
