/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a network device needs of the host: something that gives and takes
 * Ethernet frames. There are two: a tap (tap.c), and passt (passt.c), which
 * makes ordinary sockets of a guest's connections and needs no privilege.
 * Knows no guest.
 */
#ifndef DEVICES_NET_H
#define DEVICES_NET_H

#include "vmm/config.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Before each frame, both ways: struct virtio_net_hdr_v1. */
#define NET_HEADER 12

struct net_backend;

struct net_backend_ops {
	/*
	 * The next frame behind its header: copied to IOV, cut where that ends;
	 * how many bytes. -EAGAIN: none now. -ENOTCONN: there never will be.
	 */
	ssize_t (*receive)(struct net_backend *b, const struct iovec *iov,
			   unsigned niov);
	/*
	 * Takes one frame with its header, all or nothing. 0, -EAGAIN: not now,
	 * -EINVAL or -EMSGSIZE: no frame at all, other -errno: dropped.
	 */
	int (*send)(struct net_backend *b, const struct iovec *iov,
		    unsigned niov);
	/*
	 * Of EPOLLIN and EPOLLOUT: frames wait in the backend's own memory to
	 * be received, or to go out once the descriptor can be written: then
	 * flush(). NULL: it keeps none.
	 */
	uint32_t (*waiting)(const struct net_backend *b);
	void (*flush)(struct net_backend *b);
	/* What the guest accepted (VIRTIO_NET_F_GUEST_*). 0 or -errno. */
	int (*set_offloads)(struct net_backend *b, uint64_t acked);
	/* Accepts a backend that was opened half. */
	void (*close)(struct net_backend *b);
};

struct net_backend {
	const struct net_backend_ops *ops; /* NULL: not open */
	int fd;            /* owned, for the event loop; -1: not open */
	char name[40];     /* "tap 'tap0'", for messages */
	uint16_t mtu;      /* the longest packet either side sends */
	uint64_t features; /* VIRTIO_NET_F_* this backend makes possible */
	void *state;       /* owned by the backend */
};

/*
 * Opens the backend CFG asks for; NAME ("net0") is for messages. B is zeroed
 * but for fd, which is -1. Before the guest starts: starts programs and opens
 * files. 0 or -errno, logged.
 */
int net_backend_open(struct net_backend *b, const struct config_device *cfg,
		     const char *name);

/*
 * The addresses of a guest on a network `user`: fixed, the same for each guest,
 * as nobody else is on that network. passt's DHCP gives the same.
 */
struct net_user_facts {
	const char *address; /* the guest's, IPv4 */
	unsigned prefix_bits;
	const char *gateway;
	const char *dns; /* answers as the host's resolver does; UDP only */
	uint16_t mtu;
};
const struct net_user_facts *net_user_facts(void);

/*
 * One published port: "[ADDRESS:]HOSTPORT[-LAST]:GUESTPORT[-LAST][/tcp|/udp]".
 * The text of key `publish` is one of them or several with commas between. 0 or
 * -EINVAL, logged.
 */
int net_check_publish(const char *text);

/* Where passt is, found in PATH: a path to be freed, or NULL. */
char *net_find_passt(void);

#endif
