/* SPDX-License-Identifier: Apache-2.0 */
/* Reading, writing and parsing helpers; knows nothing of a VM. */
#include "vmm/base/util.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

int util_read_at(int fd, void *buf, size_t len, uint64_t offset)
{
	uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = pread(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int util_write_at(int fd, const void *buf, size_t len, uint64_t offset)
{
	const uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int util_read_file(int fd, size_t max, char **ret_text, size_t *ret_bytes)
{
	autofree char *text = NULL;
	struct stat st;
	size_t bytes;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	bytes = (size_t)st.st_size;
	if (bytes > max)
		return -EFBIG;
	text = malloc(bytes + 1);
	if (!text)
		return -ENOMEM;
	r = util_read_at(fd, text, bytes, 0);
	if (r < 0)
		return r;
	text[bytes] = '\0';
	*ret_text = take_ptr(text);
	*ret_bytes = bytes;
	return 0;
}

int util_read_stream(int fd, size_t max, char **ret_text)
{
	size_t used = 0, room = 4096;
	autofree char *text = malloc(room);

	while (text) {
		const ssize_t n = read(fd, text + used, room - used - 1);
		char *more;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		used += (size_t)n;
		if (used >= max)
			return -EFBIG;
		if (n == 0)
			break;
		if (room - used > 1)
			continue;
		more = realloc(text, room * 2);
		if (!more)
			return -ENOMEM;
		text = more;
		room *= 2;
	}
	if (!text)
		return -ENOMEM;
	text[used] = '\0';
	*ret_text = take_ptr(text);
	return 0;
}

int util_write_all(int fd, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* strtoull() alone takes signs, leading space and an empty string. */
static int parse_unsigned(const char *text, uint64_t *ret_value, char **ret_end)
{
	unsigned long long value;
	int base = strncasecmp(text, "0x", 2) == 0 ? 16 : 10;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, ret_end, base);
	if (errno == ERANGE)
		return -ERANGE;
	if (*ret_end == text)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

int util_parse_size(const char *text, uint64_t *ret_bytes)
{
	static const char suffixes[] = "KMGT";
	uint64_t value;
	char *end;
	unsigned shift = 0;
	int r = parse_unsigned(text, &value, &end);

	if (r < 0)
		return r;
	if (*end != '\0') {
		const char *suffix =
			strchr(suffixes, toupper((unsigned char)*end));

		if (!suffix)
			return -EINVAL;
		shift = 10 * (unsigned)(suffix - suffixes + 1);
		end++;
		if (strcasecmp(end, "") != 0 && strcasecmp(end, "b") != 0 &&
		    strcasecmp(end, "ib") != 0)
			return -EINVAL;
	}
	if (shift && value >> (64 - shift) != 0)
		return -ERANGE;
	*ret_bytes = value << shift;
	return 0;
}

int util_parse_number(const char *text, uint64_t min, uint64_t max,
		      uint64_t *ret_value)
{
	uint64_t value;
	char *end;
	int r = parse_unsigned(text, &value, &end);

	if (r < 0)
		return r;
	if (*end != '\0')
		return -EINVAL;
	if (value < min || value > max)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int util_parse_mac(const char *text, uint8_t ret_mac[6])
{
	uint8_t mac[6];

	for (unsigned i = 0; i < 6; i++, text += 3) {
		int high = hex_digit(text[0]);
		int low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0 || text[2] != (i < 5 ? ':' : '\0'))
			return -EINVAL;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(ret_mac, mac, sizeof(mac));
	return 0;
}

uint64_t util_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/*
 * A fault maps what the page cache has up to 64 KiB around it, but never beyond
 * its mapping: advice that differs from chunk to chunk makes small ones.
 */
static void split(uintptr_t start, uintptr_t end)
{
	const uintptr_t chunk = 8 * KIB;

	for (; end - start > chunk && start < end; start += 2 * chunk)
		(void)madvise((void *)start, chunk, MADV_RANDOM);
}

static int drop_segments(struct dl_phdr_info *info, size_t size, void *unused)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size;
	(void)unused;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + h->p_vaddr;
		uintptr_t end = start + h->p_memsz;

		if (h->p_type != PT_LOAD || h->p_flags & PF_W)
			continue;
		start &= ~(page - 1);
		/*
		 * If the kernel refuses, the memory is not saved, and nothing
		 * else happens.
		 */
		(void)madvise((void *)start, end - start, MADV_DONTNEED);
		split(start, end);
	}
	return 1; /* the program itself comes first: no other object */
}

void util_drop_code(void)
{
	dl_iterate_phdr(drop_segments, NULL);
}

sigset_t util_signals(const int *signals, size_t n)
{
	struct sigaction now;
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < n; i++) {
		if (sigaction(signals[i], NULL, &now) == 0 &&
		    now.sa_handler != SIG_IGN)
			sigaddset(&set, signals[i]);
	}
	return set;
}

int util_openat2(int dir, const char *path, int flags, uint64_t resolve)
{
	const struct open_how how = {
		.flags = (uint64_t)flags | O_CLOEXEC,
		.resolve = resolve,
	};
	long fd = -1;

	for (unsigned i = 0; i < 64; i++) {
		fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

static int check_regular(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? 0 : -ENXIO;
}

/* It may have become another one between the two: then it is not waited for. */
int util_open_regular(int dir, const char *path, int flags, uint64_t resolve)
{
	autofd int there =
		util_openat2(dir, path, O_PATH | (flags & O_NOFOLLOW), resolve);
	autofd int fd = -1;
	int r = there < 0 ? there : check_regular(there);

	if (r < 0)
		return r;
	fd = util_openat2(dir, path, flags | O_NONBLOCK | O_NOCTTY, resolve);
	r = fd < 0 ? fd : check_regular(fd);
	return r < 0 ? r : take_fd(&fd);
}

bool util_in_user_namespace(void)
{
	FILE *file = fopen("/proc/self/uid_map", "re");
	unsigned long inside, outside, count = 0;
	int n = 0;

	if (file) {
		n = fscanf(file, "%lu %lu %lu", &inside, &outside, &count);
		fclose(file);
	}
	return n == 3 && count != UINT32_MAX;
}
