/* SPDX-License-Identifier: Apache-2.0 */
/* Ports of the host's that are chosen for -p. */
#include "tools/container/run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void expect_publish(const char *text, unsigned n, const char *ends)
{
	const struct option_list list = {&text, 1};
	struct run_chosen chosen = {.n = 0};
	struct text_list all = {0};
	const size_t length = strlen(ends);

	assert_int_equal(run_publish_resolve(&list, &chosen, &all), 0);
	assert_int_equal(all.count, n);
	assert_true(strlen(all.item[n - 1]) >= length);
	assert_string_equal(all.item[n - 1] + strlen(all.item[n - 1]) - length,
			    ends);
	text_list_done(&all);
	run_chosen_done(&chosen);
}

/* A port that is not given is chosen; all else is passed on as it is. */
static void test_publish(void **state)
{
	const char *items[] = {"80", "127.0.0.1::80-81"};
	struct text_list all = {0};
	const struct option_list list = {items, 2};
	struct run_chosen chosen = {.n = 0};
	unsigned port[3];
	char end;

	(void)state;
	expect_publish("8080:80", 1, "8080:80");
	expect_publish("1.2.3.4:8080:80/udp", 1, "1.2.3.4:8080:80/udp");
	expect_publish("x", 1, "x");
	expect_publish("0", 1, "0");
	expect_publish("65536", 1, "65536");
	expect_publish("80/sctp", 1, "80/sctp");
	expect_publish("[::1]::80", 1, "[::1]::80");
	expect_publish(":80", 1, ":80");
	expect_publish("::80", 1, "::80");
	expect_publish("9-8", 1, "9-8");
	expect_publish("80", 1, ":80");
	expect_publish("0:80", 1, ":80");
	expect_publish("53/udp", 1, ":53/udp");
	expect_publish("127.0.0.1:0:53/tcp", 1, ":53");
	expect_publish("80-82", 3, ":82");
	assert_int_equal(run_publish_resolve(&list, &chosen, &all), 0);
	assert_int_equal(all.count, 3);
	assert_int_equal(sscanf(all.item[0], "%u:80%c", &port[0], &end), 1);
	assert_int_equal(
		sscanf(all.item[1], "127.0.0.1:%u:80%c", &port[1], &end), 1);
	assert_int_equal(
		sscanf(all.item[2], "127.0.0.1:%u:81%c", &port[2], &end), 1);
	assert_true(port[0] > 0 && port[0] != port[1] && port[1] != port[2]);
	text_list_done(&all);
	run_chosen_done(&chosen);
}

#define STARTS 16

/* In a network of its own, of which all ports but a few are given away. */
static int choose_all(void)
{
	static const char range[] = "40000 40047";
	const char *text = "80";
	const struct option_list list = {&text, 1};
	struct run_chosen chosen[STARTS] = {{.n = 0}};
	unsigned port[STARTS];
	autofd int fd = -1;

	if (unshare(CLONE_NEWNET) < 0 &&
	    unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return 77;
	fd = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY);
	if (fd < 0 || write(fd, range, strlen(range)) < 0)
		return 77;
	for (unsigned i = 0; i < STARTS; i++) {
		struct text_list all = {0};

		if (run_publish_resolve(&list, &chosen[i], &all) < 0 ||
		    sscanf(all.item[0], "%u:", &port[i]) != 1)
			return 2;
		text_list_done(&all);
		for (unsigned j = 0; j < i; j++) {
			if (port[i] == port[j])
				return 3;
		}
	}
	for (unsigned i = 0; i < STARTS; i++)
		run_chosen_done(&chosen[i]);
	return 0;
}

/*
 * Starts that are under way together have ports of their own, also where the
 * kernel has few to offer: two of 16 random picks from these are the same
 * nearly always.
 */
static void test_publish_together(void **state)
{
	const pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0)
		_exit(choose_all());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_publish),
		cmocka_unit_test(test_publish_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
