/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How `bulkhead run` turns its options and an image's configuration into a
 * container: the command, the shares, the network; and the initial RAM disk.
 */
#include "tools/cli/env.h"
#include "tools/guest/initrd.h"
#include "tools/container/oci-config.h"
#include "tools/container/run.h"
#include "vmm/base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

static char *none[] = {NULL};
static const struct rootfs_config silent = {
	.entrypoint = none,
	.cmd = none,
	.env = none,
	.ports = none,
	.volumes = none,
};

struct ctx {
	struct run_options opt;
	struct spec spec;
	struct run_machine machine;
};

static int setup(void **state)
{
	struct ctx *ctx = calloc(1, sizeof(*ctx));

	log_setup(LOG_ERROR, false);
	ctx->machine.initrd_fd = -1;
	config_init(&ctx->machine.cfg);
	*state = ctx;
	return 0;
}

static void clear(struct ctx *ctx)
{
	run_options_done(&ctx->opt);
	spec_done(&ctx->spec);
	run_machine_done(&ctx->machine);
	memset(ctx, 0, sizeof(*ctx));
	ctx->machine.initrd_fd = -1;
	config_init(&ctx->machine.cfg);
}

static int teardown(void **state)
{
	clear(*state);
	free(*state);
	return 0;
}

/* "-e A=1 root cmd" as a command line. */
static int parse(struct ctx *ctx, const char *line)
{
	static char copy[512];
	static char *argv[64];
	char *rest = NULL;
	int n = 0;

	snprintf(copy, sizeof(copy), "run %s", line);
	for (char *word = strtok_r(copy, " ", &rest); word;
	     word = strtok_r(NULL, " ", &rest))
		argv[n++] = word;
	argv[n] = NULL;
	return run_options_parse(&ctx->opt, n, argv);
}

/* The command that results: its arguments with spaces between. */
static void expect_argv(struct ctx *ctx, const char *line,
			const struct rootfs_config *image, const char *expected)
{
	char *joined;

	assert_int_equal(parse(ctx, line), 0);
	assert_int_equal(run_process_make(&ctx->spec.process, &ctx->opt, image),
			 0);
	joined = text_list_join(&ctx->spec.process.args, " ");
	assert_string_equal(joined, expected);
	free(joined);
	clear(ctx);
}

static void test_argv(void **state)
{
	char entry[] = "/entry", first[] = "first", cmd[] = "cmd";
	char *entrypoint[] = {entry, first, NULL}, *cmds[] = {cmd, NULL};
	struct rootfs_config image = silent;
	struct ctx *ctx = *state;

	image.cmd = cmds;
	expect_argv(ctx, "root", &image, "cmd");
	expect_argv(ctx, "root x y", &image, "x y");
	expect_argv(ctx, "root -- x -y", &image, "x -y");
	expect_argv(ctx, "root x -- y", &image, "x -- y");
	image.entrypoint = entrypoint;
	expect_argv(ctx, "root", &image, "/entry first cmd");
	expect_argv(ctx, "root x", &image, "/entry first x");
	expect_argv(ctx, "--entrypoint e root", &image, "e");
	expect_argv(ctx, "--entrypoint e root x", &image, "e x");
	expect_argv(ctx, "--entrypoint= root x", &image, "x");
	assert_int_equal(parse(ctx, "root"), 0);
	assert_int_equal(
		run_process_make(&ctx->spec.process, &ctx->opt, &silent),
		-EINVAL);
}

static void test_env(void **state)
{
	char a[] = "A=image", b[] = "B=image", *env[] = {a, b, NULL};
	struct rootfs_config image = silent;
	struct ctx *ctx = *state;
	char *joined;

	image.env = env;
	setenv("TEST_RUN_HERE", "here", 1);
	unsetenv("TEST_RUN_NOT");
	assert_int_equal(parse(ctx, "-e A=1 -e TEST_RUN_HERE -e "
				    "TEST_RUN_NOT -e AB=2 -e A=3 root x"),
			 0);
	assert_int_equal(
		run_process_make(&ctx->spec.process, &ctx->opt, &image), 0);
	joined = text_list_join(&ctx->spec.process.env, " ");
	assert_string_equal(joined, "A=3 B=image TEST_RUN_HERE=here AB=2");
	free(joined);
	clear(ctx);
	assert_int_equal(parse(ctx, "-e =x root x"), 0);
	assert_int_equal(
		run_process_make(&ctx->spec.process, &ctx->opt, &image),
		-EINVAL);
}

