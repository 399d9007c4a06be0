/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a program on a pseudo-terminal and plays a user: waits for texts, types,
 * changes the window, sends signals. Tells whether the terminal's modes are
 * afterwards what they were. For the tests of the console.
 *
 *   pty [STEP]... -- PROGRAM [ARGUMENT]...
 *
 * Steps: expect=TEXT  type=TEXT (\n, \r, \xHH)  size=COLUMNSxROWS  raw  cooked
 *        signal=NUMBER  sleep=MILLISECONDS  hangup (the last one: it is gone)
 *
 * All output is copied to standard output. The status is the program's (128
 * plus the number of a signal), 90 when a step failed (said on standard error).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>

#define STEP_FAILED  90
#define STEP_SECONDS 300 /* what takes so long hangs */

struct session {
	int master, slave;
	pid_t child;
	char *text; /* all output so far, NUL-terminated */
	size_t bytes, seen;
	struct termios before;
	bool hung_up;
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Takes what comes within MS milliseconds. False when nothing came. */
static bool session_read(struct session *s, int ms)
{
	struct pollfd pfd = {.fd = s->master, .events = POLLIN};
	char buf[4096], *text;
	ssize_t n;

	if (poll(&pfd, 1, ms) <= 0)
		return false;
	n = read(s->master, buf, sizeof(buf));
	if (n <= 0) {
		s->hung_up = true;
		return false;
	}
	if (write(STDOUT_FILENO, buf, (size_t)n) != n)
		return false;
	text = realloc(s->text, s->bytes + (size_t)n + 1);
	if (!text)
		return false;
	s->text = text;
	memcpy(text + s->bytes, buf, (size_t)n);
	s->bytes += (size_t)n;
	text[s->bytes] = 0;
	return true;
}

static bool session_ended(const struct session *s)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)s->child, &info,
		      WEXITED | WNOHANG | WNOWAIT) != 0 ||
	       info.si_pid != 0;
}

/* Replaces \n, \r and \xHH. The bytes in BUF, and a NUL; -1: no room. */
static int unescape(const char *text, char *buf, size_t room)
{
	size_t n = 0;

	for (; *text && n + 1 < room; text++) {
		char c = *text;

		if (c == '\\' && text[1] == 'n') {
			c = '\n', text++;
		} else if (c == '\\' && text[1] == 'r') {
			c = '\r', text++;
		} else if (c == '\\' && text[1] == 'x') {
			const char hex[3] = {text[2], text[3], 0};

			c = (char)strtoul(hex, NULL, 16), text += 3;
		}
		buf[n++] = c;
	}
	buf[n] = 0;
	return *text ? -1 : (int)n;
}

static int step_expect(struct session *s, const char *step)
{
	const double end = now() + STEP_SECONDS;
	char *found, text[256];

	if (unescape(step, text, sizeof(text)) < 0)
		return -1;

	while (!s->text ||
	       !(found = memmem(s->text + s->seen, s->bytes - s->seen, text,
				strlen(text)))) {
		if (now() > end || s->hung_up ||
		    (!session_read(s, 200) && session_ended(s)))
			return -1;
	}
	s->seen = (size_t)(found - s->text) + strlen(text);
	return 0;
}

static int step_type(struct session *s, const char *step)
{
	char text[256];
	const int bytes = unescape(step, text, sizeof(text));

	for (int i = 0; i < bytes; i++) {
		if (write(s->master, text + i, 1) != 1)
			return -1;
		session_read(s, 10);
	}
	return bytes < 0 ? -1 : 0;
}

static int step_size(struct session *s, const char *text)
{
	struct winsize ws = {0};

	if (sscanf(text, "%hux%hu", &ws.ws_col, &ws.ws_row) != 2)
		return -1;
	return ioctl(s->master, TIOCSWINSZ, &ws);
}

/* Waits until the terminal is raw, or as it was. */
static int step_modes(struct session *s, bool raw)
{
	const double end = now() + STEP_SECONDS;
	struct termios tio;

	do {
		if (tcgetattr(s->slave, &tio) == 0 &&
		    (raw ? !(tio.c_lflag & (ICANON | ECHO))
			 : tio.c_lflag == s->before.c_lflag &&
				     tio.c_iflag == s->before.c_iflag &&
				     tio.c_oflag == s->before.c_oflag))
			return 0;
		session_read(s, 50);
	} while (now() < end);
	return -1;
}

static int step_hangup(struct session *s)
{
	close(s->master);
	close(s->slave);
	s->master = s->slave = -1;
	return 0;
}

static int step_run(struct session *s, const char *step)
{
	const char *value = strchr(step, '=');

	value = value ? value + 1 : "";
	if (strncmp(step, "expect=", 7) == 0)
		return step_expect(s, value);
	if (strncmp(step, "type=", 5) == 0)
		return step_type(s, value);
	if (strncmp(step, "size=", 5) == 0)
		return step_size(s, value);
	if (strncmp(step, "signal=", 7) == 0)
		return kill(s->child, atoi(value));
	if (strncmp(step, "sleep=", 6) == 0)
		return usleep((useconds_t)atoi(value) * 1000);
	if (strcmp(step, "hangup") == 0)
		return step_hangup(s);
	if (strcmp(step, "raw") == 0 || strcmp(step, "cooked") == 0)
		return step_modes(s, strcmp(step, "raw") == 0);
	return -1;
}

static int session_start(struct session *s, char **argv)
{
	struct winsize ws = {.ws_col = 80, .ws_row = 24};

	if (openpty(&s->master, &s->slave, NULL, NULL, &ws) ||
	    tcgetattr(s->slave, &s->before))
		return -1;
	fcntl(s->master, F_SETFD, FD_CLOEXEC);
	s->child = fork();
	if (s->child == 0) {
		if (login_tty(s->slave) == 0)
			execvp(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	return s->child < 0 ? -1 : 0;
}

/* The program's end, and what it still says; 128 plus a signal's number. */
static int session_end(struct session *s)
{
	const double end = now() + STEP_SECONDS;
	int status = 0;

	while (waitpid(s->child, &status, WNOHANG) == 0) {
		session_read(s, 50);
		if (now() > end) {
			fprintf(stderr, "pty: the program does not end\n");
			kill(s->child, SIGKILL);
			waitpid(s->child, &status, 0);
			return STEP_FAILED;
		}
	}
	while (session_read(s, 100))
		;
	if (s->slave >= 0 && step_modes(s, false)) {
		fprintf(stderr,
			"pty: the terminal's modes were not restored\n");
		return STEP_FAILED;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	struct session s = {.master = -1};
	int first = 1;

	while (first < argc && strcmp(argv[first], "--") != 0)
		first++;
	if (first + 1 >= argc) {
		fprintf(stderr, "usage: pty [STEP]... -- PROGRAM\n");
		return STEP_FAILED;
	}
	if (session_start(&s, argv + first + 1)) {
		perror("pty");
		return STEP_FAILED;
	}
	for (int i = 1; i < first; i++) {
		if (step_run(&s, argv[i]) == 0)
			continue;
		fprintf(stderr, "pty: step '%s' failed\n", argv[i]);
		kill(s.child, SIGKILL);
		waitpid(s.child, NULL, 0);
		return STEP_FAILED;
	}
	return session_end(&s);
}
