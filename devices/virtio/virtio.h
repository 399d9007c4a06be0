/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts that all virtio devices share (virtio 1.2, chapters 2 and 3):
 * feature negotiation, status, reset, queues and their kicks, the configuration
 * space. Knows no transport and no particular device.
 *
 * A device is one file that defines `const struct virtio_ops virtio_NAME`, and
 * one line in Makefile.am's VIRTIO_DEVICES. Its options, help, queues and
 * features come from the ops.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_H
#define DEVICES_VIRTIO_VIRTIO_H

#include "devices/virtio/vq.h"
#include "vmm/config/config.h"
#include "vmm/base/log.h"
#include "vmm/base/loop.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VIRTIO_CONFIG_MAX 256 /* bytes of configuration space, at most */
#define VIRTIO_QUEUES_MAX 8

struct virtio_dev;
struct terminal;
struct fs_budget;
struct sandbox_rule;
struct visitor;

/* A device that was made with nothing behind it gets this. */
struct virtio_plug {
	int fd;         /* a tap, as of tap_open() */
	uint8_t mac[6]; /* the interface's in the guest */
	uint16_t mtu;
};

/*
 * The host's side of a machine that waited for it: its configuration, and
 * descriptors, one for each device of that, or -1. Those that are taken are -1
 * afterwards.
 */
struct virtio_adoption {
	const struct config *machine; /* borrowed, as long as the device is */
	unsigned index;               /* this device's in it */
	int *fds;
	bool keeps; /* what its driver knows of: that is the same in it */
};

struct virtio_ops {
	struct config_type type; /* name, help, keys: --disk's, --net's ... */
	uint16_t id;             /* VIRTIO_ID_* */
	uint16_t nqueues;
	uint16_t queue_max; /* entries of each queue, a power of two */
	uint64_t features;  /* besides VERSION_1, EVENT_IDX, INDIRECT_DESC */
	size_t state_size;  /* of the private state, zeroed at birth */
	bool own_thread;    /* kicks and fds run on a thread of their own */
	/* Beyond what every VM may call: see vmm/base/sandbox.h. May be NULL.
	 */
	const struct sandbox_rule *syscalls;
	/*
	 * With own_thread: what of these capabilities (bits by CAP_*) the
	 * monitor has, that thread keeps, and it alone may make the `syscalls`.
	 */
	uint64_t capabilities;

	/*
	 * Opens files and taps, adjusts d->features, fills d->config and
	 * d->config_bytes. Before the guest starts. 0 or -errno (logged).
	 */
	int (*open)(struct virtio_dev *d, const struct config_device *cfg);
	/*
	 * On a thread of its own, before all else, without the lock. 0 or
	 * -errno (logged). May be NULL.
	 */
	int (*thread)(struct virtio_dev *d);
	/* Frees what open() took; accepts a half-open device. */
	void (*close)(struct virtio_dev *d);
	/* DRIVER_OK: d->acked is final, queues are ready. May be NULL. */
	void (*start)(struct virtio_dev *d);
	/*
	 * Reset. On return the device holds no chain, has no I/O under way and
	 * will not touch a queue until start(). May be NULL.
	 */
	void (*stop)(struct virtio_dev *d);
	/*
	 * The guest stands still, and its state may be looked at or saved. On
	 * return the device holds no chain and has no I/O under way: it has
	 * answered what it had, or put back what it took ahead (vq_unpop()).
	 * Only a request that waits for something without end, for a lock on a
	 * share, stays where it is: its head is all that there is of it. The
	 * core publishes then, and no handler touches a queue before resume(),
	 * or stop(), as `running` is false. May be NULL.
	 */
	void (*pause)(struct virtio_dev *d);
	/*
	 * The guest is about to go on; every queue is kicked after this, so
	 * only what no kick leads to is left to do. May be NULL.
	 */
	void (*resume)(struct virtio_dev *d);
	/*
	 * The state of its own, of a device that rests since pause(), beside
	 * what the core has visited before: all that the driver's next request
	 * may rely on. Loading, the device was opened anew, with start() where
	 * the one that was saved had it; what stands in d->config, and
	 * d->acked, is that one's. NULL: it has none, or, with a state_size,
	 * cannot be saved.
	 */
	void (*visit)(struct virtio_dev *d, struct visitor *v);
	/*
	 * The same before start(): what has to be the same behind the device
	 * for its driver to go on; loading, it may still adjust d->features to
	 * d->acked. May be NULL.
	 */
	void (*visit_backend)(struct virtio_dev *d, struct visitor *v);
	/* The driver kicked queue Q, or the device was started. */
	void (*kick)(struct virtio_dev *d, unsigned q);
	/* The driver wrote d->config[off..off + len). May be NULL. */
	void (*config_written)(struct virtio_dev *d, size_t off, size_t len);
	/*
	 * The file or device behind this one may have changed its size: looks,
	 * and tells the driver. May be NULL.
	 */
	void (*resized)(struct virtio_dev *d);
	/*
	 * PLUG->fd, which is taken, is behind an absent device from now on:
	 * adjusts what open() did. 0, or -errno, not logged, and the descriptor
	 * is still the caller's. NULL: the device comes and goes with its VM.
	 */
	int (*plug)(struct virtio_dev *d, const struct virtio_plug *plug);
	/* The other way. A driver may still be there; it is told afterwards. */
	void (*unplug)(struct virtio_dev *d);
	/*
	 * Gives up what is behind it, and takes over A's: in two calls, the
	 * first one with NULL, to all devices. The driver knows of neither yet.
	 * 0 or -errno (logged). NULL: it has nothing of the kind.
	 */
	int (*adopt)(struct virtio_dev *d, const struct virtio_adoption *a);
};

