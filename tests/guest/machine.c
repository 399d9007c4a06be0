/* SPDX-License-Identifier: Apache-2.0 */
/* The test guest's looks at its machine: CPUs, memory, console, entropy. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

#define PAGE 4096u

static int count_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return -1;
	return CPU_COUNT(&set);
}

static int do_facts(char **arg)
{
	struct utsname un;
	struct sysinfo si;

	(void)arg;
	if (uname(&un) || sysinfo(&si))
		return guest_fail("facts");
	say("fact release %s", un.release);
	say("fact cpus %d", count_cpus());
	say("fact memory %lu MiB", si.totalram * si.mem_unit >> 20);
	return 0;
}

static void *cpu_thread(void *result)
{
	/* A little floating point: vector state has to survive switches. */
	volatile double x = 1;

	for (int i = 0; i < 200000; i++)
		x = x * 1.0000001 + 1e-9;
	*(double *)result = x;
	return NULL;
}

/* Runs a thread on each CPU; all have to come to the same number. */
static int do_cpus(char **arg)
{
	const int want = atoi(arg[0]), have = count_cpus();
	static double result[64];
	pthread_t thread[64];
	int n = 0;

	errno = 0;
	if (have != want)
		return guest_fail("cpus: %d, not %d", have, want);
	for (; n < have && n < 64; n++) {
		pthread_attr_t attr;
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(n, &set);
		pthread_attr_init(&attr);
		pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
		errno = pthread_create(&thread[n], &attr, cpu_thread,
				       &result[n]);
		if (errno)
			return guest_fail("cpus: thread on CPU %d", n);
	}
	for (int i = 0; i < n; i++) {
		pthread_join(thread[i], NULL);
		if (memcmp(&result[i], &result[0], sizeof(result[0])) != 0)
			return guest_fail("cpus: CPU %d counts otherwise", i);
	}
	return 0;
}

/* The kernel and what it keeps for itself are missing from totalram. */
static int do_memory(char **arg)
{
	const uint64_t lo = guest_number(arg[0]), hi = guest_number(arg[1]);
	struct sysinfo si;
	uint64_t have;

	if (sysinfo(&si))
		return guest_fail("memory");
	have = (uint64_t)si.totalram * si.mem_unit;
	if (have < lo || have > hi)
		return guest_fail("memory: %lu MiB",
				  (unsigned long)(have >> 20));
	return 0;
}

static int page_is_high(int pagemap, const char *page)
{
	uint64_t entry;

	if (pread(pagemap, &entry, 8, (off_t)((uintptr_t)page / PAGE * 8)) != 8)
		return -1;
	/* Bit 63: present; bits 0 to 54: the frame's number. */
	if (!(entry >> 63))
		return 0;
	return (entry & ((UINT64_C(1) << 55) - 1)) >= (UINT64_C(1) << 20);
}

/* Writes SIZE of memory, reads it back, counts pages above 4 GiB. */
static int do_fill(char **arg)
{
	const size_t bytes = guest_number(arg[0]);
	char *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long high = 0;
	long wrong;
	int fd;

	if (mem == MAP_FAILED)
		return guest_fail("fill: %s", arg[0]);
	pattern_fill(mem, bytes, 0, 7);
	wrong = pattern_check(mem, bytes, 0, 7);
	guest_mounts();
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	for (size_t i = 0; fd >= 0 && i < bytes; i += PAGE)
		high += page_is_high(fd, mem + i) == 1;
	close(fd);
	munmap(mem, bytes);
	errno = 0;
	if (wrong >= 0)
		return guest_fail("fill: byte %ld is wrong", wrong);
	say("fact high-pages %lu", high);
	return 0;
}

/*
 * Writes the number of its round over SIZE of memory, in order, N times; what
 * it replaces has to be the round before everywhere. So memory that is of two
 * instants is found within a round.
 */