/* Reads BYTES as --env-file does: 0 or -errno; all it set in *RET. */
static int read_env(const char *bytes, size_t n, char **ret)
{
	struct text_list env = {0};
	int fd = memfd_create("env", MFD_CLOEXEC);
	char path[32];
	int r;

	assert_int_equal(write(fd, bytes, n), n);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = env_set_file(&env, path);
	*ret = text_list_join(&env, "|");
	text_list_done(&env);
	close(fd);
	return r;
}

static void test_env_file(void **state)
{
	static const struct {
		const char *bytes, *result;
	} good[] = {
		{"", ""},
		{"A=1\nB=two words\n", "A=1|B=two words"},
		{"PLAIN=v\nCR=v\r\nQ=\"a  b\"\n# comment\n\r\n",
		 "PLAIN=v|CR=v|Q=\"a  b\""},
		{"\xef\xbb\xbf"
		 "B=bom\n",
		 "B=bom"},
		{"\xef\xbb\xbf# comment\nA=1", "A=1"},
		{" \t A=1 \n", "A=1 "},
		{"A=\nA==\nB=x=y#z", "A==|B=x=y#z"},
		{"TEST_RUN_HERE\nTEST_RUN_NOT\n", "TEST_RUN_HERE=here"},
		{"export=1", "export=1"},
	};
	static const char *const bad[] = {
		"export X=1\n",
		"export X\n",
		"noeq with space\n",
		"A B=1",
		"A\t=1",
		"A =1",
		"=1",
		"A=1\n  =2\n",
		"A=\xff\n",
		"A=1\n\xef\xbb",
	};
	char *set;

	(void)state;
	setenv("TEST_RUN_HERE", "here", 1);
	unsetenv("TEST_RUN_NOT");
	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(
			read_env(good[i].bytes, strlen(good[i].bytes), &set),
			0);
		assert_string_equal(set, good[i].result);
		free(set);
	}
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(read_env(bad[i], strlen(bad[i]), &set),
				 -EINVAL);
		free(set);
	}
	assert_int_equal(read_env("A=1\0B=2\n", 8, &set), -EINVAL);
	free(set);
}

static void expect_caps(struct ctx *ctx, const char *line, uint64_t caps)
{
	assert_int_equal(parse(ctx, line), 0);
	assert_int_equal(
		run_process_make(&ctx->spec.process, &ctx->opt, &silent), 0);
	assert_true(ctx->spec.process.capabilities.bounding == caps);
	clear(ctx);
}

static void test_caps(void **state)
{
	const uint64_t usual = 0xa80425fb;
	struct ctx *ctx = *state;

	expect_caps(ctx, "r x", usual);
	expect_caps(ctx, "--cap-drop CHOWN r x", usual & ~UINT64_C(1));
	expect_caps(ctx, "--cap-add net_admin r x", usual | 1 << 12);
	expect_caps(ctx, "--cap-add CAP_CHOWN --cap-drop all r x", 1);
	expect_caps(ctx, "--cap-add ALL --cap-drop CHOWN r x",
		    (UINT64_C(1) << 41) - 2);
	expect_caps(ctx, "--privileged r x", (UINT64_C(1) << 41) - 1);
	assert_int_equal(parse(ctx, "--cap-drop NO r x"), 0);
	assert_int_equal(
		run_process_make(&ctx->spec.process, &ctx->opt, &silent),
		-EINVAL);
}

