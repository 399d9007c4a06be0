/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entropy device (virtio 1.2, 5.4): fills the driver's buffers from the
 * host's getrandom(2). No source of its own, no rate limit: what the guest
 * burns is its own vCPU's time and a bounded turn of the main loop.
 */
#include "devices/virtio/virtio.h"

#include "vmm/base/sandbox.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/random.h>

#define QUEUE_SIZE      64
#define BYTES_PER_CHAIN ((size_t)64 * KIB)
#define CHAINS_PER_TURN 8

/*
 * getrandom() only ever blocks before the host's generator is seeded: that is
 * found out here, so that the loop never waits for it.
 */
static int rng_open(struct virtio_dev *d, const struct config_device *cfg)
{
	uint8_t byte;

	(void)cfg;
	if (getrandom(&byte, sizeof(byte), GRND_NONBLOCK) == sizeof(byte))
		return 0;
	return log_ret(-errno, "%s: the host has no random numbers yet: %s",
		       d->name, strerror(errno));
}

static void rng_close(struct virtio_dev *d)
{
	(void)d;
}

/* Up to BYTES at BUF; fewer only if the host fails. */
static size_t randomize(uint8_t *buf, size_t bytes)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = getrandom(buf + done, bytes - done, 0);

		if (n < 0 && errno != EINTR)
			break;
		if (n > 0)
			done += (size_t)n;
	}
	return done;
}

/* The bytes written: the chain's, or as many as one chain gets. */
static uint32_t fill(const struct iovec *iov, unsigned niov)
{
	size_t left = BYTES_PER_CHAIN;

	for (unsigned i = 0; i < niov && left > 0; i++) {
		const size_t want = min_u64(iov[i].iov_len, left);
		const size_t got = randomize(iov[i].iov_base, want);

		left -= got;
		if (got < want)
			break;
	}
	return (uint32_t)(BYTES_PER_CHAIN - left);
}

static enum virtio_took take(struct virtio_dev *d, unsigned q)
{
	struct iovec iov[QUEUE_SIZE];
	struct iov_chain chain = {.iov = iov, .iov_max = ARRAY_LEN(iov)};
	const int r = vq_pop(&d->vq[q], &chain);

	if (r == 0)
		return VIRTIO_EMPTY;
	if (r < 0) {
		virtio_broken(d, "queue %u: malformed chain", q);
		return VIRTIO_LATER;
	}
	vq_push(&d->vq[q], chain.head, fill(iov + chain.nout, chain.nin));
	return VIRTIO_TOOK;
}

static void rng_kick(struct virtio_dev *d, unsigned q)
{
	(void)virtio_turn(d, q, CHAINS_PER_TURN, 1, take);
	virtio_publish(d, q);
}

static const struct config_key rng_keys[] = {{0}};

static const struct sandbox_rule rng_syscalls[] = {
	SANDBOX_CALL(getrandom),
	SANDBOX_END,
};

const struct virtio_ops virtio_rng = {
	.type = {.name = "rng",
		 .help = "random numbers from the host",
		 .keys = rng_keys},
	.id = VIRTIO_ID_RNG,
	.nqueues = 1,
	.queue_max = QUEUE_SIZE,
	.syscalls = rng_syscalls,
	.open = rng_open,
	.close = rng_close,
	.kick = rng_kick,
};
