/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tap as a network's backend, one that exists or one that is joined to an
 * interface. A frame goes between guest memory and tap in one system call.
 */
#include "devices/host/net.h"
#include "devices/host/tap-join.h"
#include "devices/host/tap.h"
#include "vmm/base/log.h"
#include "vmm/base/sandbox.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define BIT(n) (UINT64_C(1) << (n))

/* UDP segmentation came to taps with Linux 6.2; older headers lack it. */
#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_HOST_USO   56
#define VIRTIO_NET_F_GUEST_USO4 54
#endif

static ssize_t tap_receive(struct net_backend *b, const struct iovec *iov,
			   unsigned niov)
{
	const ssize_t got = readv(b->fd, iov, (int)niov);

	if (got >= 0)
		return got;
	/* EBADFD: the interface was deleted. */
	return errno == EBADFD ? -ENOTCONN : -errno;
}

/* The header may change under the tap, which copies it first. */
static int tap_send(struct net_backend *b, const struct iovec *iov,
		    unsigned niov)
{
	return writev(b->fd, iov, (int)niov) < 0 ? -errno : 0;
}

static int tap_set_guest_offloads(struct net_backend *b, uint64_t acked)
{
	return tap_set_offloads(b->fd, acked);
}

static void tap_close(struct net_backend *b)
{
	util_close(&b->fd);
}

static const struct sandbox_rule tap_syscalls[] = {
	SANDBOX_IOCTL(TUNSETOFFLOAD), /* whenever a driver starts */
	SANDBOX_END,
};

/* Another tap may come in its place, by a socket. */
static const struct sandbox_rule joined_syscalls[] = {
	SANDBOX_IOCTL(TUNSETOFFLOAD),
	SANDBOX_CALL(recvmsg),
	SANDBOX_END,
};

#define TAP_OPS(rules)                                                         \
	{                                                                      \
		.syscalls = (rules), .receive = tap_receive, .send = tap_send, \
		.set_offloads = tap_set_guest_offloads, .close = tap_close,    \
	}

static const struct net_backend_ops tap_ops = TAP_OPS(tap_syscalls);
static const struct net_backend_ops joined_ops = TAP_OPS(joined_syscalls);

void tap_backend_take(struct net_backend *b, int fd, uint16_t mtu)
{
	*b = (struct net_backend){.ops = &tap_ops, .fd = fd, .mtu = mtu};
	snprintf(b->name, sizeof(b->name), "its tap");
	b->features = tap_offloads(fd) | BIT(VIRTIO_NET_F_CSUM) |
		      BIT(VIRTIO_NET_F_HOST_TSO4) |
		      BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN) |
		      BIT(VIRTIO_NET_F_HOST_UFO);
	if (b->features & BIT(VIRTIO_NET_F_GUEST_USO4))
		b->features |= BIT(VIRTIO_NET_F_HOST_USO);
}

int tap_backend_open(struct net_backend *b, const struct config_device *cfg,
		     const char *device)
{
	const char *join = config_text(cfg, "join");
	const char *name = join ? join : config_text(cfg, "tap");
	const uint64_t mtu = config_number(cfg, "mtu", 0);
	uint16_t tap_mtu = 0;
	const int fd =
		join ? tap_join(name, config_flag(cfg, "resolver"), &tap_mtu)
		     : tap_open(name, &tap_mtu);

	if (fd < 0)
		return fd;
	/* The largest one says nothing: the guest is told its MTU elsewhere. */
	if (mtu > tap_mtu && mtu < ETH_MAX_MTU)
		log_warn("%s: mtu %u is more than the %u of '%s'; 'ip link set "
			 "%s mtu %u' raises that",
			 device, (unsigned)mtu, tap_mtu, name, name,
			 (unsigned)mtu);
	tap_backend_take(b, fd, tap_mtu);
	if (join)
		b->ops = &joined_ops;
	snprintf(b->name, sizeof(b->name), join ? "interface '%s'" : "tap '%s'",
		 name);
	return 0;
}
