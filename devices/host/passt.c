/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network through passt, which turns a guest's connections into sockets of
 * its own: any user may do that. Here are its start and the framing on the
 * socket between the two (as QEMU's stream sockets have it: four bytes of
 * length, the first one the highest, and the frame).
 */
#include "devices/host/passt.h"

#include "devices/host/net.h"
#include "vmm/base/iov.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define PROGRAM      "passt"
#define PREFIX       4     /* bytes of length before each frame */
#define CHILD_FD     3     /* the socket, as passt sees it ... */
#define CHILD_ARG    "3"   /* ... and is told */
#define READY_MS     10000 /* for opening all ports */
#define IOV_PARTS    259   /* a chain's, the length, a checksum amid it */
#define SOCKET_BYTES (1 << 20)
#define SAID_BYTES   512 /* of what passt says on its standard error */
#define NOBODY       65534

/* Frames for the guest: room for the longest behind the rest of another. */
#define IN_BYTES (2 * (PREFIX + NET_FRAME_MAX))

/* Untouched pages of it cost nothing. */
struct passt {
	uint8_t in[IN_BYTES];
	size_t in_start, in_end;
	/* The part of the last frame that the socket did not take. */
	uint8_t out[PREFIX + NET_FRAME_MAX];
	size_t out_start, out_end;
	bool trusted; /* the guest need not check what passt has summed up */
};

/* ---- starting ---- */

char *net_find_passt(void)
{
	const char *path = getenv("PATH");

	if (!path)
		path = "/usr/local/bin:/usr/bin:/bin";
	for (size_t len; *path; path += len + (path[len] == ':')) {
		char *file;

		len = strcspn(path, ":");
		if (asprintf(&file, "%.*s/" PROGRAM, (int)len, path) < 0)
			return NULL;
		if (len > 0 && access(file, X_OK) == 0)
			return file;
		free(file);
	}
	return NULL;
}

#define ARGUMENTS_MAX (32 + 2 * PASST_PUBLISH_MAX)

struct arguments {
	const char *v[ARGUMENTS_MAX + 1];
	unsigned n;
	char mtu[8], prefix[4];
	char ports[PASST_PUBLISH_MAX][48];
};

/* Up to NULL. */
static void add(struct arguments *a, const char *const *words)
{
	while (*words && a->n < ARGUMENTS_MAX)
		a->v[a->n++] = *words++;
}
#define ADD(a, ...) add(a, (const char *const[]){__VA_ARGS__, NULL})

static void write_ports(char *text, size_t bytes, const struct net_publish *p)
{
	const char *slash = p->address[0] ? "/" : "";
	const unsigned more = (unsigned)(p->host_last - p->host);

	if (more)
		snprintf(text, bytes, "%s%s%u-%u:%u-%u", p->address, slash,
			 p->host, p->host_last, p->guest, p->guest + more);
	else
		snprintf(text, bytes, "%s%s%u:%u", p->address, slash, p->host,
			 p->guest);
}

/* Without these passt would publish no TCP port, and TCP's ports for UDP. */
static int add_ports(struct arguments *a, const char *text)
{
	bool tcp = false, udp = false;

	for (unsigned i = 0; text && i < PASST_PUBLISH_MAX; i++) {
		struct net_publish p;
		int taken = net_parse_publish(text, &p);

		if (taken < 0)
			return taken;
		write_ports(a->ports[i], sizeof(a->ports[i]), &p);
		ADD(a, p.udp ? "-u" : "-t", a->ports[i]);
		tcp |= !p.udp;
		udp |= p.udp;
		text += taken;
		text = *text ? text + 1 : NULL;
	}
	if (!tcp)
		ADD(a, "-t", "none");
	if (!udp)
		ADD(a, "-u", "none");
	return 0;
}

bool net_host_has_route(void)
{
	FILE *file = fopen("/proc/net/route", "re");
	char line[256];
	bool found = false;

	/* Interface, destination, gateway, ...: in hexadecimal. */
	while (file && !found && fgets(line, sizeof(line), file)) {
		const char *tab = strchr(line, '\t');

		found = tab && strncmp(tab + 1, "00000000\t", 9) == 0;
	}
	if (file)
		fclose(file);
	return found;
}

