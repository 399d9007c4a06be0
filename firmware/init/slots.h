/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places of the machine's bus where devices come and go while it runs: to
 * Linux, platform devices that virtio-mmio's driver is bound to, or not.
 */
#ifndef FIRMWARE_INIT_SLOTS_H
#define FIRMWARE_INIT_SLOTS_H

#include "firmware/init/failure.h"

/*
 * Has the driver look at every place that it has no device in. SYS: a mount of
 * sysfs. 0, or -1 with the failure filled in.
 */
int slots_take(int sys, struct init_failure *f);

/*
 * Takes the driver from the device of the network interface NAME: the kernel
 * may wait for those who use it. 0 or -errno; -ENOTSUP: it is no device in such
 * a place.
 */
int slots_release(int sys, const char *name);

#endif
