/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine that a container's description becomes: what its VM has, and what
 * the agent in it is told. Nothing is started.
 */
#include "firmware/init/program.h"
#include "tests/tempdir.h"
#include "tools/container/run.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* In place of the agent's program, which `bulkhead` has in it. */
const void *init_program(size_t *ret_bytes)
{
	static const char program[] = "init";

	*ret_bytes = sizeof(program);
	return program;
}

struct ctx {
	struct run_options opt;
	struct rootfs root;
	struct spec spec;
	struct instance instance;
	struct run_machine machine;
	char top[TEMPDIR_ROOM], bundle[TEMPDIR_ROOM + 8];
};

static char *none[] = {NULL};

static int setup(void **state)
{
	struct ctx *ctx = calloc(1, sizeof(*ctx));

	assert_non_null(ctx);
	log_setup(LOG_ERROR, false);
	tempdir_name(ctx->top);
	assert_non_null(mkdtemp(ctx->top));
	snprintf(ctx->bundle, sizeof(ctx->bundle), "%s/root", ctx->top);
	assert_int_equal(mkdir(ctx->bundle, 0755), 0);
	instance_init(&ctx->instance);
	strcpy(ctx->instance.name, "one");
	ctx->instance.socket = strdup("/run/vs,ock");
	ctx->machine.initrd_fd = -1;
	ctx->root = (struct rootfs){
		.path = strdup("/usr,x"),
		.name = strdup("root"),
		.hold = -1,
	};
	*state = ctx;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *ctx = *state;
	char path[TEMPDIR_ROOM + 16];

	run_machine_done(&ctx->machine);
	run_options_done(&ctx->opt);
	spec_done(&ctx->spec);
	instance_done(&ctx->instance);
	rootfs_close(&ctx->root);
	snprintf(path, sizeof(path), "%s/config.json", ctx->top);
	(void)unlink(path);
	assert_int_equal(rmdir(ctx->bundle), 0);
	assert_int_equal(rmdir(ctx->top), 0);
	free(ctx);
	return 0;
}

/* LINE as `run` takes it, with this program as the kernel. */
static void parse(struct ctx *ctx, const char *line)
{
	static char copy[1024];
	static char *argv[64];
	char *rest = NULL;
	int n = 0;

	snprintf(copy, sizeof(copy), "run --kernel /proc/self/exe %s", line);
	for (char *word = strtok_r(copy, " ", &rest); word;
	     word = strtok_r(NULL, " ", &rest))
		argv[n++] = word;
	argv[n] = NULL;
	assert_int_equal(run_options_parse(&ctx->opt, n, argv), 0);
}

static int make(struct ctx *ctx, const char *line)
{
	int r;

	parse(ctx, line);
	ctx->root.config = (struct rootfs_config){
		.entrypoint = none, .cmd = none, .env = none};
	r = run_spec_make(&ctx->spec, &ctx->opt, &ctx->root);
	ctx->root.config = (struct rootfs_config){0};
	return r < 0 ? r
		     : run_machine_make(&ctx->machine, &ctx->spec, &ctx->opt,
					&ctx->root, &ctx->instance);
}

static const struct config_device *device(const struct ctx *ctx,
					  const char *type, unsigned nth)
{
	for (unsigned i = 0; i < ctx->machine.cfg.ndevices; i++) {
		const struct config_device *dev = &ctx->machine.cfg.device[i];

		if (strcmp(dev->type, type) == 0 && nth-- == 0)
			return dev;
	}
	return NULL;
}