/*
 * All ops run with D->lock held: open, close, resized: main thread; kick and
 * the handlers of the device's own sources: D->loop's thread; start, stop,
 * config_written: a vCPU's thread; pause, resume, visit, visit_backend, plug,
 * unplug, adopt: the thread that calls virtio_pause() and so on, which also
 * calls start when it loads. A source's handler locks by itself: virtio_lock(d)
 * / virtio_unlock(d).
 */
struct virtio_dev {
	const struct virtio_ops *ops;
	void *state;           /* owned, ops->state_size bytes */
	char name[24];         /* "blk0", for messages */
	const struct mem *mem; /* borrowed */
	struct loop *loop;     /* borrowed main loop, or &own_loop */
	struct loop own_loop;
	struct terminal *terminal;    /* borrowed; for the console only */
	struct fs_budget *files;      /* borrowed; for shares only */
	const struct config *machine; /* borrowed, for open(); or NULL */
	pthread_mutex_t lock;
	struct log_limit limit;
	/* This device's besides ops->syscalls; open() may set it. */
	const struct sandbox_rule *more_syscalls;

	uint64_t features; /* offered */
	uint64_t acked;    /* accepted by the driver */
	uint8_t status;
	/* DRIVER_OK, neither reset nor broken since, and not paused. */
	bool running;
	bool started; /* start() was called, stop() was not yet */
	/*
	 * A place for a device (4.2.2: its number is 0), which no driver finds
	 * before virtio_plug(). open() may set it.
	 */
	bool absent;
	bool hidden; /* absent only until virtio_show() */
	bool paused;
	bool config_untold; /* it changed during a pause */
	struct vq vq[VIRTIO_QUEUES_MAX];
	struct virtio_queue_kick {
		struct loop_source source; /* fd: eventfd, owned */
		struct virtio_dev *dev;
		unsigned index;
	} kick[VIRTIO_QUEUES_MAX];

	/* How often the driver woke the device, and was interrupted for a
	 * queue. */
	uint64_t kicks, interrupts;

	uint8_t config[VIRTIO_CONFIG_MAX];
	size_t config_bytes;
	uint32_t config_generation;

	const struct virtio_transport_ops *transport_ops; /* NULL: none */
	void *transport;
};

/*
 * A transport does this for a device, whose lock is held. It may have
 * one interrupt for all, or one for each queue and one for the configuration
 * (MSI-X): it is told which of them are due.
 */
struct virtio_transport_ops {
	/* Interrupts for the queues of the mask: bit N for queue N. */
	void (*queues)(void *transport, uint32_t queues);
	/* An interrupt for status and configuration, after mirror(). */
	void (*config)(void *transport);
	/*
	 * Status, configuration or its generation changed, or whether there is
	 * a device: where the driver reads copies, these are brought up to
	 * date.
	 */
	void (*mirror)(void *transport);
};

/* ---- for vm.c ---- */

/* Every device type this build has, NULL-terminated. */
const struct virtio_ops *const *virtio_list(void);
const struct virtio_ops *virtio_find(const char *type);
/* The same as config types, NULL-terminated, for config_check() and --help. */
const struct config_type *const *virtio_config_types(void);
const struct config_type *virtio_config_type(const char *name); /* or NULL */

/* The VM's parts that devices use; each of them outlives all devices. */
struct virtio_host {
	const struct mem *mem;
	struct loop *loop;
	struct terminal *terminal;    /* NULL: none */
	struct fs_budget *files;      /* NULL: each share has its own */
	const struct config *machine; /* NULL: of one device only */
};

/*
 * Makes a device: opens its backend. INDEX numbers the devices of one type. The
 * caller frees it. 0 or -errno (logged).
 */
int virtio_new(const struct virtio_ops *ops, const struct config_device *cfg,
	       unsigned index, const struct virtio_host *host,
	       struct virtio_dev **ret_dev);
void virtio_free(struct virtio_dev *d);
/*
 * Starts the thread of a device with own_thread now, not with DRIVER_OK; there
 * CONFINE is called, after the device's own thread(). 0 or -errno (logged).
 */
int virtio_start_thread(struct virtio_dev *d,
			int (*confine)(const struct virtio_dev *d));

/*
 * Pauses a device whose guest stands still, and has it go on: see ops->pause.
 * Any thread that holds no lock of a device; no vCPU runs from before the one
 * until after the other. A device whose driver is not there, or that is broken,
 * may be paused as well.
 */