static void test_process(void **state)
{
	struct rootfs_config image = silent;
	char workdir[] = "/image", user[] = "u", stop[] = "SIGQUIT";
	struct ctx *ctx = *state;
	const struct spec_process *p = &ctx->spec.process;

	image.workdir = workdir;
	image.user = user;
	image.stop_signal = stop;
	assert_int_equal(parse(ctx, "-itd --ulimit nofile=1:2 --ulimit core=-1 "
				    "--security-opt no-new-privileges r x"),
			 0);
	assert_int_equal(
		run_process_make(&ctx->spec.process, &ctx->opt, &image), 0);
	assert_true(p->terminal && p->no_new_privileges);
	assert_string_equal(p->cwd, "/image");
	assert_string_equal(p->user.username, "u");
	assert_int_equal(run_stop_signal(&ctx->opt, &image), SIGQUIT);
	assert_int_equal(p->nrlimits, 2);
	assert_int_equal(p->rlimits[0].type, RLIMIT_NOFILE);
	assert_int_equal(p->rlimits[0].hard, 2);
	assert_true(p->rlimits[1].soft == RLIM_INFINITY);
	clear(ctx);
	assert_int_equal(parse(ctx, "-w /w -u 5:6 --stop-signal 9 r x"), 0);
	assert_int_equal(
		run_process_make(&ctx->spec.process, &ctx->opt, &image), 0);
	assert_string_equal(p->cwd, "/w");
	assert_string_equal(p->user.username, "5:6");
	assert_int_equal(run_stop_signal(&ctx->opt, &image), 9);
	clear(ctx);
	assert_int_equal(parse(ctx, "--stop-signal NO r x"), 0);
	assert_int_equal(run_stop_signal(&ctx->opt, &image), -EINVAL);
}

static void test_process_refused(void **state)
{
	static const char *const lines[] = {
		"-w relative r x",
		"--ulimit nofile r x",
		"--ulimit nothing=1 r x",
		"--ulimit nofile=2:1 r x",
		"--ulimit nofile=x r x",
		"--security-opt label=disable r x",
		"--env-file /nonexistent r x",
	};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
		assert_int_equal(parse(ctx, lines[i]), 0);
		assert_true(run_process_make(&ctx->spec.process, &ctx->opt,
					     &silent) < 0);
		clear(ctx);
	}
}

static void test_options_refused(void **state)
{
	static const char *const lines[] = {
		"",          "--nothing r", "-m",        "--rm=maybe r",
		"--network", "-x r",        "--pid 9 r", "--mem 64M r",
		"--rea r", /* no abbreviations */
	};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
		assert_int_equal(parse(ctx, lines[i]), OPTIONS_ERROR);
		clear(ctx);
	}
	assert_int_equal(parse(ctx, "--rm=false -it r --rm -x"), 0);
	assert_false(ctx->opt.remove);
	assert_true(ctx->opt.tty && ctx->opt.interactive);
	assert_string_equal(ctx->opt.args[0], "--rm");
}

/* As mounts of a container, then as those of its machine. */
static int make_mounts(struct ctx *ctx)
{
	int r = run_mounts_make(&ctx->spec, &ctx->opt);

	return r < 0 ? r : run_shares_make(&ctx->machine, &ctx->spec);
}

/* The Nth directory or file that is shared, and the device it is in. */
static const struct config_device *tree(const struct ctx *ctx, unsigned n)
{
	const struct config *cfg = &ctx->machine.cfg;

	for (unsigned i = 0; i < cfg->ndevices; i++) {
		if (strcmp(cfg->device[i].type, "tree") == 0 && n-- == 0)
			return &cfg->device[i];
	}
	fail_msg("not so many trees");
	return NULL;
}

static const struct config_device *share_of(const struct ctx *ctx, unsigned n)
{
	const struct config *cfg = &ctx->machine.cfg;
	const char *tag = config_text(tree(ctx, n), "share");

	for (unsigned i = 0; i < cfg->ndevices; i++) {
		if (strcmp(cfg->device[i].type, "fs") == 0 &&
		    strcmp(config_text(&cfg->device[i], "tag"), tag) == 0)
			return &cfg->device[i];
	}
	fail_msg("no share '%s'", tag);
	return NULL;
}

static void test_mounts(void **state)
{
	struct ctx *ctx = *state;
	struct agent_config *agent = &ctx->machine.agent;
	const struct agent_mount *m;

	assert_int_equal(parse(ctx, "-v /tmp:/a/b:readonly,z -v /:/c --tmpfs "
				    "/t:size=1m,mode=700,exec --tmpfs /u r x"),
			 0);
	assert_int_equal(make_mounts(ctx), 0);
	m = agent->mounts;
	assert_int_equal(agent->nmounts, 4);
	/* Locks of one are the host's, of the other the guest's: two devices.
	 */
	assert_int_equal(ctx->machine.cfg.ndevices, 4);
	assert_string_equal(m[3].target, "/a/b");
	assert_string_equal(m[3].tag, config_text(tree(ctx, 1), "share"));
	assert_true(config_flag(tree(ctx, 1), "readonly"));
	assert_string_equal(m[3].options, "ro");
	assert_string_equal(ctx->spec.mounts[3].source, "/tmp");
	assert_false(config_flag(tree(ctx, 0), "readonly"));
	/* Outer ones first. */
	assert_string_equal(m[0].target, "/c");
	assert_string_equal(m[0].tag, config_text(tree(ctx, 0), "share"));
	assert_string_equal(m[0].subpath, config_text(tree(ctx, 0), "name"));
	assert_null(m[1].tag);
	assert_string_equal(m[1].type, "tmpfs");
	assert_string_equal(m[1].options,
			    "nosuid,nodev,exec,rw,size=1m,mode=700");
	assert_string_equal(m[2].options, "nosuid,nodev,noexec,rw");
}

