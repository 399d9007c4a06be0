/* SPDX-License-Identifier: Apache-2.0 */
/* Which backend a network asks for, and whether its keys fit together. */
#include "devices/host/net.h"

#include "devices/host/passt.h"
#include "devices/host/tap.h"
#include "vmm/base/log.h"
#include "vmm/base/sandbox.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

static int check_publish(const char *text)
{
	struct net_publish p;

	for (unsigned n = 0;; n++) {
		int taken = net_parse_publish(text, &p);

		if (taken < 0)
			return taken;
		if (n == PASST_PUBLISH_MAX)
			return log_ret(-EINVAL,
				       "publish: more than %d; use ranges",
				       PASST_PUBLISH_MAX);
		text += taken;
		if (*text++ == '\0')
			return 0;
	}
}

int net_check(const struct config_device *cfg)
{
	static const char *const only_user[] = {"publish", "loopback"};
	static const char *const not_spare[] = {"mac", "mtu"};
	const char *publish = config_text(cfg, "publish");
	const bool user = config_flag(cfg, "user");
	const bool spare = config_flag(cfg, "spare");
	const int kinds = user + spare + (config_text(cfg, "tap") != NULL) +
			  (config_text(cfg, "join") != NULL);

	if (kinds != 1)
		return log_ret(-EINVAL,
			       kinds ? "net: 'user', 'tap', 'join' and "
				       "'spare' exclude each other"
				     : "net: say 'user', 'tap=NAME', "
				       "'join=INTERFACE' or 'spare'");
	for (unsigned i = 0; i < 2 && spare; i++) {
		if (config_text(cfg, not_spare[i]))
			return log_ret(
				-EINVAL,
				"net: key '%s' is not for 'spare', whose "
				"network says it",
				not_spare[i]);
	}
	for (unsigned i = 0; i < 2 && !user; i++) {
		if (config_text(cfg, only_user[i]))
			return log_ret(-EINVAL,
				       "net: key '%s' is for 'user' only",
				       only_user[i]);
	}
	if (config_text(cfg, "resolver") && !config_text(cfg, "join"))
		return log_ret(-EINVAL,
			       "net: key 'resolver' is for 'join' only");
	if (user && config_number(cfg, "mtu", 0) > PASST_MTU_MAX)
		return log_ret(-EINVAL, "net: mtu '%s': at most %d with 'user'",
			       config_text(cfg, "mtu"), PASST_MTU_MAX);
	return publish ? check_publish(publish) : 0;
}

int net_backend_open(struct net_backend *b, const struct config_device *cfg,
		     const uint8_t mac[ETH_ALEN], const char *device)
{
	int r = net_check(cfg);

	*b = (struct net_backend){.fd = -1};
	if (r < 0)
		return r;
	if (config_flag(cfg, "spare")) {
		net_backend_none(b);
		return 0;
	}
	return config_flag(cfg, "user") ? passt_open(b, cfg, mac, device)
					: tap_backend_open(b, cfg, device);
}

/* ---- no network */

static ssize_t receive_none(struct net_backend *b, const struct iovec *iov,
			    unsigned niov)
{
	(void)b;
	(void)iov;
	(void)niov;
	return -ENOTCONN;
}

static int send_none(struct net_backend *b, const struct iovec *iov,
		     unsigned niov)
{
	(void)b;
	(void)iov;
	(void)niov;
	return -ENOTCONN;
}

static int set_no_offloads(struct net_backend *b, uint64_t acked)
{
	(void)b;
	(void)acked;
	return 0;
}

static void close_none(struct net_backend *b)
{
	(void)b;
}

/* A tap comes in its place later, by a socket. */
static const struct sandbox_rule none_syscalls[] = {
	SANDBOX_CALL(recvmsg),
	SANDBOX_IOCTL(TUNSETOFFLOAD),
	SANDBOX_END,
};

static const struct net_backend_ops none_ops = {
	.syscalls = none_syscalls,
	.receive = receive_none,
	.send = send_none,
	.set_offloads = set_no_offloads,
	.close = close_none,
};

void net_backend_none(struct net_backend *b)
{
	*b = (struct net_backend){
		.ops = &none_ops, .fd = -1, .name = "no network"};
}

void net_backend_close(struct net_backend *b)
{
	if (b->ops)
		b->ops->close(b);
	*b = (struct net_backend){.fd = -1};
}