void virtio_pause(struct virtio_dev *d);
void virtio_resume(struct virtio_dev *d);

/*
 * The state of a device that is paused; which also a new one is that is to load
 * it: virtio_pause() first. As virtio_pause(); where the device has a thread of
 * its own and had been started, loading starts it, behind the sandbox.
 */
void virtio_visit(struct virtio_dev *d, struct visitor *v);

/*
 * Puts a device in the place that D is, for a driver that looks there again; or
 * takes it away: a driver that does not let go of it has a device that leads
 * nowhere, and the place is busy until it resets that. Any thread that holds no
 * lock of a device. PLUG->fd is taken where this returns 0; -EBUSY: there is a
 * device or a driver; -ENODEV, of virtio_unplug(): no device; -ENOTSUP: not
 * with this type; -errno of the type's own. None is logged.
 */
int virtio_plug(struct virtio_dev *d, const struct virtio_plug *plug);
int virtio_unplug(struct virtio_dev *d);

/*
 * A device that was opened is absent until it is shown: its guest comes up as
 * one whose place is empty. virtio_hide(): before there is a driver, else
 * -EBUSY. virtio_show(): does nothing to one that is not hidden. Any thread.
 */
int virtio_hide(struct virtio_dev *d);
void virtio_show(struct virtio_dev *d);

/*
 * ops->adopt, for a machine that waited: first all devices of it with NULL,
 * then those of A's configuration. 0 or -errno (logged). The main thread.
 */
int virtio_adopt(struct virtio_dev *d, const struct virtio_adoption *a);

/* Has the device look for a change of its size. The main thread. */
void virtio_resized(struct virtio_dev *d);

/* ---- for transports: each takes the device's lock itself ---- */

/*
 * Puts the device behind a transport, which mirrors it at once; NULL takes it
 * away.
 */
void virtio_set_transport(struct virtio_dev *d,
			  const struct virtio_transport_ops *ops,
			  void *transport);

uint8_t virtio_status(struct virtio_dev *d);
/*
 * The driver wrote the status register (3.1): bits are only added; 0 resets and
 * returns when the device is quiet. FEATURES_OK is refused when the driver
 * accepted what was not offered or left out VERSION_1.
 */
void virtio_set_status(struct virtio_dev *d, uint8_t status);
void virtio_set_features(struct virtio_dev *d, uint64_t features);
/* A queue's registers; ignored once the queue is ready (4.2.2.2). */
void virtio_queue_set_size(struct virtio_dev *d, unsigned q, uint32_t size);
enum virtio_ring { VIRTIO_RING_DESC, VIRTIO_RING_AVAIL, VIRTIO_RING_USED };
void virtio_queue_set_address(struct virtio_dev *d, unsigned q,
			      enum virtio_ring ring, bool high, uint32_t half);
void virtio_queue_set_ready(struct virtio_dev *d, unsigned q, bool ready);
/* A kick that did not come through the ioeventfd. */
void virtio_queue_kick(struct virtio_dev *d, unsigned q);
void virtio_config_write(struct virtio_dev *d, size_t off, const void *buf,
			 size_t len);

/* ---- for devices: the lock is held ---- */

/* Publishes the pushes on queue Q; interrupts if the driver wants it. */
void virtio_publish(struct virtio_dev *d, unsigned q);
/* The same for all queues, told to the transport at once. */
void virtio_publish_all(struct virtio_dev *d);
/* d->config changed: new generation, mirror, interrupt (2.5). */
void virtio_config_changed(struct virtio_dev *d);
/*
 * The guest broke the rules: DEVICE_NEEDS_RESET (2.1.2), logged with a limit;
 * the device rests until the driver resets it.
 */
void virtio_broken(struct virtio_dev *d, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The outcome for one chain of a queue, or of the try to get one. */
enum virtio_took {
	VIRTIO_TOOK,  /* there may be another */
	VIRTIO_EMPTY, /* there was none */
	VIRTIO_LATER, /* something other than a kick goes on with the queue */
};

/*
 * A turn of queue Q, whose chains the driver sends or has the device fill:
 * calls TAKE for one chain after the other (or for several, where one answer
 * fills them), with kicks off, until there is none and the driver will kick for
 * the next one, or AFTER more (vq_enable_kicks_after(); 1 for every); or until
 * TAKE has nothing more to do with them: kicks stay off then, as what comes
 * next begins another turn. After MOST chains the device kicks itself, so that
 * others on the loop have their turn, and a guest that keeps the queue full
 * never holds the loop. How often TAKE took. The caller publishes, once.
 */
unsigned
virtio_turn(struct virtio_dev *d, unsigned q, unsigned most, uint16_t after,
	    enum virtio_took (*take)(struct virtio_dev *d, unsigned q));

static inline bool virtio_acked(const struct virtio_dev *d, unsigned feature)
{
	return d->acked >> feature & 1;
}

static inline void virtio_lock(struct virtio_dev *d)
{
	pthread_mutex_lock(&d->lock);
}

static inline void virtio_unlock(struct virtio_dev *d)
{
	pthread_mutex_unlock(&d->lock);
}

#endif