static int make_arguments(struct arguments *a, const struct config_device *cfg,
			  uint16_t mtu)
{
	const struct net_user_facts *facts = net_user_facts();

	a->n = 0;
	snprintf(a->mtu, sizeof(a->mtu), "%u", mtu);
	snprintf(a->prefix, sizeof(a->prefix), "%u", facts->prefix_bits);
	ADD(a, PROGRAM, "--quiet", "--fd", CHILD_ARG, "--ipv4-only");
	ADD(a, "--address", facts->address, "--netmask", a->prefix);
	ADD(a, "--gateway", facts->gateway, "--dns-forward", facts->dns);
	/* Else the guest would see the host's own. */
	ADD(a, "--mac-addr", "02:00:00:00:02:02", "--mtu", a->mtu);
	/*
	 * A host without a network, now, still has published ports, and may
	 * have one later. passt wants an interface to take addresses from, and
	 * then takes those from above.
	 */
	if (!net_host_has_route())
		ADD(a, "--interface", "lo");
	/* The host's loopback has services that trust whoever can reach it. */
	if (!config_flag(cfg, "loopback"))
		ADD(a, "--no-map-gw");
	return add_ports(a, config_text(cfg, "publish"));
}

/*
 * Standard input and output are not passt's, its errors go to ERROR_FD. It
 * inherits neither blocked signals nor any descriptor but SOCKET_FD. 0 or
 * -errno.
 */
static int spawn(const char *path, const struct arguments *a, int socket_fd,
		 int error_fd, pid_t *ret_pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t none, pipe;
	int r;

	sigemptyset(&none);
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &pipe);
	r = posix_spawn_file_actions_adddup2(&files, error_fd, STDERR_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&files, socket_fd,
						     CHILD_FD);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(&files, STDIN_FILENO,
						     "/dev/null", O_RDWR, 0);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&files, STDIN_FILENO,
						     STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn(ret_pid, path, &files, &attributes,
				(char *const *)a->v, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	return -r;
}

/* The last line of passt's messages: why it did not start. */
static void read_error(int fd, char *text, size_t bytes)
{
	ssize_t n = read(fd, text, bytes - 1);
	char *line;

	text[n > 0 ? n : 0] = '\0';
	while (n > 0 && text[n - 1] == '\n')
		text[--n] = '\0';
	line = strrchr(text, '\n');
	if (line)
		memmove(text, line + 1, strlen(line));
}

/* Whether this user may open what P names: 0 or -errno. */
static int try_port(const struct net_publish *p, uint16_t port)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_port = htons(port)};
	const int one = 1;
	autofd int fd = socket(
		AF_INET, (p->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (p->address[0])
		inet_pton(AF_INET, p->address, &at.sin_addr);
	/* A connection that ended a moment ago does not hold its port. */
	if (!p->udp)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one,
				 sizeof(one));
	if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 ||
	    (!p->udp && listen(fd, 1) < 0))
		return -errno;
	return 0;
}

static const char *port_advice(int error)
{
	switch (error) {
	case EADDRINUSE:
		return "publish another one, or end what listens there "
		       "('ss -lntup' lists it)";
	case EACCES:
		return "publish one from 1024 on, or lower the sysctl "
		       "net.ipv4.ip_unprivileged_port_start";
	case EADDRNOTAVAIL:
		return "no interface of the host has that address";
	default:
		return "publish another one";
	}
}

/* Which of the ports of PUBLISH cannot be had, and why. False: all can. */
static bool find_bad_port(const char *publish, char text[NET_WHY_BYTES])
{
	struct net_publish p;

	for (int taken; publish && (taken = net_parse_publish(publish, &p)) > 0;
	     publish = publish[taken] ? publish + taken + 1 : NULL)
		for (unsigned port = p.host; port <= p.host_last; port++) {
			const int r = try_port(&p, (uint16_t)port);

			if (r == 0)
				continue;
			snprintf(text, NET_WHY_BYTES,
				 "the host's port %s%s%u/%s: %s: %s", p.address,
				 p.address[0] ? ":" : "", port,
				 p.udp ? "udp" : "tcp",
				 r == -EACCES ? "this user has no privilege "
						"for it"
					      : strerror(-r),
				 port_advice(-r));
			return true;
		}
	return false;
}

/* SAID, which is passt's, in words that say what to do. */
static void explain(const char *said, const char *publish,
		    char text[NET_WHY_BYTES])
{
	if (find_bad_port(publish, text))
		return;
	if (strstr(said, "namespace"))
		snprintf(text, NET_WHY_BYTES,
			 PROGRAM " must confine itself, and no user namespace "
				 "can be made here (in a chroot none can; else "
				 "see the sysctls user.max_user_namespaces and "
				 "kernel.unprivileged_userns_clone): %.200s",
			 said);
	else
		snprintf(text, NET_WHY_BYTES, PROGRAM " failed: %.300s",
			 said[0] ? said : "it did not say why");
}