static void test_mount_words(void **state)
{
	struct ctx *ctx = *state;
	const struct agent_mount *m;

	assert_int_equal(
		parse(ctx, "--mount type=bind,source=/tmp,target=/a,readonly "
			   "--mount dst=/b,tmpfs-size=1m,type=tmpfs,"
			   "tmpfs-mode=700 --mount type=bind,src=/tmp,"
			   "destination=/c,ro=false r x"),
		0);
	assert_int_equal(make_mounts(ctx), 0);
	m = ctx->machine.mounts;
	assert_int_equal(ctx->machine.agent.nmounts, 3);
	assert_string_equal(config_text(tree(ctx, 0), "dir"), "/tmp");
	assert_true(config_flag(tree(ctx, 0), "readonly"));
	assert_string_equal(m[0].target, "/a");
	assert_null(m[1].tag);
	assert_string_equal(m[1].options,
			    "nosuid,nodev,noexec,rw,size=1m,mode=700");
	assert_string_equal(m[2].target, "/c");
	assert_string_equal(m[2].options, "rw");
}

/* How long the guest believes what it read, as the share's key has it. */
static void test_mount_cache(void **state)
{
	static const char *const expected[] = {
		"never", "always", "auto", "never", "auto", "never",
	};
	struct ctx *ctx = *state;

	assert_int_equal(parse(ctx,
			       "-v /tmp:/a:shared -v /tmp:/b:ro,cache=always "
			       "-v /tmp:/c:rw -v /tmp:/d:cache=never,z --mount "
			       "type=bind,src=/tmp,dst=/e,cache=auto --mount "
			       "type=bind,shared,src=/tmp,dst=/f r x"),
			 0);
	assert_int_equal(make_mounts(ctx), 0);
	/* Those with the same words are in one device. */
	assert_int_equal(ctx->machine.cfg.ndevices, 3 + ARRAY_LEN(expected));
	for (unsigned i = 0; i < ARRAY_LEN(expected); i++) {
		const struct config_device *share = share_of(ctx, i);

		assert_string_equal(config_text(share, "cache"), expected[i]);
		assert_int_equal(config_flag(tree(ctx, i), "readonly"), i == 1);
	}
	/* The state keeps enough to make the same machine again. */
	assert_string_equal(ctx->spec.mounts[1].options.item[3],
			    "x-bulkhead.cache=always");
}

/* A file is shared and mounted alone, without its directory. */
static void test_mount_file(void **state)
{
	struct ctx *ctx = *state;

	assert_int_equal(parse(ctx, "-v /etc/passwd:/p:ro r x"), 0);
	assert_int_equal(make_mounts(ctx), 0);
	assert_string_equal(config_text(tree(ctx, 0), "dir"), "/etc");
	assert_string_equal(config_text(tree(ctx, 0), "only"), "passwd");
	assert_true(config_flag(tree(ctx, 0), "readonly"));
	assert_string_equal(ctx->machine.mounts[0].subpath, "0");
	assert_string_equal(ctx->machine.mounts[0].target, "/p");
}

static void test_mount_locks(void **state)
{
	struct ctx *ctx = *state;

	assert_int_equal(parse(ctx, "-v /tmp:/a:locks=host,ro -v /tmp:/b "
				    "--mount type=bind,src=/tmp,dst=/c,"
				    "locks=guest r x"),
			 0);
	assert_int_equal(make_mounts(ctx), 0);
	assert_string_equal(config_text(share_of(ctx, 0), "locks"), "host");
	assert_true(config_flag(tree(ctx, 0), "readonly"));
	/* "auto", in words: the same device as the first. */
	assert_ptr_equal(share_of(ctx, 1), share_of(ctx, 0));
	assert_string_equal(config_text(share_of(ctx, 2), "locks"), "guest");
}

