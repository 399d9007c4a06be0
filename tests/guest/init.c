/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test guest's main program, which first.c becomes: reads the list of
 * actions, runs it, ends the machine. As PID 1 the list is the kernel command
 * line's test=A:x:y,B:z, which the kernel hands over in the environment;
 * elsewhere it is the arguments.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define EXIT_PORT 0xf4
#define EXIT_FAIL 99

void say(const char *format, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line) - 1, format, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		return; /* nobody is there to be told */
}

int guest_fail(const char *format, ...)
{
	const int error = errno;
	char text[400];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (error)
		say("FAIL %s: %s", text, strerror(error));
	else
		say("FAIL %s", text);
	return -1;
}

uint64_t guest_number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	if (*end == 'K')
		n <<= 10;
	else if (*end == 'M')
		n <<= 20;
	else if (*end == 'G')
		n <<= 30;
	return n;
}

void guest_mounts(void)
{
	struct stat st;

	if (getpid() != 1 || stat("/proc/self", &st) == 0)
		return;
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	if (stat("/dev/null", &st))
		mount("dev", "/dev", "devtmpfs", 0, NULL);
}

int guest_read(const char *path, char *buf, size_t bytes)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, buf, bytes - 1);
	close(fd);
	if (n < 0)
		return -1;
	if (n > 0 && buf[n - 1] == '\n')
		n--;
	buf[n] = 0;
	return 0;
}

double guest_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t pattern_word(uint64_t index, uint64_t seed)
{
	uint64_t x = index * UINT64_C(0x9e3779b97f4a7c15) + seed + 1;

	x ^= x >> 31;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	return x ^ x >> 29;
}

void pattern_fill(void *buf, size_t bytes, uint64_t offset, uint64_t seed)
{
	for (size_t i = 0; i < bytes; i += 8) {
		const uint64_t w = pattern_word((offset + i) / 8, seed);

		memcpy((char *)buf + i, &w, bytes - i < 8 ? bytes - i : 8);
	}
}

long pattern_check(const void *buf, size_t bytes, uint64_t offset,
		   uint64_t seed)
{
	for (size_t i = 0; i < bytes; i += 8) {
		const uint64_t w = pattern_word((offset + i) / 8, seed);

		if (memcmp((const char *)buf + i, &w,
			   bytes - i < 8 ? bytes - i : 8) != 0)
			return (long)i;
	}
	return -1;
}

static int do_exit(char **arg)
{
	const unsigned status = (unsigned)guest_number(arg[0]);

	if (getpid() != 1)
		_exit((int)status);
	tcdrain(STDOUT_FILENO); /* what was said is on its way */
	if (ioperm(EXIT_PORT, 1, 1))
		return guest_fail("ioperm");
	outb((unsigned char)status, EXIT_PORT);
	return 0;
}

static int do_poweroff(char **arg)
{
	(void)arg;
	tcdrain(STDOUT_FILENO);
	sync();
	return reboot(RB_POWER_OFF);
}

static int do_reboot(char **arg)
{
	(void)arg;
	tcdrain(STDOUT_FILENO);
	sync();
	return reboot(RB_AUTOBOOT);
}

static int do_panic(char **arg)
{
	(void)arg;
	_exit(1); /* the kernel cannot live without PID 1 */
}

static const struct action end_actions[] = {
	{"exit", 1, do_exit, "STATUS through the exit port"},
	{"poweroff", 0, do_poweroff, ""},
	{"reboot", 0, do_reboot, "reboot=t makes it a triple fault"},
	{"panic", 0, do_panic, ""},
	{NULL, 0, NULL, NULL},
};

static const struct action *const all_actions[] = {
	end_actions,    machine_actions,   process_actions,
	block_actions,  fs_actions,        fsbench_actions,
	fslock_actions, net_actions,       stream_actions,
	vsock_actions,  bench_actions,     entry_actions,
	offer_actions,  contained_actions, NULL,
};

static const struct action *action_find(const char *name)
{
	for (unsigned i = 0; all_actions[i]; i++) {
		for (const struct action *a = all_actions[i]; a->name; a++) {
			if (strcmp(a->name, name) == 0)
				return a;
		}
	}
	return NULL;
}

/* TEXT is NAME:ARG:ARG...; it is cut up. */
static int action_run(char *text)
{
	char *arg[GUEST_ARGS + 1] = {NULL};
	const struct action *action;
	int n = 0;

	for (char *p = text; n < GUEST_ARGS && p;) {
		char *next = strchr(p, ':');

		if (next)
			*next++ = 0;
		arg[n++] = p;
		p = next;
	}
	errno = 0;
	action = action_find(arg[0]);
	if (!action)
		return guest_fail("%s: no such action", arg[0]);
	if (n - 1 < action->nargs)
		return guest_fail("%s: wants %s", arg[0], action->help);
	if (action->run(arg + 1))
		return -1;
	say("ok %s", arg[0]);
	return 0;
}

static void usage(void)
{
	for (unsigned i = 0; all_actions[i]; i++) {
		for (const struct action *a = all_actions[i]; a->name; a++)
			printf("%s:%s\n", a->name, a->help);
	}
}

static void __attribute__((noreturn)) guest_main(char *list)
{
	char fail[] = "exit:99", done[] = "poweroff";
	int failed = 0;
	char *save, *text;

	for (text = strtok_r(list, ",", &save); text && !failed;
	     text = strtok_r(NULL, ",", &save))
		failed = action_run(text);
	if (failed)
		action_run(fail);
	action_run(done);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	char none[] = "";
	char *list;

	if (getpid() != 1) {
		if (argc < 2)
			usage();
		for (int i = 1; i < argc; i++) {
			if (action_run(argv[i]))
				return 1;
		}
		return 0;
	}
	list = getenv("test");
	guest_main(list ? list : none);
}
