/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the generic test of what devices save and load (test-visit.c) and
 * the files that know one type each: its host's side, and traffic that is
 * checked at both ends.
 */
#ifndef TESTS_DEVICES_VIRTIO_VISIT_KINDS_H
#define TESTS_DEVICES_VIRTIO_VISIT_KINDS_H

#include "tests/tempdir.h"
#include "tests/vdriver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

struct visit_rig {
	struct vdriver *v; /* NULL between two devices */
	unsigned round;    /* each traffic() has other bytes */
	void *host;        /* the kind's, owned by it */
};

/* One type of device. Functions that are NULL have nothing to do. */
struct kind {
	const char *name; /* the type's */
	/* The host's side, before the first device; and after the last. */
	void (*setup)(struct visit_rig *r);
	void (*teardown)(struct visit_rig *r);
	/* A new device in r->v, the first, or one that loads: as configured. */
	void (*open)(struct visit_rig *r);
	/* The driver has just set up the first device. */
	void (*begin)(struct visit_rig *r);
	/* Something both ways, from one end to the other. */
	void (*traffic)(struct visit_rig *r);
	/* Begins things that are under way when the device is paused. */
	void (*leave)(struct visit_rig *r);
	/* It is saved, and rests. */
	void (*saved)(struct visit_rig *r);
	/* r->v is about to be freed. */
	void (*stop)(struct visit_rig *r);
	/* Loaded, not yet resumed: pointers of the test's have moved. */
	void (*moved)(struct visit_rig *r, const struct vdriver_saved *saved);
	/* All that was left comes to its end, once. */
	void (*take)(struct visit_rig *r);
	/* Damage is done at one of so many bytes; 0: at each. */
	unsigned stride;
	/* The state that a device saves just after it was loaded differs. */
	bool changes;
};

extern const struct kind visit_blk, visit_console, visit_fs, visit_net,
	visit_rng, visit_vsock;

#endif