static void test_mounts_refused(void **state)
{
	static const char *const lines[] = {
		"-v na~me:/x r x",
		"-v /tmp r x",
		"--mount dst=/x r x",
		"--mount type=bind,src=/tmp r x",
		"--mount type=tmpfs r x",
		"--mount type=x,src=/,dst=/x r x",
		"--mount odd=1 r x",
		"--mount src r x",
		"-v /tmp:relative r x",
		"-v /tmp:/ r x",
		"-v /nonexistent:/x r x",
		"-v /dev/null:/x r x",
		"-v /tmp:/x:rx r x",
		"-v /tmp:/x:locks=ours r x",
		"-v /tmp:/x:locks= r x",
		"--mount type=bind,src=/tmp,dst=/x,locks=no r x",
		"-v /tmp:/x:cache=sometimes r x",
		"-v /tmp:/x:cache= r x",
		"--mount type=bind,src=/tmp,dst=/x,cache=no r x",
		"--mount type=bind,src=/tmp,dst=/x,cache r x",
		"--tmpfs relative r x",
		"--tmpfs /x:suid r x",
		"--tmpfs /x:odd=1 r x",
		"--tmpfs /x:size=zz r x",
		"--tmpfs /x:mode=8 r x",
		"--tmpfs /x:size= r x",
		"--tmpfs /x:uid=1k r x",
		"--mount type=tmpfs,dst=/x,tmpfs-size=1q r x",
	};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
		assert_int_equal(parse(ctx, lines[i]), 0);
		assert_true(make_mounts(ctx) < 0);
		clear(ctx);
	}
}

static void test_network(void **state)
{
	struct ctx *ctx = *state;
	const struct agent_link *link = &ctx->machine.link;
	const struct config_device *net = &ctx->machine.cfg.device[0];

	assert_int_equal(parse(ctx, "--network none r x"), 0);
	assert_int_equal(run_network_make(&ctx->machine, &ctx->opt), 0);
	assert_int_equal(ctx->machine.cfg.ndevices, 0);
	assert_int_equal(ctx->machine.agent.nlinks, 0);
	clear(ctx);
	assert_int_equal(parse(ctx, "--net tap=t0,address=10.0.0.2/24,gateway="
				    "10.0.0.1,mac=02:00:00:00:00:01 --dns "
				    "1.2.3.4 r x"),
			 0);
	assert_int_equal(run_network_make(&ctx->machine, &ctx->opt), 0);
	assert_string_equal(config_text(net, "tap"), "t0");
	assert_string_equal(config_text(net, "mac"), "02:00:00:00:00:01");
	assert_string_equal(link->addresses[0], "10.0.0.2/24");
	assert_null(link->addresses[1]);
	assert_string_equal(link->gateways[0], "10.0.0.1");
	assert_string_equal(ctx->machine.agent.dns[0], "1.2.3.4");
	clear(ctx);
	assert_int_equal(parse(ctx, "-p 8080:80 -p 127.0.0.1:53:53/udp r x"),
			 0);
	assert_int_equal(run_network_make(&ctx->machine, &ctx->opt), 0);
	assert_string_equal(ctx->machine.ports,
			    "*:8080->80/tcp, 127.0.0.1:53->53/udp");
	assert_non_null(link->addresses[0]);
	assert_non_null(ctx->machine.agent.dns[0]);
}

static void test_network_refused(void **state)
{
	static const char *const lines[] = {
		"--network host r x",
		"--network none -p 1:2 r x",
		"--network tap=t,ip=1 r x",
		"--network tap=t -p 1:2 r x",
		"-p x r x",
		"-p 1:2,3:4 r x",
		"--dns nowhere r x",
	};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
		assert_int_equal(parse(ctx, lines[i]), 0);
		assert_true(run_network_make(&ctx->machine, &ctx->opt) < 0);
		clear(ctx);
	}
}

/* Names and contents at multiples of 4, and the mark of the end. */
static void test_initrd(void **state)
{
	char data[512] = {0};
	const struct initrd_files no_files = {0};
	int fd = initrd_make("hello", 5, &no_files);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, data, sizeof(data), 0),
			 (110 + 6) + (5 + 3) + (110 + 11 + 3));
	assert_memory_equal(data, "070701", 6);
	assert_memory_equal(data + 6 + 8, "000081ED", 2);
	assert_memory_equal(data + 6 + 6 * 8, "00000005", 8);
	assert_string_equal(data + 110, "init");
	assert_memory_equal(data + 116, "hello\0\0\0", 8);
	assert_memory_equal(data + 124, "070701", 6);
	assert_string_equal(data + 124 + 110, "TRAILER!!!");
	close(fd);
}