/*
 * passt leaves a process in the background once its ports are open; that is
 * when the one started here exits. 0, or -errno and in SAID why.
 */
static int wait_ready(pid_t pid, int error_fd, char said[SAID_BYTES])
{
	autofd int pidfd = pidfd_open(pid, 0);
	struct pollfd pfd = {.fd = pidfd, .events = POLLIN};
	int status = 0, r;

	do
		r = pidfd < 0 ? 1 : poll(&pfd, 1, READY_MS);
	while (r < 0 && errno == EINTR);
	if (r <= 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r <= 0) {
		snprintf(said, SAID_BYTES, "it did not get ready within %d s",
			 READY_MS / 1000);
		return -ETIMEDOUT;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	read_error(error_fd, said, SAID_BYTES);
	return -ECONNREFUSED;
}

/*
 * passt drops what the socket does not take at once, and TCP finds out late.
 * The host's limit (net.core.wmem_max) may leave it at less.
 */
static void widen(int socket_fd)
{
	const int bytes = SOCKET_BYTES;

	(void)setsockopt(socket_fd, SOL_SOCKET, SO_SNDBUF, &bytes,
			 sizeof(bytes));
}

static int failed(char text[NET_WHY_BYTES], const char *what)
{
	const int error = errno;

	snprintf(text, NET_WHY_BYTES, "%s: %s", what, strerror(error));
	return -error;
}

/* 0, or -errno and in WHY the reason. PUBLISH: the ports A asks for. */
static int start(const struct arguments *a, const char *publish,
		 char why[NET_WHY_BYTES], int *ret_fd)
{
	autofree char *path = net_find_passt();
	char said[SAID_BYTES] = "";
	autofd int ours = -1, theirs = -1, error_in = -1, error_out = -1;
	int sockets[2], error[2];
	pid_t pid;
	int r;

	if (!path) {
		snprintf(why, NET_WHY_BYTES,
			 "the network 'user' needs " PROGRAM
			 ", which is not in PATH; install it (Debian: apt "
			 "install passt)");
		return -ENOENT;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		return failed(why, "socket");
	ours = sockets[0];
	theirs = sockets[1];
	widen(ours);
	widen(theirs);
	if (pipe2(error, O_CLOEXEC | O_NONBLOCK) < 0)
		return failed(why, "pipe");
	error_in = error[0];
	error_out = error[1];
	r = spawn(path, a, theirs, error_out, &pid);
	if (r < 0) {
		snprintf(why, NET_WHY_BYTES, "'%.200s': %s", path,
			 strerror(-r));
		return r;
	}
	r = wait_ready(pid, error_in, said);
	if (r < 0) {
		explain(said, publish, why);
		return r;
	}
	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return failed(why, "socket");
	*ret_fd = take_fd(&ours);
	return 0;
}

int net_try_passt(char ret_why[NET_WHY_BYTES])
{
	const struct config_device plain = {.nparams = 0};
	struct arguments arguments = {.n = 0};
	autofd int fd = -1;
	int r = make_arguments(&arguments, &plain, PASST_MTU_MAX);

	ret_why[0] = '\0';
	return r < 0 ? r : start(&arguments, NULL, ret_why, &fd);
}

/*
 * passt changes to another user where it runs as root, and then makes its
 * namespace; so does this child.
 */
static int try_namespace(void)
{
	if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return 1;
	return unshare(CLONE_NEWUSER) == 0 ? 0 : 1;
}

bool net_passt_starts(char ret_why[NET_WHY_BYTES])
{
	const pid_t pid = fork();
	int status = 1;

	if (pid == 0)
		_exit(try_namespace());
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	ret_why[0] = '\0';
	/* passt itself may be allowed more: AppArmor decides by the program. */
	return (WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
	       net_try_passt(ret_why) == 0;
}

/*
 * passt sends frames only to a guest that it has received a frame from. A
 * client that connects to a published port before the guest's first frame would
 * be kept waiting, and then be refused. So the guest's address is announced
 * (RFC 5227, 3) before it runs.
 */
static int announce(int fd, const uint8_t *mac, const char *device)
{
	struct {
		uint32_t length;
		struct ethhdr eth;
		struct ether_arp arp;
	} __attribute__((packed)) frame = {
		.length = htobe32(sizeof(frame) - PREFIX),
		.eth.h_proto = htobe16(ETH_P_ARP),
		.arp.ea_hdr = {.ar_hrd = htobe16(ARPHRD_ETHER),
			       .ar_pro = htobe16(ETH_P_IP),
			       .ar_hln = ETH_ALEN,
			       .ar_pln = sizeof(struct in_addr),
			       .ar_op = htobe16(ARPOP_REQUEST)},
	};

	memset(frame.eth.h_dest, 0xff, ETH_ALEN);
	memcpy(frame.eth.h_source, mac, ETH_ALEN);
	memcpy(frame.arp.arp_sha, mac, ETH_ALEN);
	inet_pton(AF_INET, net_user_facts()->address, frame.arp.arp_spa);
	inet_pton(AF_INET, net_user_facts()->address, frame.arp.arp_tpa);
	/* Nothing but such a frame was written yet: there is room for it. */
	if (write(fd, &frame, sizeof(frame)) != sizeof(frame))
		return log_ret(-ECONNREFUSED, "%s: " PROGRAM " ended early",
			       device);
	return 0;
}

/* ---- frames to the guest ---- */

/* The frame that comes next: 1, 0: not whole yet, -ENOTCONN: it is nonsense. */
static int next_frame(const struct passt *p, size_t *ret_bytes)
{
	const size_t have = p->in_end - p->in_start;
	uint32_t bytes;

	if (have < PREFIX)
		return 0;
	memcpy(&bytes, p->in + p->in_start, PREFIX);
	bytes = be32toh(bytes);
	/* After it the start of the next frame would not be known, either. */
	if (bytes < ETH_HLEN || bytes > NET_FRAME_MAX)
		return -ENOTCONN;
	*ret_bytes = bytes;
	return have >= PREFIX + bytes;
}

/* As much as comes in one call. 0 or -errno. */
static int read_more(struct net_backend *b)
{
	struct passt *p = b->state;
	ssize_t n;

	if (p->in_start > IN_BYTES - PREFIX - NET_FRAME_MAX ||
	    p->in_start == p->in_end) {
		memmove(p->in, p->in + p->in_start, p->in_end - p->in_start);
		p->in_end -= p->in_start;
		p->in_start = 0;
	}
	n = read(b->fd, p->in + p->in_end, IN_BYTES - p->in_end);
	if (n > 0) {
		p->in_end += (size_t)n;
		return 0;
	}
	if (n == 0 || errno == ECONNRESET)
		return -ENOTCONN;
	return -errno;
}

static ssize_t passt_receive(struct net_backend *b, const struct iovec *iov,
			     unsigned niov)
{
	struct passt *p = b->state;
	struct virtio_net_hdr_v1 header = {0};
	size_t bytes = 0, copied;
	int r;

	while ((r = next_frame(p, &bytes)) == 0 && (r = read_more(b)) == 0)
		;
	if (r < 0)
		return r;
	/*
	 * Frames from passt cross memory and no wire: their sums need no check.
	 */
	if (p->trusted)
		header.flags = VIRTIO_NET_HDR_F_DATA_VALID;
	copied = iov_write(iov, niov, 0, &header, NET_HEADER);
	if (copied == NET_HEADER)
		copied += iov_write(iov, niov, NET_HEADER,
				    p->in + p->in_start + PREFIX, bytes);
	p->in_start += PREFIX + bytes;
	return (ssize_t)copied;
}

/* ---- frames from the guest ---- */

/* Errors besides EAGAIN show as the descriptor's end, too. */
static void passt_flush(struct net_backend *b)
{
	struct passt *p = b->state;

	while (p->out_start < p->out_end) {
		ssize_t n = write(b->fd, p->out + p->out_start,
				  p->out_end - p->out_start);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		p->out_start = n < 0 ? p->out_end : p->out_start + (size_t)n;
	}
}

/* One frame as iovecs for the socket, and what they point to. */
struct frame {
	struct iovec part[IOV_PARTS];
	unsigned nparts;
	size_t bytes; /* of all parts */
	uint32_t length;
	uint16_t sum;
};

/*
 * The bytes from AT on are for the checksum that the guest left to do (virtio
 * 1.2, 5.1.6.2): its field lies at FIELD. Guest memory is only read.
 */
static void put_checksum(struct frame *f, const struct iovec *iov,
			 unsigned niov, size_t at, size_t field)
{
	const uint16_t sum = (uint16_t)~net_sum(iov, niov, at);
	unsigned n;

	/* A checksum of 0 would mean that there is none (RFC 768). */
	f->sum = sum ? sum : UINT16_MAX;
	n = 1 +
	    iov_slice(iov, niov, NET_HEADER, field - NET_HEADER, f->part + 1);
	f->part[n++] = (struct iovec){&f->sum, sizeof(f->sum)};
	n += iov_slice(iov, niov, field + sizeof(f->sum), NET_FRAME_MAX,
		       f->part + n);
	f->nparts = n;
}

/* 0, -EINVAL or -EMSGSIZE. */
static int make_frame(struct frame *f, const struct iovec *iov, unsigned niov)
{
	struct virtio_net_hdr_v1 header;
	size_t bytes = 0, at, field;

	if (niov > IOV_PARTS - 3)
		return -EMSGSIZE;
	if (iov_read(iov, niov, 0, &header, NET_HEADER) < NET_HEADER)
		return -EINVAL;
	f->nparts = 1 + iov_slice(iov, niov, NET_HEADER, NET_FRAME_MAX,
				  f->part + 1);
	for (unsigned i = 1; i < f->nparts; i++)
		bytes += f->part[i].iov_len;
	if (bytes < ETH_HLEN || header.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		return -EINVAL;
	if (bytes > PASST_MTU_MAX + ETH_HLEN)
		return -EMSGSIZE;
	if (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		at = le16toh(header.csum_start);
		field = at + le16toh(header.csum_offset);
		if (at < ETH_HLEN || field + sizeof(f->sum) > bytes)
			return -EINVAL;
		put_checksum(f, iov, niov, NET_HEADER + at, NET_HEADER + field);
	}
	f->length = htobe32((uint32_t)bytes);
	f->part[0] = (struct iovec){&f->length, PREFIX};
	f->bytes = PREFIX + bytes;
	return 0;
}

static int passt_send(struct net_backend *b, const struct iovec *iov,
		      unsigned niov)
{
	struct passt *p = b->state;
	struct frame f;
	ssize_t sent;
	int r;

	passt_flush(b);
	if (p->out_start < p->out_end)
		return -EAGAIN;
	r = make_frame(&f, iov, niov);
	if (r < 0)
		return r;
	do
		sent = writev(b->fd, f.part, (int)f.nparts);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	p->out_start = 0;
	p->out_end = iov_read(f.part, f.nparts, (size_t)sent, p->out,
			      f.bytes - (size_t)sent);
	return 0;
}

/* ---- the backend ---- */

static uint32_t passt_waiting(const struct net_backend *b)
{
	const struct passt *p = b->state;
	uint32_t events = 0;
	size_t bytes;

	if (next_frame(p, &bytes) != 0)
		events |= EPOLLIN;
	if (p->out_start < p->out_end)
		events |= EPOLLOUT;
	return events;
}

static int passt_set_offloads(struct net_backend *b, uint64_t acked)
{
	struct passt *p = b->state;

	p->trusted = acked >> VIRTIO_NET_F_GUEST_CSUM & 1;
	return 0;
}

/* An end of passt's shows as the descriptor's. */
static void passt_set_mac(struct net_backend *b, const uint8_t mac[ETH_ALEN])
{
	(void)announce(b->fd, mac, b->name);
}

static void passt_close(struct net_backend *b)
{
	util_close(&b->fd);
	free(b->state);
}

static const struct net_backend_ops passt_ops = {
	.receive = passt_receive,
	.send = passt_send,
	.waiting = passt_waiting,
	.flush = passt_flush,
	.set_offloads = passt_set_offloads,
	.set_mac = passt_set_mac,
	.close = passt_close,
};

int passt_open(struct net_backend *b, const struct config_device *cfg,
	       const uint8_t *mac, const char *device)
{
	struct arguments arguments = {.n = 0};
	autofree struct passt *p = calloc(1, sizeof(*p));
	uint16_t mtu = (uint16_t)config_number(cfg, "mtu", PASST_MTU_MAX);
	char why[NET_WHY_BYTES];
	int r = make_arguments(&arguments, cfg, mtu);

	if (!p)
		return log_ret(-ENOMEM, "%s: out of memory", device);
	if (r < 0)
		return r;
	r = start(&arguments, config_text(cfg, "publish"), why, &b->fd);
	if (r < 0)
		return log_ret(r, "%s: %s", device, why);
	r = announce(b->fd, mac, device);
	if (r < 0) {
		util_close(&b->fd);
		return r;
	}
	b->ops = &passt_ops;
	b->mtu = mtu;
	b->features = UINT64_C(1) << VIRTIO_NET_F_CSUM |
		      UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM;
	snprintf(b->name, sizeof(b->name), PROGRAM);
	b->state = take_ptr(p);
	return 0;
}