static int do_sweep(char **arg)
{
	const size_t words = guest_number(arg[0]) / sizeof(uint64_t);
	const uint64_t rounds = guest_number(arg[1]);
	volatile uint64_t *mem =
		mmap(NULL, words * sizeof(uint64_t), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return guest_fail("sweep: %s", arg[0]);
	for (uint64_t round = 1; round <= rounds; round++) {
		/* A few words of each page: more is the same page again. */
		for (size_t i = 0; i < words; i += 64) {
			const uint64_t was = mem[i];

			errno = 0;
			if (was != round - 1)
				return guest_fail(
					"sweep: byte %zu is of round %llu in "
					"round %llu",
					i * sizeof(uint64_t),
					(unsigned long long)was,
					(unsigned long long)round);
			mem[i] = round;
		}
		say("sweep %llu", (unsigned long long)round);
	}
	munmap((void *)mem, words * sizeof(uint64_t));
	return 0;
}

static int do_echo(char **arg)
{
	say("%s", arg[0]);
	return 0;
}

static int do_read(char **arg)
{
	char line[256];
	ssize_t n;

	(void)arg;
	say("ready to read");
	n = read(STDIN_FILENO, line, sizeof(line) - 1);
	if (n < 0)
		return guest_fail("read");
	while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
		n--;
	line[n] = 0;
	/* In brackets: the console's echo shows the bare text, too. */
	say("got [%s]", line);
	return 0;
}

/* Raw bytes, in hexadecimal, until a newline or return. */
static int do_readhex(char **arg)
{
	struct termios tio;
	unsigned char c = 0;
	char text[256];
	size_t n = 0;

	(void)arg;
	if (tcgetattr(STDIN_FILENO, &tio))
		return guest_fail("readhex: not a terminal");
	cfmakeraw(&tio);
	tcsetattr(STDIN_FILENO, TCSANOW, &tio);
	say("ready to read\r");
	while (n < sizeof(text) - 3 && read(STDIN_FILENO, &c, 1) == 1 &&
	       c != '\r' && c != '\n')
		n += (size_t)sprintf(text + n, "%02x", c);
	text[n] = 0;
	say("got [%s]\r", text);
	return 0;
}

/*
 * The arguments that the kernel gave to init besides its name, HOME, TERM and
 * test=.
 */
static int do_given(char **arg)
{
	static const char *const usual[] = {"HOME=", "TERM=", "test="};
	char text[4096];
	ssize_t n;
	int fd;

	(void)arg;
	guest_mounts();
	fd = open("/proc/1/cmdline", O_RDONLY | O_CLOEXEC);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return guest_fail("given: /proc/1/cmdline");
	text[n] = 0;
	for (char *p = text + strlen(text) + 1; p < text + n;
	     p += strlen(p) + 1)
		say("given argument %s", p);
	for (char **e = environ; *e; e++) {
		bool known = false;

		for (size_t i = 0; i < sizeof(usual) / sizeof(*usual); i++)
			known |= strncmp(*e, usual[i], strlen(usual[i])) == 0;
		if (!known)
			say("given variable %s", *e);
	}
	return 0;
}

static int do_size(char **arg)
{
	struct winsize ws;

	(void)arg;
	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &ws))
		return guest_fail("size");
	say("fact size %ux%u", ws.ws_col, ws.ws_row);
	return 0;
}

static int do_waitsize(char **arg)
{
	const int columns = atoi(arg[0]), rows = atoi(arg[1]);
	struct winsize ws = {0};

	say("waiting for size");
	for (int i = 0; i < 3000; i++) {
		if (ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) == 0 &&
		    ws.ws_col == columns && ws.ws_row == rows)
			return 0;
		usleep(100000);
	}
	errno = 0;
	return guest_fail("waitsize: is %ux%u", ws.ws_col, ws.ws_row);
}