/* More files, with their directories in front. */
static void test_initrd_more(void **state)
{
	struct initrd_files more = {0};
	char data[1024] = {0};
	int fd;

	(void)state;
	assert_int_equal(initrd_add_data(&more, "a/b", "hello", 5), 0);
	fd = initrd_make("init", 4, &more);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, data, sizeof(data), 0),
			 (116 + 4) + (110 + 2) + (110 + 4 + 2 + 5 + 3) + 124);
	assert_memory_equal(data + 120 + 6 + 8, "000041ed", 8);
	assert_string_equal(data + 120 + 110, "a");
	assert_string_equal(data + 232 + 110, "a/b");
	assert_memory_equal(data + 232 + 116, "hello\0\0\0", 8);
	close(fd);
	initrd_files_done(&more);
}

static json_t *mount_of(json_t *config, const char *target)
{
	json_t *mount;
	size_t i;

	json_array_foreach(json_object_get(config, "mounts"), i, mount) {
		json_t *at = json_object_get(mount, "destination");

		if (strcmp(json_string_value(at), target) == 0)
			return mount;
	}
	return NULL;
}

static bool has_option(json_t *mount, const char *option)
{
	json_t *value;
	size_t i;

	json_array_foreach(json_object_get(mount, "options"), i, value) {
		if (strcmp(json_string_value(value), option) == 0)
			return true;
	}
	return false;
}

static void make_spec(struct ctx *ctx, const char *line)
{
	char path[] = "/root";
	const struct rootfs root = {.path = path, .config = silent};

	assert_int_equal(parse(ctx, line), 0);
	assert_int_equal(run_spec_make(&ctx->spec, &ctx->opt, &root), 0);
}

static const struct spec_mount *spec_mount(const struct ctx *ctx,
					   const char *destination)
{
	for (size_t i = 0; i < ctx->spec.nmounts; i++)
		if (strcmp(ctx->spec.mounts[i].destination, destination) == 0)
			return &ctx->spec.mounts[i];
	return NULL;
}

static bool has_word(const struct spec_mount *mount, const char *word)
{
	for (unsigned i = 0; i < mount->options.count; i++)
		if (strcmp(mount->options.item[i], word) == 0)
			return true;
	return false;
}

/* Options as parts of the container. */
static void test_spec(void **state)
{
	static const struct {
		const char *text;
		unsigned quota;
	} cpus[] = {
		{"1.5", 150000},   {"0.01", 1000},    {".5", 50000},
		{"2.125", 212500}, {"32.0", 3200000}, {"010", 1000000},
	};
	struct ctx *ctx = *state;
	const struct spec_linux *l = &ctx->spec.linux_part;

	make_spec(ctx, "--memory 64m --cpus 2 --read-only --shm-size 1m "
		       "--sysctl net.ipv4.ping_group_range=1 r x");
	assert_true(ctx->spec.has_process && ctx->spec.root_readonly);
	assert_null(ctx->spec.hostname);
	assert_int_equal(l->memory_limit, 64 << 20);
	assert_int_equal(l->cpu_quota, 200000);
	assert_int_equal(l->pids_limit, 128);
	assert_int_equal(l->sysctl.count, 2);
	assert_string_equal(l->sysctl.item[1], "net.ipv4.ping_group_range=1");
	assert_true(l->masked_paths.count > 0 && l->readonly_paths.count > 0);
	assert_true(l->nrules == 1 && !l->rules[0].allow);
	assert_true(has_word(spec_mount(ctx, "/dev/shm"), "size=1048576"));
	assert_true(has_word(spec_mount(ctx, "/sys"), "ro"));
	clear(ctx);
	make_spec(ctx, "--privileged --hostname box r x");
	assert_string_equal(ctx->spec.hostname, "box");
	assert_int_equal(l->memory_limit, 512 << 20);
	assert_int_equal(l->cpu_quota, 100000);
	for (unsigned i = 0; i < ARRAY_LEN(cpus); i++) {
		char line[32];

		clear(ctx);
		snprintf(line, sizeof(line), "--cpus %s r x", cpus[i].text);
		make_spec(ctx, line);
		assert_int_equal(l->cpu_quota, cpus[i].quota);
		assert_int_equal(l->cpu_period, 100000);
	}
	clear(ctx);
	make_spec(ctx, "--privileged --hostname box r x");
	assert_int_equal(l->masked_paths.count + l->readonly_paths.count, 0);
	assert_true(l->nrules == 1 && l->rules[0].allow);
	assert_false(has_word(spec_mount(ctx, "/sys"), "ro"));
}

