/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching to a tap, and every way in which that can fail. The tap speaks the
 * guest's header (VNET_HDR), so a frame goes between guest memory and tap in
 * one system call, uncopied and unlooked at: the kernel checks the header.
 */
#include "devices/host/tap.h"

#include "devices/host/net.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define BIT(n)     (UINT64_C(1) << (n))
#define TUN_DEVICE "/dev/net/tun"

/* UDP segmentation came to taps with Linux 6.2; older headers lack it. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_HOST_USO   56
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#endif

static void name_request(struct ifreq *ifr, const char *name)
{
	memset(ifr, 0, sizeof(*ifr));
	memcpy(ifr->ifr_name, name, strlen(name) + 1);
}

static int check_name(const char *name)
{
	const size_t len = strlen(name);

	if (len > 0 && len < IFNAMSIZ && !strpbrk(name, "/% \t\n:") &&
	    strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
		return 0;
	return log_ret(-EINVAL,
		       "tap '%s' is no interface name: those have 1 to %d "
		       "characters, no '/', ':', '%%' or space",
		       name, IFNAMSIZ - 1);
}

/* Asked first, because TUNSETIFF would create what is missing. */
static int check_interface(const char *name, uint16_t *ret_mtu, bool *ret_up)
{
	autofd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr;

	if (fd < 0)
		return log_ret(-errno, "tap '%s': socket: %s", name,
			       strerror(errno));
	name_request(&ifr, name);
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0) {
		if (errno != ENODEV)
			return log_ret(-errno, "tap '%s': %s", name,
				       strerror(errno));
		return log_ret(
			-ENODEV,
			"tap '%s' does not exist; make it with 'ip "
			"tuntap add mode tap %s' and 'ip link set %s up'",
			name, name, name);
	}
	*ret_up = ifr.ifr_flags & IFF_UP;
	name_request(&ifr, name);
	if (ioctl(fd, SIOCGIFMTU, &ifr) < 0)
		return log_ret(-errno, "tap '%s': cannot tell its MTU: %s",
			       name, strerror(errno));
	*ret_mtu = (uint16_t)min_u64((uint64_t)ifr.ifr_mtu, UINT16_MAX);
	return 0;
}

static int open_tun(const char *name)
{
	int fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT || errno == ENXIO || errno == ENODEV)
		return log_ret(-errno,
			       "tap '%s': this host has no " TUN_DEVICE
			       "; 'modprobe tun' loads the driver",
			       name);
	if (errno == EACCES || errno == EPERM)
		return log_ret(-errno,
			       "tap '%s': no permission to open " TUN_DEVICE
			       "; let this user read and write it",
			       name);
	return log_ret(-errno, "tap '%s': cannot open " TUN_DEVICE ": %s", name,
		       strerror(errno));
}

static int set_interface(int fd, const char *name, short more_flags)
{
	struct ifreq ifr;

	name_request(&ifr, name);
	ifr.ifr_flags = IFF_NO_PI | IFF_VNET_HDR | more_flags;
	return ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : 0;
}

/* The kernel's EINVAL has many causes; the likely ones can be told apart. */
static int explain_attach(int fd, const char *name, int r)
{
	if (r == -EPERM)
		return log_ret(r,
			       "tap '%s' belongs to another user; make it with "
			       "'ip tuntap add mode tap user $USER %s'",
			       name, name);
	if (r == -EBUSY)
		return log_ret(r, "tap '%s' is in use by another program",
			       name);
	if (r == -EINVAL &&
	    set_interface(fd, name, IFF_TAP | IFF_MULTI_QUEUE) == 0)
		return log_ret(r,
			       "tap '%s' has several queues; make it without "
			       "'multi_queue'",
			       name);
	if (r == -EINVAL && set_interface(fd, name, IFF_TUN) == 0)
		return log_ret(r,
			       "tap '%s' is a tun; make it with 'ip tuntap add "
			       "mode tap %s'",
			       name, name);
	if (r == -EINVAL)
		return log_ret(r, "'%s' is an interface, but not a tap", name);
	return log_ret(r, "tap '%s': cannot attach: %s", name, strerror(-r));
}