/* Texts reach the configuration as they are, whatever is in them. */
static void test_machine(void **state)
{
	struct ctx *ctx = *state;
	const struct agent_config *agent = &ctx->machine.agent;
	const struct config *cfg = &ctx->machine.cfg;

	assert_int_equal(make(ctx, "--memory 128M --cpus 3 --network none "
				   "-v /tmp:/t:ro r x"),
			 0);
	assert_int_equal(cfg->memory_bytes, 128 * MIB);
	assert_int_equal(cfg->cpus, 3);
	assert_true(cfg->sandbox);
	assert_string_equal(cfg->name, "one");
	assert_true(ctx->machine.initrd_fd >= 0);
	assert_string_equal(config_text(device(ctx, "vsock", 0), "path"),
			    "/run/vs,ock");
	assert_string_equal(config_text(device(ctx, "fs", 0), "dir"), "/usr,x");
	assert_true(config_flag(device(ctx, "fs", 0), "readonly"));
	assert_true(config_flag(device(ctx, "tree", 0), "readonly"));
	assert_null(device(ctx, "net", 0));
	assert_string_equal(agent->root_tag, "rootfs");
	assert_true(agent->root_overlay && agent->host_bound);
	assert_false(agent->keep_etc);
	assert_int_equal(agent->nmounts, ctx->spec.nmounts);
	assert_string_equal(agent->mounts[agent->nmounts - 1].tag,
			    "volumes-auto-guest");
	assert_string_equal(agent->mounts[agent->nmounts - 1].subpath, "0");
	assert_string_equal(agent->masked[0], "/proc/acpi");
	assert_int_equal(agent->pids_max, 256);
	assert_null(agent->oci);
}

/* The file's own rules come first, then those of every container. */
/* "bind" does not ask for what is mounted below; /proc is, nearly always. */
static void test_bind_of_one(void **state)
{
	struct ctx *ctx = *state;
	const struct {
		const char *source, *options, *submounts;
	} cases[] = {
		{"/", "bind,ro", "false"},
		{"/", "bind,rbind", NULL},
		{"/proc/self/fd", "bind", NULL},
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		const char *submounts;

		parse(ctx, "--network none r x");
		ctx->root.config = (struct rootfs_config){
			.entrypoint = none, .cmd = none, .env = none};
		assert_int_equal(
			run_spec_make(&ctx->spec, &ctx->opt, &ctx->root), 0);
		ctx->root.config = (struct rootfs_config){0};
		assert_int_equal(spec_add_mount(&ctx->spec, "/all", "bind",
						cases[i].source,
						cases[i].options),
				 0);
		assert_int_equal(run_machine_make(&ctx->machine, &ctx->spec,
						  &ctx->opt, &ctx->root,
						  &ctx->instance),
				 0);
		submounts = config_text(device(ctx, "tree", 0), "submounts");
		assert_int_equal(!submounts, !cases[i].submounts);
		assert_true(!submounts ||
			    strcmp(submounts, cases[i].submounts) == 0);
		run_machine_done(&ctx->machine);
		ctx->machine = (struct run_machine){.initrd_fd = -1};
		run_options_done(&ctx->opt);
		ctx->opt = (struct run_options){0};
		spec_done(&ctx->spec);
	}
}

static void test_devices(void **state)
{
	struct ctx *ctx = *state;
	const struct agent_config *agent = &ctx->machine.agent;

	assert_int_equal(make(ctx, "--network none r x"), 0);
	assert_string_equal(agent->devices[0].path, "/dev/null");
	assert_int_equal(agent->ndevices, 6);
	assert_false(agent->rules[0].allow);
	assert_int_equal(agent->rules[0].type, 'a');
	assert_true(agent->nrules > 1 && agent->rules[1].allow);
	/* The machine's console belongs to no user. */
	for (size_t i = 0; i < agent->nrules; i++)
		assert_false(agent->rules[i].major == 5 &&
			     agent->rules[i].minor == 1);
}

static void test_refused(void **state)
{
	struct ctx *ctx = *state;

	/* An image's tree is shared by all its containers. */
	ctx->root.digest = strdup("sha256:0");
	assert_int_equal(make(ctx, "--network none --rootfs-write r x"),
			 -EINVAL);
	run_machine_done(&ctx->machine);
	memset(&ctx->machine, 0, sizeof(ctx->machine));
	ctx->machine.initrd_fd = -1;
}

/* ---- bundles */

