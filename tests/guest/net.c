/* SPDX-License-Identifier: Apache-2.0 */
/* The test guest's network: an address, ping, a checked stream each way. */
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK (64u << 10)

static struct sockaddr_in inet(const char *address, int port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};

	sin.sin_port = htons((uint16_t)port);
	sin.sin_addr.s_addr = address ? inet_addr(address) : INADDR_ANY;
	return sin;
}

static int do_net(char **arg)
{
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in sin = inet(arg[1], 0);
	struct ifreq ifr = {0};
	int r;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", arg[0]);
	memcpy(&ifr.ifr_addr, &sin, sizeof(sin));
	r = ioctl(fd, SIOCSIFADDR, &ifr);
	if (!r) {
		sin = inet("255.255.255.0", 0);
		memcpy(&ifr.ifr_netmask, &sin, sizeof(sin));
		r = ioctl(fd, SIOCSIFNETMASK, &ifr);
	}
	if (!r)
		r = ioctl(fd, SIOCGIFFLAGS, &ifr);
	if (!r) {
		ifr.ifr_flags |= IFF_UP | IFF_RUNNING;
		r = ioctl(fd, SIOCSIFFLAGS, &ifr);
	}
	if (r)
		guest_fail("net: %s", arg[0]);
	close(fd);
	return r;
}

/* GATEWAY: for all other networks. */
static int do_route(char **arg)
{
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_in gateway = inet(arg[0], 0), any = inet(NULL, 0);
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
	int r;

	memcpy(&route.rt_gateway, &gateway, sizeof(gateway));
	memcpy(&route.rt_dst, &any, sizeof(any));
	memcpy(&route.rt_genmask, &any, sizeof(any));
	r = ioctl(fd, SIOCADDRT, &route);
	close(fd);
	return r ? guest_fail("route: %s", arg[0]) : 0;
}

/* On the host: a tap that stays, with an address and an MTU, up. */
static int do_tap(char **arg)
{
	const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	const int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", arg[0]);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) || ioctl(fd, TUNSETPERSIST, 1))
		return guest_fail("tap: %s", arg[0]);
	ifr.ifr_mtu = atoi(arg[2]);
	if (ioctl(udp, SIOCSIFMTU, &ifr))
		return guest_fail("tap: MTU %s", arg[2]);
	close(udp);
	close(fd);
	return do_net(arg);
}

static int do_untap(char **arg)
{
	const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int r;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", arg[0]);
	r = fd < 0 || ioctl(fd, TUNSETIFF, &ifr) || ioctl(fd, TUNSETPERSIST, 0);
	close(fd);
	return r ? guest_fail("untap: %s", arg[0]) : 0;
}

/* nic:eth0:FILE:VALUE, FILE of /sys/class/net; '-' in VALUE is ':'. */
static int do_nic(char **arg)
{
	char path[128], have[128];

	guest_mounts();
	snprintf(path, sizeof(path), "/sys/class/net/%s/%s", arg[0], arg[1]);
	if (guest_read(path, have, sizeof(have)))
		return guest_fail("nic: %s", path);
	for (char *p = have; *p; p++) {
		if (*p == ':')
			*p = '-';
	}
	errno = 0;
	if (strcmp(have, arg[2]) != 0)
		return guest_fail("nic: %s is '%s', not '%s'", path, have,
				  arg[2]);
	return 0;
}

