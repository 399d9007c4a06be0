/* SPDX-License-Identifier: Apache-2.0 */
/* Which backend a network asks for, and the text of published ports. */
#include "devices/net.h"

#include "devices/passt.h"
#include "devices/tap.h"
#include "vmm/log.h"

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

/* ---- checksums ---- */

static uint16_t fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & UINT16_MAX) + (sum >> 16);
	return (uint16_t)sum;
}

static uint16_t sum_piece(const uint8_t *p, size_t bytes)
{
	uint64_t sum = 0;
	uint32_t word;

	/* No carry is lost below 16 GiB. */
	for (; bytes >= sizeof(word); bytes -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		sum += word;
		p += sizeof(word);
	}
	word = 0;
	memcpy(&word, p, bytes);
	return fold(sum + word);
}

uint16_t net_sum(const struct iovec *iov, unsigned niov, size_t offset)
{
	uint64_t sum = 0;
	bool odd = false;

	for (unsigned i = 0; i < niov; i++) {
		uint16_t piece;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		piece = sum_piece((const uint8_t *)iov[i].iov_base + offset,
				  iov[i].iov_len - offset);
		/* A piece at an odd place has its words' halves exchanged. */
		sum += odd ? __builtin_bswap16(piece) : piece;
		odd ^= (iov[i].iov_len - offset) & 1;
		offset = 0;
	}
	return fold(sum);
}

/* ---- backends ---- */

int net_check(const struct config_device *cfg)
{
	static const char *const only_user[] = {"publish", "loopback"};
	const char *publish = config_text(cfg, "publish");
	const bool user = config_flag(cfg, "user");

	if (user == (config_text(cfg, "tap") != NULL))
		return log_ret(-EINVAL,
			       user ? "net: 'user' and 'tap' exclude each other"
				    : "net: say 'user' or 'tap=NAME'");
	for (unsigned i = 0; i < 2 && !user; i++) {
		if (config_text(cfg, only_user[i]))
			return log_ret(-EINVAL,
				       "net: key '%s' is for 'user' only",
				       only_user[i]);
	}
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