#define PROCESS "\"process\": {\"args\": [\"x\"], \"cwd\": \"/\"}"
#define NAMESPACES                                                             \
	"\"namespaces\": [{\"type\": \"pid\"}, {\"type\": \"network\"}, "      \
	"{\"type\": \"mount\"}, {\"type\": \"ipc\"}, {\"type\": \"uts\"}]"

static void write_bundle(struct ctx *ctx, const char *process,
			 const char *linux_part, bool readonly)
{
	char path[TEMPDIR_ROOM + 16];
	FILE *file;

	snprintf(path, sizeof(path), "%s/config.json", ctx->top);
	file = fopen(path, "we");
	assert_non_null(file);
	fprintf(file,
		"{\"ociVersion\": \"1.0.2\", \"root\": {\"path\": \"root\", "
		"\"readonly\": %s}, %s, \"mounts\": [{\"destination\": \"/b\", "
		"\"source\": \"root\", \"options\": [\"rbind\"]}], "
		"\"linux\": {%s}}",
		readonly ? "true" : "false", process, linux_part);
	assert_int_equal(fclose(file), 0);
	rootfs_close(&ctx->root);
	ctx->root = (struct rootfs){.hold = -1};
}

static int load(struct ctx *ctx, const char *options)
{
	char line[TEMPDIR_ROOM + 256];

	snprintf(line, sizeof(line), "%s --bundle %s", options, ctx->top);
	parse(ctx, line);
	return run_bundle_load(&ctx->spec, &ctx->opt, &ctx->root);
}

static void clear(struct ctx *ctx)
{
	run_options_done(&ctx->opt);
	ctx->opt = (struct run_options){0};
	spec_done(&ctx->spec);
}

/* Its root is written to, its network is none, its files of /etc stay. */
static void test_bundle(void **state)
{
	struct ctx *ctx = *state;
	const struct agent_config *agent = &ctx->machine.agent;

	write_bundle(ctx, PROCESS,
		     NAMESPACES ", \"resources\": {\"memory\": {\"limit\": "
				"67108864}, \"cpu\": {\"quota\": 200000, "
				"\"period\": 100000}}",
		     false);
	assert_int_equal(load(ctx, ""), 0);
	assert_int_equal(run_machine_make(&ctx->machine, &ctx->spec, &ctx->opt,
					  &ctx->root, &ctx->instance),
			 0);
	assert_int_equal(ctx->machine.cfg.memory_bytes, 64 * MIB);
	assert_int_equal(ctx->machine.cfg.cpus, 2);
	assert_string_equal(config_text(device(ctx, "fs", 0), "dir"),
			    ctx->bundle);
	assert_false(config_flag(device(ctx, "fs", 0), "readonly"));
	assert_string_equal(config_text(device(ctx, "tree", 0), "dir"),
			    ctx->bundle);
	assert_false(agent->root_overlay);
	/* A root without a /dev gets one, before what may be below it. */
	assert_int_equal(ctx->spec.nmounts, 3);
	assert_string_equal(ctx->spec.mounts[0].destination, "/dev");
	assert_string_equal(ctx->spec.mounts[1].destination, "/dev/pts");
	assert_string_equal(ctx->spec.mounts[2].destination, "/b");
	assert_true(agent->keep_etc);
	assert_null(agent->hostname);
	assert_string_equal(ctx->machine.network, "none");
	assert_int_equal(agent->pids_max, 0);
}

