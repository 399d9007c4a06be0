/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's root on the host: by the mappings of its user namespace, or in
 * one that is there already; and how it gets the files.
 */
#include "tests/tempdir.h"
#include "tools/image/rootfs-parts.h"
#include "tools/oci/oci.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define UID 100001
#define GID 100002

/* LINUX_PART: of config.json. */
static int find(const char *linux_part, uid_t *uid, gid_t *gid)
{
	json_t *config =
		json_pack("{s:o}", "linux", json_loads(linux_part, 0, NULL));
	const int r = oci_users_root(config, uid, gid);

	assert_non_null(config);
	json_decref(config);
	return r;
}

static void test_own(void **state)
{
	uid_t uid;
	gid_t gid;

	(void)state;
	/* Mappings say nothing without a namespace that has them. */
	assert_int_equal(find("{\"namespaces\":[{\"type\":\"pid\"}],"
			      "\"uidMappings\":[{\"containerID\":0,"
			      "\"hostID\":5,\"size\":1}]}",
			      &uid, &gid),
			 0);
	assert_int_equal(uid, geteuid());
	assert_int_equal(gid, getegid());
	assert_int_equal(find("{\"namespaces\":[{\"type\":\"user\",\"path\":"
			      "\"/proc/self/ns/user\"}]}",
			      &uid, &gid),
			 0);
	assert_int_equal(uid, geteuid());
}

static void test_mapped(void **state)
{
	static const char *const bad[] = {
		"[]",
		"[{\"containerID\":1,\"hostID\":1,\"size\":5}]",
		"[{\"containerID\":0,\"hostID\":1,\"size\":0}]",
		"[{\"containerID\":0,\"hostID\":-1,\"size\":1}]",
		"[{\"containerID\":0,\"hostID\":4294967295,\"size\":1}]",
	};
	char text[300];
	uid_t uid;
	gid_t gid;

	(void)state;
	assert_int_equal(find("{\"namespaces\":[{\"type\":\"user\"}],"
			      "\"uidMappings\":[{\"containerID\":1000,"
			      "\"hostID\":0,\"size\":1},{\"containerID\":0,"
			      "\"hostID\":7,\"size\":1000}],"
			      "\"gidMappings\":[{\"containerID\":0,"
			      "\"hostID\":8,\"size\":1}]}",
			      &uid, &gid),
			 0);
	assert_int_equal(uid, 7);
	assert_int_equal(gid, 8);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		snprintf(text, sizeof(text),
			 "{\"namespaces\":[{\"type\":\"user\"}],"
			 "\"uidMappings\":%s}",
			 bad[i]);
		assert_int_equal(find(text, &uid, &gid), -EINVAL);
	}
}

static void write_map(pid_t pid, const char *name, unsigned outside)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	file = fopen(path, "we");
	assert_non_null(file);
	fprintf(file, "5 %u 1\n0 %u 1\n", outside + 1000, outside);
	assert_int_equal(fclose(file), 0);
}

/* A process in a user namespace of its own. */
static pid_t start_other(void)
{
	int ends[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		c = unshare(CLONE_NEWUSER) == 0;
		if (write(ends[1], &c, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ends[0], &c, 1), 1);
	close(ends[0]);
	close(ends[1]);
	if (c == 1)
		return pid;
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	skip();
	return -1;
}

static void test_joined(void **state)
{
	char text[200];
	uid_t uid;
	gid_t gid;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(find("{\"namespaces\":[{\"type\":\"user\",\"path\":"
			      "\"/nonexistent\"}]}",
			      &uid, &gid),
			 -ENOENT);
	pid = start_other();
	write_map(pid, "uid_map", UID);
	write_map(pid, "gid_map", GID);
	snprintf(text, sizeof(text),
		 "{\"namespaces\":[{\"type\":\"user\",\"path\":"
		 "\"/proc/%d/ns/user\"}],\"uidMappings\":[{\"containerID\":0,"
		 "\"hostID\":0,\"size\":1}]}",
		 (int)pid);
	assert_int_equal(find(text, &uid, &gid), 0);
	assert_int_equal(uid, UID);
	assert_int_equal(gid, GID);
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* The directory, and what is written there later; nothing else. */
static void test_given(void **state)
{
	static const char *const names[] = {"vm", "vm/spec.json",
					    "container.json"};
	char root[TEMPDIR_ROOM];
	struct oci oci = {.root = root};
	json_t *json = json_object();
	struct stat st;

	(void)state;
	if (geteuid() != 0)
		skip();
	tempdir_name(root);
	assert_non_null(mkdtemp(root));
	assert_int_equal(oci_store_make(&oci, "one"), 0);
	assert_int_equal(oci_store_give(&oci, "one", UID, GID), 0);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		autofree char *path = oci_path(&oci, "one", names[i]);

		if (i > 0)
			assert_int_equal(
				oci_store_write(&oci, "one", names[i], json),
				0);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_uid, i < 2 ? UID : 0);
		assert_int_equal(st.st_gid, i < 2 ? GID : getegid());
	}
	json_decref(json);
	assert_int_equal(oci_store_remove(&oci, "one"), 0);
	assert_int_equal(rmdir(root), 0);
}

/* The templates of CONFIG, a JSON text; OCI->cold as COLD. */
static int templates(const char *config, bool cold, char **ret)
{
	const struct oci oci = {.cold = cold};
	json_t *json = json_loads(config, 0, NULL);
	int r;

	assert_non_null(json);
	r = oci_templates_find(&oci, json, ret);
	json_decref(json);
	return r;
}

/* They are their user's alone, and there where nobody says otherwise. */
static void test_templates(void **state)
{
	static const char *const none[] = {
		"{\"annotations\":{\"bulkhead.cold\":\"true\"}}",
		"{\"linux\":{\"namespaces\":[{\"type\":\"user\"}],"
		"\"uidMappings\":[{\"containerID\":0,\"hostID\":100001,"
		"\"size\":10}],\"gidMappings\":[{\"containerID\":0,"
		"\"hostID\":100001,\"size\":10}]}}",
	};
	char dir[TEMPDIR_ROOM], *path = NULL;
	struct stat st;

	(void)state;
	tempdir_name(dir);
	assert_non_null(mkdtemp(dir));
	assert_int_equal(setenv("BULKHEAD_STORE", dir, 1), 0);
	for (unsigned i = 0; i < ARRAY_LEN(none); i++) {
		assert_int_equal(templates(none[i], false, &path), 0);
		assert_null(path);
	}
	assert_int_equal(templates("{}", true, &path), 0);
	assert_null(path);
	assert_int_equal(templates("{\"annotations\":{\"bulkhead.cold\":"
				   "\"no\"}}",
				   false, &path),
			 -EINVAL);
	assert_int_equal(setenv("BULKHEAD_TEMPLATES", "off", 1), 0);
	assert_int_equal(templates("{}", false, &path), 0);
	assert_null(path);
	assert_int_equal(unsetenv("BULKHEAD_TEMPLATES"), 0);
	assert_int_equal(templates("{\"annotations\":{\"bulkhead.cold\":"
				   "\"false\"}}",
				   false, &path),
			 0);
	assert_non_null(path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	assert_int_equal(strncmp(path, dir, strlen(dir)), 0);
	free(path);
	assert_int_equal(unsetenv("BULKHEAD_STORE"), 0);
	assert_int_equal(tree_remove(AT_FDCWD, dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own),       cmocka_unit_test(test_mapped),
		cmocka_unit_test(test_joined),    cmocka_unit_test(test_given),
		cmocka_unit_test(test_templates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