static uint16_t icmp_sum(const void *data, size_t bytes)
{
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < bytes; i += 2) {
		uint16_t w;

		memcpy(&w, (const char *)data + i, 2);
		sum += w;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/*
 * One echo of BYTES and its answer. The first is sent again every two seconds,
 * as the other end may not be up yet. 0 or -1.
 */
static int ping_once(int fd, const struct sockaddr_in *to, uint16_t sequence,
		     size_t bytes)
{
	static unsigned char out[9000], in[9100];
	struct icmphdr icmp = {.type = ICMP_ECHO};
	const double end = guest_now() + PATIENCE_S;
	double next = 0;
	ssize_t n;

	icmp.un.echo.id = htons(0xb1);
	icmp.un.echo.sequence = htons(sequence);
	memset(out, 0xa5, bytes);
	memcpy(out, &icmp, sizeof(icmp));
	icmp.checksum = icmp_sum(out, bytes);
	memcpy(out, &icmp, sizeof(icmp));
	while (guest_now() < end) {
		if (next == 0 || (sequence == 0 && guest_now() > next)) {
			if (sendto(fd, out, bytes, 0,
				   (const struct sockaddr *)to,
				   sizeof(*to)) != (ssize_t)bytes)
				return -1;
			next = guest_now() + 2;
		}
		n = recv(fd, in, sizeof(in), 0);
		if (n != (ssize_t)bytes + 20 || in[20] != ICMP_ECHOREPLY)
			continue;
		if (memcmp(in + 26, out + 6, 2) == 0)
			return memcmp(in + 28, out + 8, bytes - 8);
	}
	return -1;
}

static int do_ping(char **arg)
{
	const int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	const struct sockaddr_in to = inet(arg[0], 0);
	const size_t bytes = guest_number(arg[2]);
	const struct timeval tv = {.tv_usec = 200000};
	int r = 0;

	if (fd < 0 || bytes < 16 || bytes > 8972)
		return guest_fail("ping");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	for (int i = 0; r == 0 && i < atoi(arg[1]); i++) {
		r = ping_once(fd, &to, (uint16_t)i, bytes);
		errno = 0;
		if (r)
			guest_fail("ping: no answer to number %d", i);
	}
	close(fd);
	return r;
}

static int stream_send(int fd, uint64_t bytes)
{
	static char buf[CHUNK];

	for (uint64_t at = 0; at < bytes; at += CHUNK) {
		pattern_fill(buf, CHUNK, at, 5);
		for (size_t n = 0; n < CHUNK;) {
			ssize_t r = send(fd, buf + n, CHUNK - n, MSG_NOSIGNAL);

			if (r <= 0)
				return guest_fail("send: at %lu",
						  (unsigned long)at);
			n += (size_t)r;
		}
	}
	return 0;
}

static int stream_check(int fd, uint64_t bytes)
{
	static char buf[CHUNK];

	for (uint64_t at = 0; at < bytes; at += CHUNK) {
		if (recv(fd, buf, CHUNK, MSG_WAITALL) != CHUNK)
			return guest_fail("recv: at %lu", (unsigned long)at);
		errno = 0;
		if (pattern_check(buf, CHUNK, at, 5) >= 0)
			return guest_fail("recv: wrong after %lu",
					  (unsigned long)at);
	}
	return 0;
}

static int stream_connect(const char *address, int port)
{
	const struct sockaddr_in to = inet(address, port);
	const double end = guest_now() + PATIENCE_S;

	/* The other end may not listen yet. */
	while (guest_now() < end) {
		const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0)
			return fd;
		close(fd);
		usleep(100000);
	}
	return -1;
}

static int stream_accept(int port)
{
	const struct sockaddr_in at = inet(NULL, port);
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1, peer = -1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0 &&
	    listen(fd, 1) == 0) {
		say("listening at %d", port);
		peer = accept(fd, NULL, NULL);
	}
	close(fd);
	return peer;
}

/* ADDRESS:PORT:SIZE: sends SIZE, then gets it back from the other end. */
static int do_send(char **arg)
{
	const uint64_t bytes = guest_number(arg[2]);
	const int fd = stream_connect(arg[0], atoi(arg[1]));
	double start = guest_now();
	int r;

	if (fd < 0)
		return guest_fail("send: connect to %s", arg[0]);
	r = stream_send(fd, bytes);
	if (!r && recv(fd, &r, 1, 0) != 1)
		r = guest_fail("send: no word from the other end");
	say("fact sent %.0f MiB/s",
	    (double)bytes / (1 << 20) / (guest_now() - start));
	start = guest_now();
	if (!r)
		r = stream_check(fd, bytes);
	say("fact received %.0f MiB/s",
	    (double)bytes / (1 << 20) / (guest_now() - start));
	close(fd);
	return r;
}

