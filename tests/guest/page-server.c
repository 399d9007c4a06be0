/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A memory server as Firecracker's users write them: takes a connection at a
 * Unix socket, and on it the JSON text of where a guest's RAM lies and the
 * descriptor of its userfaultfd(2), and answers each access to a missing page
 * from a file.
 *
 *     page-server SOCKET FILE [COUNT]
 *
 * prints "listening", then the text. It ends after COUNT accesses, as one that
 * crashes, or when the other end is closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PAGE    4096
#define REGIONS 8

struct region {
	uint64_t host, bytes, offset;
};

static struct region region[REGIONS];
static unsigned nregions;

static void die(const char *what)
{
	fprintf(stderr, "page-server: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int take_connection(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int connection;

	if (strlen(path) >= sizeof(un.sun_path)) {
		errno = ENAMETOOLONG;
		die(path);
	}
	strcpy(un.sun_path, path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 ||
	    listen(fd, 1) < 0)
		die(path);
	puts("listening");
	fflush(stdout);
	connection = accept(fd, NULL, NULL);
	if (connection < 0)
		die("accept");
	close(fd);
	return connection;
}

/* The text in ROOM bytes at TEXT; the descriptor that came with it. */
static int take_descriptor(int connection, char *text, size_t room)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {text, room - 1};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const ssize_t n = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
	const struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	int fd;

	if (n <= 0 || !head || head->cmsg_type != SCM_RIGHTS)
		die("no descriptor came");
	text[n] = '\0';
	memcpy(&fd, CMSG_DATA(head), sizeof(fd));
	return fd;
}

static uint64_t number_of(const char *object, const char *key)
{
	const char *at = strstr(object, key);

	if (!at)
		die(key);
	return strtoull(at + strlen(key), NULL, 10);
}

static void take_regions(const char *text)
{
	for (text = strchr(text, '{'); text; text = strchr(text + 1, '{')) {
		if (nregions == REGIONS ||
		    number_of(text, "\"page_size\":") != PAGE)
			die("regions");
		region[nregions++] = (struct region){
			number_of(text, "\"base_host_virt_addr\":"),
			number_of(text, "\"size\":"),
			number_of(text, "\"offset\":"),
		};
	}
}

static void serve(int uffd, uint64_t address, const uint8_t *memory)
{
	const uint64_t page = address & ~(uint64_t)(PAGE - 1);

	for (unsigned i = 0; i < nregions; i++) {
		const uint64_t at = page - region[i].host;
		struct uffdio_copy copy = {
			.dst = page,
			.src = (uintptr_t)memory + region[i].offset + at,
			.len = PAGE,
		};

		if (page < region[i].host || at >= region[i].bytes)
			continue;
		if (ioctl(uffd, UFFDIO_COPY, &copy) < 0 && errno != EEXIST &&
		    errno != ESRCH)
			die("UFFDIO_COPY");
		return;
	}
	die("an access beside all regions");
}

int main(int argc, char **argv)
{
	long left = argc > 3 ? atol(argv[3]) : -1;
	const int file = argc < 3 ? -1 : open(argv[2], O_RDONLY | O_CLOEXEC);
	struct pollfd pfd[2];
	const uint8_t *memory;
	struct uffd_msg message;
	char text[4096];
	struct stat st;

	if (file < 0 || fstat(file, &st) < 0)
		die("usage: page-server SOCKET FILE [COUNT]");
	memory =
		mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	if (memory == MAP_FAILED)
		die(argv[2]);
	pfd[0] = (struct pollfd){.fd = take_connection(argv[1])};
	pfd[1] = (struct pollfd){
		.fd = take_descriptor(pfd[0].fd, text, sizeof(text)),
		.events = POLLIN,
	};
	puts(text);
	fflush(stdout);
	take_regions(text);
	while (left != 0 && poll(pfd, 2, -1) > 0 && !pfd[0].revents) {
		if (read(pfd[1].fd, &message, sizeof(message)) !=
			    sizeof(message) ||
		    message.event != UFFD_EVENT_PAGEFAULT)
			continue;
		serve(pfd[1].fd, message.arg.pagefault.address, memory);
		left -= left > 0;
	}
	return 0;
}
