/* SPDX-License-Identifier: Apache-2.0 */
/* Which backend a network asks for, and whether its keys fit together. */
#include "devices/host/net.h"

#include "devices/host/passt.h"
#include "devices/host/tap.h"
#include "vmm/base/log.h"

#include <errno.h>

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
	const char *publish = config_text(cfg, "publish");
	const bool user = config_flag(cfg, "user");
	const int kinds = user + (config_text(cfg, "tap") != NULL) +
			  (config_text(cfg, "join") != NULL);

	if (kinds != 1)
		return log_ret(-EINVAL,
			       kinds ? "net: 'user', 'tap' and 'join' exclude "
				       "each other"
				     : "net: say 'user', 'tap=NAME' or "
				       "'join=INTERFACE'");
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
	return config_flag(cfg, "user") ? passt_open(b, cfg, mac, device)
					: tap_backend_open(b, cfg, device);
}

void net_backend_close(struct net_backend *b)
{
	if (b->ops)
		b->ops->close(b);
	*b = (struct net_backend){.fd = -1};
}