static int do_rng(char **arg)
{
	unsigned char a[64] = {0}, b[64] = {0};
	char name[64] = "";
	int fd;

	(void)arg;
	guest_mounts();
	guest_read("/sys/class/misc/hw_random/rng_current", name, sizeof(name));
	errno = 0;
	if (strncmp(name, "virtio_rng", 10) != 0)
		return guest_fail("rng: current is '%s'", name);
	fd = open("/dev/hwrng", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, a, sizeof(a)) <= 0 ||
	    read(fd, b, sizeof(b)) <= 0)
		return guest_fail("rng: /dev/hwrng");
	close(fd);
	if (memcmp(a, b, sizeof(a)) == 0)
		return guest_fail("rng: the same twice");
	return 0;
}

static int do_sleep(char **arg)
{
	usleep((useconds_t)guest_number(arg[0]) * 1000);
	return 0;
}

/*
 * N steps of MILLISECONDS, and the longest that one took by the monotonic
 * clock; a clock that goes back fails.
 */
static int do_ticks(char **arg)
{
	const int n = atoi(arg[0]);
	const useconds_t us = (useconds_t)guest_number(arg[1]) * 1000;
	double before = guest_now(), longest = 0;

	for (int i = 0; i < n; i++) {
		double now;

		usleep(us);
		now = guest_now();
		errno = 0;
		if (now < before)
			return guest_fail("ticks: the clock went back by %f s",
					  before - now);
		if (now - before > longest)
			longest = now - before;
		before = now;
		say("tick %d", i);
	}
	say("fact longest %d", (int)(longest * 1000));
	return 0;
}

/* The time of day by clock source SOURCE, N times every MILLISECONDS. */
static int do_walls(char **arg)
{
	static const char path[] = "/sys/devices/system/clocksource/"
				   "clocksource0/current_clocksource";
	const int n = atoi(arg[1]);
	const useconds_t us = (useconds_t)guest_number(arg[2]) * 1000;
	char source[64] = "";
	int fd;

	guest_mounts();
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, arg[0], strlen(arg[0])) < 0 ||
	    guest_read(path, source, sizeof(source)))
		return guest_fail("walls: %s", path);
	close(fd);
	say("fact clocksource %s", source);
	for (int i = 0; i < n; i++) {
		struct timespec now;

		usleep(us);
		clock_gettime(CLOCK_REALTIME, &now);
		say("tick %d at %lld", i, (long long)now.tv_sec);
	}
	return 0;
}

/* The first thing that N sleeps of MILLISECONDS end with: 16 random bytes. */
static int do_draws(char **arg)
{
	const int n = atoi(arg[0]);
	const useconds_t us = (useconds_t)guest_number(arg[1]) * 1000;
	unsigned char bytes[16];
	int fd;

	guest_mounts();
	fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < n; i++) {
		char hex[2 * sizeof(bytes) + 1];

		usleep(us);
		if (read(fd, bytes, sizeof(bytes)) != sizeof(bytes))
			return guest_fail("draws: /dev/urandom");
		for (unsigned k = 0; k < sizeof(bytes); k++)
			snprintf(hex + 2 * k, 3, "%02x", bytes[k]);
		say("tick %d drew %s", i, hex);
	}
	close(fd);
	return 0;
}

/*
 * Goes through SIZE of memory over and over: reads all pages, writes to each
 * fourth, and says so.
 */
static int do_passes(char **arg)
{
	const size_t bytes = guest_number(arg[0]);
	volatile char *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return guest_fail("passes: %s", arg[0]);
	pattern_fill((char *)mem, bytes, 0, 7);
	for (unsigned n = 0;; n++) {
		for (size_t at = 0; at < bytes; at += PAGE) {
			char c = mem[at];

			if (at / PAGE % 4 == 0)
				mem[at] = (char)(c + 1);
		}
		say("pass %u", n);
		usleep(1000);
	}
	return 0;
}

/* Burns SECONDS of one CPU in user mode. */
static int do_spin(char **arg)
{
	const double end = guest_now() + (double)guest_number(arg[0]);

	while (guest_now() < end)
		;
	return 0;
}