/* CPUs are whole ones; the container has the part of them that it may have. */
static void test_bundle_cpus(void **state)
{
	static const struct {
		const char *cpu;
		int result;
		unsigned cpus;
		uint64_t quota; /* in the guest */
	} cases[] = {
		{"\"quota\": 150000, \"period\": 100000", 0, 2, 150000},
		{"\"quota\": 25000, \"period\": 100000, \"shares\": 2", 0, 1,
		 25000},
		{"\"quota\": -1, \"period\": 100000", 0, 1, 0},
		{"\"quota\": 3200000", 0, 32, 0},
		{"\"quota\": 3200001", -ENOTSUP, 0, 0},
		{"\"quota\": 999", -ENOTSUP, 0, 0},
		{"\"quota\": 1000, \"period\": 999", -ENOTSUP, 0, 0},
		{"\"quota\": 1000000, \"period\": 1000001", -ENOTSUP, 0, 0},
		{"\"quota\": 9223372036854775807, \"period\": "
		 "9223372036854775807",
		 -ENOTSUP, 0, 0},
	};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		char text[256];

		snprintf(text, sizeof(text),
			 NAMESPACES ", \"resources\": {\"cpu\": {%s}}",
			 cases[i].cpu);
		write_bundle(ctx, PROCESS, text, false);
		assert_int_equal(load(ctx, ""), 0);
		assert_int_equal(run_machine_make(&ctx->machine, &ctx->spec,
						  &ctx->opt, &ctx->root,
						  &ctx->instance),
				 cases[i].result);
		if (cases[i].result == 0) {
			assert_int_equal(ctx->machine.cfg.cpus, cases[i].cpus);
			assert_int_equal(ctx->machine.agent.cpu_quota,
					 cases[i].quota);
		}
		run_machine_done(&ctx->machine);
		ctx->machine = (struct run_machine){.initrd_fd = -1};
		clear(ctx);
	}
}

/* Nothing is made in a root that the file makes read-only. */
static void test_bundle_readonly(void **state)
{
	struct ctx *ctx = *state;

	write_bundle(ctx, PROCESS, NAMESPACES, true);
	assert_int_equal(load(ctx, "--memory 96M"), 0);
	assert_int_equal(run_machine_make(&ctx->machine, &ctx->spec, &ctx->opt,
					  &ctx->root, &ctx->instance),
			 0);
	assert_int_equal(ctx->machine.cfg.memory_bytes, 96 * MIB);
	assert_true(config_flag(device(ctx, "fs", 0), "readonly"));
	assert_true(ctx->machine.agent.root_overlay);
	assert_true(ctx->machine.agent.root_readonly);
}

static void test_bundle_refused(void **state)
{
	static const struct {
		const char *options, *process, *linux_part;
		int result;
	} cases[] = {
		{"", PROCESS, NAMESPACES, 0},
		{"", PROCESS, "\"namespaces\": [{\"type\": \"pid\"}]",
		 -ENOTSUP},
		{"", "\"hooks\": {}", NAMESPACES, -EINVAL},
		{"", "\"hostname\": \"a b\", " PROCESS, NAMESPACES, -EINVAL},
		{"", "\"hostname\": \"\", " PROCESS, NAMESPACES, 0},
		{"-e A=b", PROCESS, NAMESPACES, -EINVAL},
		{"-v /tmp:/x", PROCESS, NAMESPACES, -EINVAL},
		{"--privileged", PROCESS, NAMESPACES, -EINVAL},
		{"--rootfs-write", PROCESS, NAMESPACES, -EINVAL},
		{"--security-opt no-new-privileges", PROCESS, NAMESPACES,
		 -EINVAL},
		{"--security-opt seccomp=unconfined", PROCESS, NAMESPACES, 0},
		{"--memory 64M", PROCESS,
		 NAMESPACES ", \"resources\": {\"memory\": {\"limit\": 1}}",
		 -EINVAL},
		{"--cpus 2", PROCESS,
		 NAMESPACES ", \"resources\": {\"cpu\": {\"quota\": 1}}",
		 -EINVAL},
		{"",
		 "\"process\": {\"args\": [\"x\"], \"cwd\": \"/\", "
		 "\"apparmorProfile\": \"p\"}",
		 NAMESPACES, -ENOTSUP},
		{"--security-opt apparmor=unconfined",
		 "\"process\": {\"args\": [\"x\"], \"cwd\": \"/\", "
		 "\"apparmorProfile\": \"p\"}",
		 NAMESPACES, 0},
	};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		write_bundle(ctx, cases[i].process, cases[i].linux_part, false);
		if (load(ctx, cases[i].options) != cases[i].result)
			fail_msg("%s: %s", cases[i].options, cases[i].process);
		clear(ctx);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_machine, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bind_of_one, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_devices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bundle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bundle_cpus, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_bundle_readonly, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_bundle_refused, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
