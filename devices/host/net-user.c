/* SPDX-License-Identifier: Apache-2.0 */
/* The network `user`: the guest's addresses, and the text of published ports.
 */
#include "devices/host/net.h"

#include "devices/host/passt.h"
#include "vmm/base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

const struct net_user_facts *net_user_facts(void)
{
	/* QEMU's user network has the same: users and their scripts know it. */
	static const struct net_user_facts facts = {
		.address = "10.0.2.15",
		.prefix_bits = 24,
		.gateway = "10.0.2.2",
		.dns = "10.0.2.3",
		.mtu = PASST_MTU_MAX,
	};

	return &facts;
}

/* ---- published ports ---- */

/* "80" or "80-90" at *TEXT, which is moved on. */
static bool take_ports(const char **text, const char *end, uint16_t *ret_first,
		       uint16_t *ret_last)
{
	unsigned long value[2] = {0, 0};
	unsigned n = 0;

	for (const char *p = *text; n < 2; p++, n++) {
		const char *digits = p;

		while (p < end && *p >= '0' && *p <= '9' && p - digits < 5)
			value[n] = value[n] * 10 + (unsigned long)(*p++ - '0');
		if (p == digits || value[n] < 1 || value[n] > UINT16_MAX)
			return false;
		*text = p;
		if (p == end || *p != '-')
			break;
	}
	if (n == 2 || (n == 1 && value[1] < value[0]))
		return false;
	*ret_first = (uint16_t)value[0];
	*ret_last = (uint16_t)value[n];
	return true;
}

/* "192.0.2.1:", if there are two colons. */
static bool take_address(const char **text, const char *end,
			 struct net_publish *p)
{
	const char *colon = memchr(*text, ':', (size_t)(end - *text));
	struct in_addr address;
	size_t len;

	if (!colon || !memchr(colon + 1, ':', (size_t)(end - colon - 1)))
		return true;
	len = (size_t)(colon - *text);
	if (len >= sizeof(p->address))
		return false;
	memcpy(p->address, *text, len);
	*text = colon + 1;
	return inet_pton(AF_INET, p->address, &address) == 1;
}

/* "/tcp" or "/udp" or nothing, before END. */
static bool take_protocol(const char *text, const char *end, bool *ret_udp)
{
	const size_t len = (size_t)(end - text);

	*ret_udp = len == 4 && memcmp(text, "/udp", 4) == 0;
	return len == 0 || *ret_udp ||
	       (len == 4 && memcmp(text, "/tcp", 4) == 0);
}

int net_parse_publish(const char *text, struct net_publish *ret)
{
	const char *end = text + strcspn(text, ",");
	struct net_publish p = {.host = 0};
	const char *at = text;
	uint16_t guest_last;

	if (take_address(&at, end, &p) &&
	    take_ports(&at, end, &p.host, &p.host_last) && at < end &&
	    *at++ == ':' && take_ports(&at, end, &p.guest, &guest_last) &&
	    take_protocol(at, end, &p.udp) &&
	    p.host_last - p.host == guest_last - p.guest) {
		*ret = p;
		return (int)(end - text);
	}
	return log_ret(-EINVAL,
		       "publish '%.*s': not [ADDRESS:]HOSTPORT:GUESTPORT[/udp] "
		       "with ports 1 to 65535, or ranges 80-90 of one length",
		       (int)(end - text), text);
}