/* Frames have the guest's header. 0 or -errno, logged. */
static int set_header(int fd, const char *name)
{
	int header = NET_HEADER, little = 1;

	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 ||
	    ioctl(fd, TUNSETVNETLE, &little) < 0 || tap_set_offloads(fd, 0) < 0)
		return log_ret(
			-errno,
			"tap '%s': this host's taps cannot do virtio-net "
			"headers: %s",
			name, strerror(errno));
	return 0;
}

int tap_make(const char *pattern, char ret_name[IFNAMSIZ])
{
	autofd int fd = open_tun(pattern);
	struct ifreq ifr;
	int r;

	if (fd < 0)
		return fd;
	name_request(&ifr, pattern);
	ifr.ifr_flags = IFF_NO_PI | IFF_VNET_HDR | IFF_TAP;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return log_ret(-errno,
			       "tap '%s': cannot be made: %s; that takes "
			       "CAP_NET_ADMIN",
			       pattern, strerror(errno));
	r = set_header(fd, ifr.ifr_name);
	if (r < 0)
		return r;
	memcpy(ret_name, ifr.ifr_name, IFNAMSIZ);
	return take_fd(&fd);
}

int tap_open(const char *name, uint16_t *ret_mtu)
{
	autofd int fd = -1;
	uint16_t mtu = 0;
	bool up = false;
	int r = check_name(name);

	if (r == 0)
		r = check_interface(name, &mtu, &up);
	if (r < 0)
		return r;
	fd = open_tun(name);
	if (fd < 0)
		return fd;
	r = set_interface(fd, name, IFF_TAP);
	if (r < 0)
		return explain_attach(fd, name, r);
	r = set_header(fd, name);
	if (r < 0)
		return r;
	if (!up)
		log_warn("tap '%s' is down: no packet passes before 'ip link "
			 "set %s up'",
			 name, name);
	*ret_mtu = mtu;
	return take_fd(&fd);
}

uint64_t tap_offloads(int fd)
{
	static const uint64_t wanted[] = {
		BIT(VIRTIO_NET_F_GUEST_CSUM),
		BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |
			BIT(VIRTIO_NET_F_GUEST_ECN),
		BIT(VIRTIO_NET_F_GUEST_UFO),
		BIT(VIRTIO_NET_F_GUEST_USO4) | BIT(VIRTIO_NET_F_GUEST_USO6),
	};
	uint64_t can = 0;

	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		if (tap_set_offloads(fd, can | wanted[i]) == 0)
			can |= wanted[i];
	}
	(void)tap_set_offloads(fd, 0); /* was possible in tap_open() */
	return can;
}

int tap_set_offloads(int fd, uint64_t acked)
{
	static const struct {
		unsigned feature, flag;
	} map[] = {
		{VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
		{VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
		{VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
		{VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO},
		{VIRTIO_NET_F_GUEST_USO4, TUN_F_USO4},
		{VIRTIO_NET_F_GUEST_USO6, TUN_F_USO6},
	};
	unsigned long flags = 0;

	/* No segmentation without checksums: virtio 1.2, 5.1.3.1. */
	if (acked & BIT(VIRTIO_NET_F_GUEST_CSUM)) {
		flags = TUN_F_CSUM;
		for (size_t i = 0; i < ARRAY_LEN(map); i++) {
			if (acked & BIT(map[i].feature))
				flags |= map[i].flag;
		}
	}
	/* Taps take neither ECN alone nor one of the USO flags alone. */
	if (!(flags & (TUN_F_TSO4 | TUN_F_TSO6)))
		flags &= ~(unsigned long)TUN_F_TSO_ECN;
	if ((flags & TUN_F_USO4) == 0 || (flags & TUN_F_USO6) == 0)
		flags &= ~(unsigned long)(TUN_F_USO4 | TUN_F_USO6);
	return ioctl(fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}
