/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of a network device, which gives and takes Ethernet frames.
 * There are two: a tap (tap.c), and passt (passt.c), which makes ordinary
 * sockets of a guest's connections and needs no privilege. Knows no guest.
 */
#ifndef DEVICES_HOST_NET_H
#define DEVICES_HOST_NET_H

#include "vmm/config/config.h"

#include <linux/if_ether.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Before each frame, both ways: struct virtio_net_hdr_v1. */
#define NET_HEADER 12
/* The longest frame either way: segmented later, two VLAN tags. */
#define NET_FRAME_MAX (65536 + 14 + 8)

struct net_backend;
struct sandbox_rule;

struct net_backend_ops {
	const struct sandbox_rule *syscalls; /* of the rest; NULL: none more */
	/*
	 * The next frame behind its header: copied to IOV, cut where that ends;
	 * how many bytes. -EAGAIN: none now. -ENOTCONN: there never will be.
	 */
	ssize_t (*receive)(struct net_backend *b, const struct iovec *iov,
			   unsigned niov);
	/*
	 * Takes one frame with its header, at most NET_FRAME_MAX without, all
	 * or nothing. 0; -EAGAIN: not now; -EINVAL, -EMSGSIZE: bad frame; other
	 * -errno: lost.
	 */
	int (*send)(struct net_backend *b, const struct iovec *iov,
		    unsigned niov);
	/*
	 * Events of the backend's own memory. EPOLLIN: a frame waits, receive()
	 * gives it. EPOLLOUT: the rest of one, for flush() when the descriptor
	 * can be written. Both are NULL where nothing ever waits.
	 */
	uint32_t (*waiting)(const struct net_backend *b);
	void (*flush)(struct net_backend *b);
	/*
	 * Sets the features that the guest accepted, VIRTIO_NET_F_GUEST_*. 0 or
	 * -errno.
	 */
	int (*set_offloads)(struct net_backend *b, uint64_t acked);
	/*
	 * The guest's interface has another address than it was opened for.
	 * Before the guest goes on. NULL: it does not matter.
	 */
	void (*set_mac)(struct net_backend *b, const uint8_t mac[ETH_ALEN]);
	/* Closes fd, frees state. */
	void (*close)(struct net_backend *b);
};

struct net_backend {
	const struct net_backend_ops *ops; /* NULL: not open */
	int fd;                            /* owned; for the event loop */
	char name[32];                     /* "tap 'tap0'", for messages */
	uint16_t mtu;      /* of the host's side, and the guest's unless told */
	uint64_t features; /* VIRTIO_NET_F_* that this backend makes possible */
	void *state;       /* the backend's own */
};

/*
 * Opens the backend CFG asks for, for a guest whose interface has the address
 * MAC. DEVICE ("net0") is for messages. Before the guest starts: opens files,
 * starts programs. 0 or -errno, logged; B is then not open.
 */
int net_backend_open(struct net_backend *b, const struct config_device *cfg,
		     const uint8_t mac[ETH_ALEN], const char *device);
/* Accepts a zeroed one. */
void net_backend_close(struct net_backend *b);
/* One that leads nowhere: it has no descriptor, and all that is sent is lost.
 */
void net_backend_none(struct net_backend *b);

/*
 * The sum of the Internet's checksums (RFC 1071), not complemented, of the
 * bytes from OFFSET to the end of IOV, in the order they have in memory. They
 * may change meanwhile.
 */
uint16_t net_sum(const struct iovec *iov, unsigned niov, size_t offset);

/* Checks keys of a network that depend on each other. 0 or -EINVAL, logged. */
int net_check(const struct config_device *cfg);

/* ---- the network `user` */

/*
 * The guest's addresses: the same in every VM, as each is alone on its network.
 * passt's DHCP gives them, too.
 */
struct net_user_facts {
	const char *address; /* the guest's, IPv4 */
	unsigned prefix_bits;
	const char *gateway;
	const char *dns; /* answers as the host's resolver does; UDP only */
	uint16_t mtu;    /* unless the configuration says another */
};
const struct net_user_facts *net_user_facts(void);

/* Ports of the host that lead to as many of the guest. */
struct net_publish {
	char address[INET_ADDRSTRLEN]; /* of the host; "": all of them */
	uint16_t host, host_last;
	uint16_t guest;
	bool udp;
};

/*
 * "[ADDRESS:]HOST[-LAST]:GUEST[-LAST][/tcp|/udp]", ended by NUL or a comma:
 * key `publish` has one, or several with commas between. How many characters it
 * took, or -EINVAL (logged).
 */
int net_parse_publish(const char *text, struct net_publish *ret);

/* A default route, over IPv4. Without one `user` has published ports only. */
bool net_host_has_route(void);

/* Where passt is, found in PATH: to be freed. NULL: nowhere. */
char *net_find_passt(void);

#define NET_WHY_BYTES 640
/*
 * Starts passt without ports, and ends it. 0, or -errno and in RET_WHY one
 * phrase for the user (not logged). Takes some 20 ms.
 */
int net_try_passt(char ret_why[NET_WHY_BYTES]);
/*
 * Whether passt, which is in PATH, starts here: tries what it is most often
 * refused, a user namespace, and only where that fails passt itself. False: why
 * not is in RET_WHY.
 */
bool net_passt_starts(char ret_why[NET_WHY_BYTES]);

#endif