static int do_hang(char **arg)
{
	(void)arg;
	say("hanging");
	while (pause() < 0)
		;
	return 0;
}

static int do_exists(char **arg)
{
	struct stat st;

	guest_mounts();
	return stat(arg[0], &st) ? guest_fail("exists: %s", arg[0]) : 0;
}

/* A file of PATTERN bytes, as the tests put into large initrds. */
static int do_file(char **arg)
{
	const uint64_t want = guest_number(arg[1]);
	const int fd = open(arg[0], O_RDONLY | O_CLOEXEC);
	static char buf[1 << 16];
	uint64_t have = 0;
	ssize_t n;

	if (fd < 0)
		return guest_fail("file: %s", arg[0]);
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		if (pattern_check(buf, (size_t)n, have, 3) >= 0)
			break;
		have += (uint64_t)n;
	}
	close(fd);
	errno = 0;
	if (have != want)
		return guest_fail("file: %s is wrong from byte %lu", arg[0],
				  (unsigned long)have);
	return 0;
}

/* Writes PATTERN bytes to standard output: how do_file()'s file is made. */
static int do_makefile(char **arg)
{
	const uint64_t bytes = guest_number(arg[1]);
	const int fd = open(arg[0], O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	static char buf[1 << 16];

	for (uint64_t at = 0; at < bytes; at += sizeof(buf)) {
		const uint64_t rest = bytes - at;
		const size_t n = rest < sizeof(buf) ? rest : sizeof(buf);

		pattern_fill(buf, n, at, 3);
		if (write(fd, buf, n) != (ssize_t)n)
			return guest_fail("makefile: %s", arg[0]);
	}
	return close(fd);
}

static int insert_module(const char *name)
{
	char path[256];
	int fd, r;

	snprintf(path, sizeof(path), "/modules/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return guest_fail("modules: %s", path);
	r = (int)syscall(SYS_finit_module, fd, "", 0);
	close(fd);
	return r && errno != EEXIST ? guest_fail("modules: %s", path) : 0;
}

/* Inserts every file of /modules that /modules/order names. */
static int do_modules(char **arg)
{
	char list[4096], *save;

	(void)arg;
	guest_mounts();
	if (guest_read("/modules/order", list, sizeof(list)))
		return guest_fail("modules: /modules/order");
	for (char *m = strtok_r(list, "\n", &save); m;
	     m = strtok_r(NULL, "\n", &save)) {
		if (insert_module(m))
			return -1;
	}
	return 0;
}

const struct action machine_actions[] = {
	{"facts", 0, do_facts, ""},
	{"cpus", 1, do_cpus, "N"},
	{"memory", 2, do_memory, "LEAST:MOST"},
	{"fill", 1, do_fill, "SIZE"},
	{"sweep", 2, do_sweep, "SIZE:N"},
	{"echo", 1, do_echo, "TEXT"},
	{"read", 0, do_read, ""},
	{"readhex", 0, do_readhex, ""},
	{"given", 0, do_given, ""},
	{"size", 0, do_size, ""},
	{"waitsize", 2, do_waitsize, "COLUMNS:ROWS"},
	{"rng", 0, do_rng, ""},
	{"sleep", 1, do_sleep, "MILLISECONDS"},
	{"spin", 1, do_spin, "SECONDS"},
	{"ticks", 2, do_ticks, "N:MILLISECONDS"},
	{"walls", 3, do_walls, "SOURCE:N:MILLISECONDS"},
	{"draws", 2, do_draws, "N:MILLISECONDS"},
	{"passes", 1, do_passes, "SIZE"},
	{"hang", 0, do_hang, ""},
	{"exists", 1, do_exists, "PATH"},
	{"file", 2, do_file, "PATH:SIZE"},
	{"makefile", 2, do_makefile, "PATH:SIZE"},
	{"modules", 0, do_modules, ""},
	{NULL, 0, NULL, NULL},
};