static void test_spec_refused(void **state)
{
	static const char *const lines[] = {
		"--memory x r x",       "--memory 0 r x",
		"--cpus 0 r x",         "--cpus 1.2345 r x",
		"--cpus 33 r x",        "--pids-limit x r x",
		"--cpus 0.009 r x",     "--cpus 1. r x",
		"--cpus . r x",         "--cpus -1.5 r x",
		"--cpus 1.5x r x",      "--cpus 32.001 r x",
		"--cpus 1.-5 r x",      "--hostname -x r x",
		"--sysctl x r x",       "--sysctl =x r x",
		"--shm-size large r x",
	};
	char path[] = "/root";
	const struct rootfs root = {.path = path, .config = silent};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
		assert_int_equal(parse(ctx, lines[i]), 0);
		assert_true(run_spec_make(&ctx->spec, &ctx->opt, &root) < 0);
		clear(ctx);
	}
}

/* A mount with one option, as a file may have it. */
static int make_mount(struct ctx *ctx, const char *type, const char *source,
		      const char *options)
{
	int r = spec_add_mount(&ctx->spec, "/x", type, source, options);

	assert_int_equal(r, 0);
	return run_shares_make(&ctx->machine, &ctx->spec);
}

/* Words of OCI's: those that say nothing here, and all the others. */
static void test_mount_options(void **state)
{
	static const struct {
		const char *type, *source, *options, *left;
	} good[] = {
		{"bind", "/tmp", "rbind,rprivate,rro,nosuid", "ro,nosuid"},
		{"none", "/tmp", "bind,defaults,rslave,noexec,nosymfollow",
		 "noexec,nosymfollow"},
		{"proc", "proc", "nosuid,hidepid=2", "nosuid,hidepid=2"},
		{"tmpfs", "shm", "rprivate,mode=1777,size=65536k",
		 "mode=1777,size=65536k"},
		{"tmpfs", "t", "rprivate,tmpcopyup", "tmpcopyup"},
		{"cgroup", "cgroup", "relatime,ro", "relatime,ro"},
	};
	static const struct {
		const char *type, *source, *options;
	} bad[] = {
		{"bind", "/tmp", "rshared"},      {"bind", "/tmp", "size=1m"},
		{"bind", "/tmp", "idmap"},        {"bind", "/tmp", "tmpcopyup"},
		{"proc", "proc", "tmpcopyup"},    {"nfs", "host:/x", "ro"},
		{"bind", "relative", "ro"},       {"bind", "/dev/null", "bind"},
		{"bind", "/nonexistent", "bind"}, {NULL, "x", "ro"},
	};
	struct ctx *ctx = *state;

	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(make_mount(ctx, good[i].type, good[i].source,
					    good[i].options),
				 0);
		assert_string_equal(ctx->machine.mounts[0].options,
				    good[i].left);
		clear(ctx);
	}
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(make_mount(ctx, bad[i].type, bad[i].source,
				       bad[i].options) < 0);
		clear(ctx);
	}
}

