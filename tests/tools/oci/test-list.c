/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the host's runtimes is asked for which container. */
#include "tests/tempdir.h"
#include "tools/cli/text-list.h"
#include "tools/oci/oci.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char top[TEMPDIR_ROOM];

static void make(const char *name, const char *text, mode_t mode)
{
	char path[TEMPDIR_ROOM + 64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	if (!text) {
		assert_int_equal(mkdir(path, mode), 0);
		return;
	}
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* A runtime that knows the containers KNOWN, a pattern of the shell's. */
static void make_runtime(const char *name, const char *known)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "#!/bin/sh\n"
		 "for id; do :; done\n"
		 "case $3 in list)\n"
		 "  echo '[{\"id\":\"%s\"}]' ;;\n"
		 "state)\n"
		 "  case $id in %s) echo \"{\\\"id\\\":\\\"$id\\\"}\" ;;\n"
		 "  *) exit 1 ;; esac ;;\n"
		 "esac\n",
		 name, known);
	make(name, text, 0755);
}

/* MAKER: the runtime that is noted; NULL: none is. */
static void make_container(const char *id, const char *maker)
{
	char name[64], text[TEMPDIR_ROOM + 64];

	make(id, NULL, 0700);
	snprintf(name, sizeof(name), "@host/%s", id);
	make(name, NULL, 0700);
	snprintf(name, sizeof(name), "%s/container.json", id);
	snprintf(text, sizeof(text), maker ? "{\"host\":\"%s/%s\"}" : "{}", top,
		 maker);
	make(name, text, 0600);
}

static void make_oci(struct oci *oci, const char *host)
{
	char path[TEMPDIR_ROOM + 64];

	snprintf(path, sizeof(path), "%s/%s", top, host);
	*oci = (struct oci){.root = strdup(top), .host = strdup(path)};
}

static void done(struct oci *oci)
{
	free(oci->root);
	free(oci->host);
}

/* How many containers are printed, where HOST is the one that is named. */
static int count_listed(const char *host)
{
	char path[TEMPDIR_ROOM + 64], out[4096];
	char list[] = "list", option[] = "--format", value[] = "json";
	char *argv[] = {list, option, value, NULL};
	struct oci oci;
	int count = 0, fd, before;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/out", top);
	make_oci(&oci, host);
	fflush(stdout);
	before = dup(STDOUT_FILENO);
	fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
	assert_true(before >= 0 && fd >= 0);
	assert_int_equal(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
	n = oci_cmd_list(&oci, 3, argv);
	fflush(stdout);
	assert_int_equal(dup2(before, STDOUT_FILENO), STDOUT_FILENO);
	close(before);
	assert_int_equal(n, 0);
	n = pread(fd, out, sizeof(out) - 1, 0);
	assert_true(n > 0);
	out[n] = '\0';
	close(fd);
	done(&oci);
	for (const char *at = out; (at = strstr(at, "\"id\"")); at++)
		count++;
	return count;
}

/* Those of an older version have no note of theirs. */
static void test_makers(void **state)
{
	static const char *const ids[] = {"new1", "old1", "new2", "old2",
					  "new3", "old3", "new4", "old4"};

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		make_container(ids[i], ids[i][0] == 'n' ? "crun" : NULL);
	/* `create` was killed: it counts for nobody. */
	make("left", NULL, 0700);
	make("left/container.json", "{\"host\":\"/none\"}", 0600);
	assert_int_equal(count_listed("runc"), 8);
	for (unsigned i = 0; i < 8; i++) {
		struct text_list command = {0};
		struct oci oci;

		make_oci(&oci, "runc");
		assert_int_equal(
			oci_host_command(&oci, "state", ids[i], &command), 0);
		assert_string_equal(command.item[0] + strlen(top) + 1,
				    ids[i][0] == 'n' ? "crun" : "runc");
		text_list_done(&command);
		done(&oci);
	}
}

/*
 * A container whose notes are damaged is nobody's: asking a runtime that has
 * not made it would be answered that there is no such container.
 */
static void test_damaged(void **state)
{
	static const char *const texts[] = {"", "{\"host\":", "[]",
					    "{\"host\":7}"};
	struct text_list command = {0};
	char path[TEMPDIR_ROOM + 64];
	struct oci oci;

	(void)state;
	make("old-damaged", NULL, 0700);
	make("@host/old-damaged", NULL, 0700);
	snprintf(path, sizeof(path), "%s/old-damaged/container.json", top);
	make_oci(&oci, "runc");
	for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
		make("old-damaged/container.json", texts[i], 0600);
		assert_int_equal(oci_host_command(&oci, "state", "old-damaged",
						  &command),
				 -EBADMSG);
		text_list_done(&command);
		/* It hides no other one. */
		assert_int_equal(count_listed("runc"), 8);
		assert_int_equal(oci_host_command(&oci, "delete", "old-damaged",
						  &command),
				 0);
		text_list_done(&command);
		assert_int_equal(unlink(path), 0);
	}
	done(&oci);
}

static int set_up(void **state)
{
	(void)state;
	tempdir_name(top);
	assert_non_null(mkdtemp(top));
	make("@host", NULL, 0700);
	make_runtime("runc", "old*");
	make_runtime("crun", "new*");
	return 0;
}

static int tear_down(void **state)
{
	char command[TEMPDIR_ROOM + 16];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", top);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_makers),
		cmocka_unit_test(test_damaged),
	};

	log_setup(LOG_ERROR, false);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