/* The other end of do_send(). */
static int do_serve(char **arg)
{
	const uint64_t bytes = guest_number(arg[1]);
	const int fd = stream_accept(atoi(arg[0]));
	int r;

	if (fd < 0)
		return guest_fail("serve: port %s", arg[0]);
	r = stream_check(fd, bytes);
	if (!r && send(fd, "", 1, 0) != 1)
		r = guest_fail("serve: answer");
	if (!r)
		r = stream_send(fd, bytes);
	/*
	 * A guest may power off after this, and what its kernel or passt still
	 * holds goes with it: wait until the other end has read all and closes.
	 */
	shutdown(fd, SHUT_WR);
	if (!r && recv(fd, &(char){0}, 1, 0) > 0)
		r = guest_fail("serve: more than %s came", arg[1]);
	close(fd);
	return r;
}

#define DATAGRAM 65000

/*
 * Sends a datagram to ADDRESS:PORT, again every second, until it comes back or
 * SECONDS are over: then 1. -1: something else is wrong, and said.
 */
static int ask(char **arg, double seconds)
{
	static char out[DATAGRAM], in[DATAGRAM + 1];
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_in to = inet(arg[0], atoi(arg[1]));
	const size_t bytes = guest_number(arg[2]);
	const struct timeval tv = {.tv_sec = 1};
	const double end = guest_now() + seconds;
	ssize_t n = -1;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	pattern_fill(out, sizeof(out), 0, 6);
	if (bytes > DATAGRAM ||
	    connect(fd, (const struct sockaddr *)&to, sizeof(to)))
		return guest_fail("ask: %s", arg[0]);
	/* The first may find the other end not up yet, and be refused. */
	while (n != (ssize_t)bytes && guest_now() < end) {
		n = send(fd, out, bytes, 0);
		if (n >= 0)
			n = recv(fd, in, sizeof(in), 0);
		if (n < 0)
			usleep(100000);
	}
	close(fd);
	errno = 0;
	if (n != (ssize_t)bytes)
		return 1;
	return memcmp(in, out, bytes) ? guest_fail("ask: wrong answer") : 0;
}

/* ADDRESS:PORT:BYTES: a datagram there, and the same one back. */
static int do_ask(char **arg)
{
	const int r = ask(arg, PATIENCE_S);

	return r > 0 ? guest_fail("ask: no answer from %s", arg[0]) : r;
}

/* ADDRESS:PORT:BYTES: three seconds in which nobody there answers. */
static int do_unheard(char **arg)
{
	const int r = ask(arg, 3);

	return r > 0 ? 0 : guest_fail("unheard: an answer from %s", arg[0]);
}

/* PORT: the other end of do_ask(), for one datagram. */
static int do_answer(char **arg)
{
	static char buf[DATAGRAM];
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_in at = inet(NULL, atoi(arg[0]));
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	ssize_t n = -1;

	if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0) {
		say("listening at %s", arg[0]);
		n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from,
			     &len);
	}
	if (n >= 0)
		n = sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from,
			   len);
	close(fd);
	return n < 0 ? guest_fail("answer: port %s", arg[0]) : 0;
}

const struct action net_actions[] = {
	{"net", 2, do_net, "INTERFACE:ADDRESS"},
	{"route", 1, do_route, "GATEWAY"},
	{"tap", 3, do_tap, "INTERFACE:ADDRESS:MTU, on the host"},
	{"untap", 1, do_untap, "INTERFACE"},
	{"nic", 3, do_nic, "INTERFACE:FILE:VALUE, - in VALUE is :"},
	{"ping", 3, do_ping, "ADDRESS:COUNT:BYTES"},
	{"send", 3, do_send, "ADDRESS:PORT:SIZE"},
	{"serve", 2, do_serve, "PORT:SIZE"},
	{"ask", 3, do_ask, "ADDRESS:PORT:BYTES"},
	{"unheard", 3, do_unheard, "ADDRESS:PORT:BYTES"},
	{"answer", 1, do_answer, "PORT"},
	{NULL, 0, NULL, NULL},
};