static void test_oci(void **state)
{
	struct ctx *ctx = *state;
	json_t *config, *mount;
	char *text, *large;

	make_spec(ctx, "--hostname box --tmpfs /a/t:size=1m -v /tmp:/a:ro "
		       "-v /etc/passwd:/f --sysctl kernel.shmmax=1 "
		       "--cpus 0.5 r x");
	ctx->spec.linux_part.seccomp = json_pack("{si}", "value", -1);
	assert_int_equal(run_shares_make(&ctx->machine, &ctx->spec), 0);
	text = oci_config_make(&ctx->spec, ctx->machine.mounts, true);
	assert_non_null(text);
	/* As the agent wants it, to put "process" in. */
	assert_memory_equal(text, "{\"", 2);
	/* This test has no reader of 64 bits without a sign. */
	large = strstr(text, "\"value\":18446744073709551615");
	assert_non_null(large);
	memset(large + 9, ' ', 19);
	config = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(config);
	assert_null(json_object_get(config, "process"));
	mount = mount_of(config, "/a");
	assert_true(has_option(mount, "ro"));
	assert_string_equal(json_string_value(json_object_get(mount, "source")),
			    "/volume7/0");
	mount = mount_of(config, "/f");
	assert_true(has_option(mount, "rw"));
	assert_string_equal(json_string_value(json_object_get(mount, "source")),
			    "/volume8/1");
	mount = mount_of(config, "/a/t");
	assert_true(has_option(mount, "size=1m"));
	assert_true(has_option(mount, "noexec"));
	assert_true(has_option(mount_of(config, "/sys"), "ro"));
	assert_non_null(mount_of(config, "/dev/bulkhead-init"));
	mount = json_object_get(json_object_get(config, "linux"), "sysctl");
	assert_int_equal(json_object_size(mount), 1);
	mount = json_object_get(json_object_get(config, "linux"), "seccomp");
	assert_true(json_is_object(mount));
	mount = json_object_get(json_object_get(config, "linux"), "resources");
	assert_null(json_object_get(mount, "memory"));
	mount = json_object_get(mount, "cpu");
	assert_int_equal(json_integer_value(json_object_get(mount, "quota")),
			 50000);
	mount = json_object_get(json_object_get(config, "linux"), "resources");
	assert_non_null(json_object_get(mount, "pids"));
	json_decref(config);
	free(text);
}

/* Nothing is left out silently. */
static void test_oci_refused(void **state)
{
	struct ctx *ctx = *state;

	assert_int_equal(make_mount(ctx, "tmpfs", "t", "ro"), 0);
	assert_int_equal(spec_set_text(&ctx->spec.hostname, "\xff"), 0);
	assert_null(oci_config_make(&ctx->spec, ctx->machine.mounts, false));
}

/* `start` reads all that `run` was told. */
static void test_again(void **state)
{
	const char *ports[] = {"8080:80", "81"}, *dns[] = {"10.0.0.1"};
	const struct run_options opt = {
		.interactive = true,
		.network = "user",
		.root = "name",
		.append = "quiet",
		.publish = {ports, 2},
		.dns = {dns, 1},
	};
	const struct rootfs image = {.path = (char *)"/store/1",
				     .digest = (char *)"sha256:1"};
	const struct rootfs directory = {.path = (char *)"/root"};
	const struct rootfs odd = {.path = (char *)"/b\xe4r"};
	struct run_options again = {0};
	json_t *json = run_again_json(&opt, &image);

	(void)state;
	assert_int_equal(run_again_options(json, &again), 0);
	assert_true(again.interactive);
	assert_false(again.init);
	assert_string_equal(again.root, "sha256:1");
	assert_string_equal(again.append, "quiet");
	assert_null(again.kernel);
	assert_int_equal(again.publish.count, 2);
	assert_string_equal(again.publish.item[1], "81");
	assert_string_equal(again.dns.item[0], "10.0.0.1");
	run_options_done(&again);
	json_decref(json);
	json = run_again_json(&opt, &directory);
	again = (struct run_options){0};
	assert_int_equal(run_again_options(json, &again), 0);
	assert_string_equal(again.root, "/root");
	run_options_done(&again);
	json_object_del(json, "root");
	again = (struct run_options){0};
	assert_int_equal(run_again_options(json, &again), -EINVAL);
	run_options_done(&again);
	json_decref(json);
	/* JSON cannot hold these bytes: the options are not kept. */
	assert_null(run_again_json(&opt, &odd));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_argv, setup, teardown),
		cmocka_unit_test_setup_teardown(test_env, setup, teardown),
		cmocka_unit_test(test_env_file),
		cmocka_unit_test_setup_teardown(test_caps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_process, setup, teardown),
		cmocka_unit_test_setup_teardown(test_process_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_options_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_mounts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mount_words, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_mount_cache, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_mount_file, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_mount_locks, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_mounts_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_network, setup, teardown),
		cmocka_unit_test_setup_teardown(test_network_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_initrd, setup, teardown),
		cmocka_unit_test(test_initrd_more),
		cmocka_unit_test(test_again),
		cmocka_unit_test_setup_teardown(test_spec, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spec_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_mount_options, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_oci, setup, teardown),
		cmocka_unit_test_setup_teardown(test_oci_refused, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
