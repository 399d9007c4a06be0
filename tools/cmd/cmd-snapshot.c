/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead snapshot`: a machine's state becomes a directory, whole or not at
 * all. It is made under another name beside its place, brought to the disk, and
 * renamed.
 */
#include "tools/cmd/cmd.h"

#include "tools/cli/options.h"
#include "tools/cli/usage.h"
#include "tools/agent/agent.h"
#include "tools/container/pause.h"
#include "tools/container/vm-socket.h"
#include "tools/instance/instance.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/snapshot.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define AGENT_TIMEOUT_MS 10000

static const struct option_entry no_entries[] = {{0}};

static const struct option_table snapshot_table = {
	.command = "snapshot",
	.synopsis =
		"usage: bulkhead snapshot NAME|SOCKET DIR\n"
		"\n"
		"Saves an instance of `bulkhead run`, or a machine of "
		"`bulkhead boot --control\n"
		"SOCKET`, in the new directory DIR, from which `bulkhead "
		"restore DIR` starts\n"
		"others. It stands still meanwhile and then goes on. What its "
		"disks and volumes\n"
		"hold is not saved: a restored one needs them as they are "
		"now.\n",
	.entries = no_entries,
};

/* By a signal; it may come before the machine is waited for. */
static volatile sig_atomic_t told_to_end;

struct target {
	const char *path; /* where it is to be */
	char *made;       /* owned: what it is called until it is whole */
	int dir_fd;       /* owned */
	int files[2];     /* owned: state and memory */
};

static int make_target(struct target *t, const char *path)
{
	static const char *const names[] = {SNAPSHOT_STATE_FILE,
					    SNAPSHOT_MEMORY_FILE};
	size_t length = strlen(path);
	struct stat st;

	*t = (struct target){.path = path, .dir_fd = -1, .files = {-1, -1}};
	while (length > 1 && path[length - 1] == '/')
		length--;
	if (lstat(path, &st) == 0)
		return log_ret(-EEXIST,
			       "'%s': is there already: give a new name", path);
	if (asprintf(&t->made, "%.*s.XXXXXX", (int)length, path) < 0) {
		t->made = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	if (!mkdtemp(t->made)) {
		t->made[0] = '\0';
		return log_ret(-errno, "'%s': %s", path, strerror(errno));
	}
	t->dir_fd = open(t->made, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; t->dir_fd >= 0 && i < ARRAY_LEN(names); i++) {
		t->files[i] =
			openat(t->dir_fd, names[i],
			       O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (t->files[i] < 0)
			break;
	}
	return t->files[1] < 0
		       ? log_ret(-errno, "'%s': %s", t->made, strerror(errno))
		       : 0;
}

/* To the disk, and to its name. */
static int finish_target(struct target *t)
{
	if (fsync(t->files[0]) < 0 || fsync(t->files[1]) < 0 ||
	    fsync(t->dir_fd) < 0)
		return log_ret(-errno, "'%s': %s", t->made, strerror(errno));
	/* EINVAL: the file system has no such flag. */
	if (renameat2(AT_FDCWD, t->made, AT_FDCWD, t->path, RENAME_NOREPLACE) <
		    0 &&
	    (errno != EINVAL || rename(t->made, t->path) < 0))
		return log_ret(-errno, "'%s': %s", t->path, strerror(errno));
	t->made[0] = '\0';
	return 0;
}

/* Takes away what did not get its name. */
static void done_target(struct target *t)
{
	if (t->made && t->made[0]) {
		if (t->dir_fd >= 0) {
			(void)unlinkat(t->dir_fd, SNAPSHOT_STATE_FILE, 0);
			(void)unlinkat(t->dir_fd, SNAPSHOT_MEMORY_FILE, 0);
			(void)unlinkat(t->dir_fd, SNAPSHOT_INSTANCE_FILE, 0);
		}
		(void)rmdir(t->made);
	}
	free(t->made);
	util_close(&t->files[0]);
	util_close(&t->files[1]);
	util_close(&t->dir_fd);
}

/* NAME is for messages. */
static int save(const char *name, const char *socket_path, struct target *t,
		struct vm_saved *ret)
{
	uint8_t id[SNAPSHOT_ID_BYTES];
	struct vm_answer answer;
	int r;

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return log_ret(-errno, "getrandom: %s", strerror(errno));
	r = vm_socket_ask(socket_path, VM_REQUEST_SAVE, id, t->files, 0,
			  &answer);
	if (r < 0)
		return r;
	if (told_to_end)
		return log_ret(-EINTR, "'%s': told to end", t->path);
	if (answer.result < 0)
		return log_ret(answer.result, "'%s': %s", name,
			       answer.saved.why[0] ? answer.saved.why
			       : answer.result == -ESHUTDOWN ||
					       answer.result == -EINTR
				       ? "the machine is at its end"
				       : strerror(-answer.result));
	*ret = answer.saved;
	return 0;
}

static void tell(const struct target *t, const struct vm_saved *saved)
{
	printf("%s: %llu KiB of memory; the guest stood still for %llu ms\n",
	       t->path, (unsigned long long)saved->memory_bytes / 1024,
	       (unsigned long long)saved->stood_ns / 1000000);
}

static int save_machine(const char *path, struct target *t)
{
	struct vm_saved saved;
	int r = save(path, path, t, &saved);

	if (r == 0)
		r = finish_target(t);
	if (r == 0)
		tell(t, &saved);
	return r;
}

/* ---- an instance */

/* Refuses containers of which a part would be missing, by that part. */
static int check_instance(const struct instance *instance,
			  const struct instance_state *state)
{
	const char *runtime =
		json_string_value(json_object_get(state->run, "guest_runtime"));

	if (!state->run)
		return log_ret(-ENOTSUP,
			       "'%s': its state.json does not say how it was "
			       "started: by an older bulkhead, or with paths "
			       "that are not UTF-8",
			       instance->name);
	if (runtime && strcmp(runtime, "crun") == 0)
		return log_ret(-ENOTSUP,
			       "'%s': with --guest-runtime crun a container "
			       "cannot be saved",
			       instance->name);
	if (state->network && strcmp(state->network, "namespace") == 0)
		return log_ret(-ENOTSUP,
			       "'%s': with --network namespace a container "
			       "cannot be saved: the interfaces are another's",
			       instance->name);
	return 0;
}

/*
 * Its processes stand still before the machine does, and go on after it: those
 * of a machine that is restored wait for its new host (docs/AGENT).
 */
static int save_held(const struct instance *instance,
		     const struct instance_state *state,
		     struct agent_session *agent, struct target *t)
{
	struct vm_saved saved = {0};
	int r = agent_hold(agent, true);

	if (r < 0)
		return r;
	r = save(instance->name, instance->control, t, &saved);
	/* One that has ended says nothing more. */
	if (instance_is_alive(instance) && agent_hold(agent, false) < 0 &&
	    r == 0)
		r = -EIO;
	if (r == 0)
		r = instance_write_copy(t->dir_fd, t->made,
					SNAPSHOT_INSTANCE_FILE, instance,
					state);
	if (r == 0)
		r = finish_target(t);
	if (r == 0)
		tell(t, &saved);
	return r;
}

static int save_instance(const char *name, struct target *t)
{
	struct agent_session *agent = NULL;
	struct instance_state state;
	struct instance instance;
	int r = instance_open_running(name, &instance, &state);

	if (r < 0)
		return r;
	r = check_instance(&instance, &state);
	if (r == 0)
		r = agent_connect(instance.socket, AGENT_TIMEOUT_MS, &agent);
	if (r == 0)
		r = save_held(&instance, &state, agent, t);
	agent_free(agent);
	instance_state_done(&state);
	instance_done(&instance);
	return r;
}

static void end(int signal)
{
	(void)signal;
	told_to_end = 1;
}

/* They end what waits for the machine, and what was made is taken away. */
static void take_signals(void)
{
	static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	const struct sigaction action = {.sa_handler = end};

	for (unsigned i = 0; i < ARRAY_LEN(taken); i++)
		(void)sigaction(taken[i], &action, NULL);
}

int cmd_snapshot(int argc, char **argv)
{
	struct target target;
	char none;
	int n = options_parse(&snapshot_table, &none, argc, argv);
	int r;

	if (n < 0)
		return n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;
	if (argc - n != 2)
		return usage_error("snapshot",
				   "give an instance's name, or a machine's "
				   "socket, and a new directory");
	take_signals();
	r = make_target(&target, argv[n + 1]);
	if (r == 0)
		r = pause_is_path(argv[n]) ? save_machine(argv[n], &target)
					   : save_instance(argv[n], &target);
	done_target(&target);
	return r < 0 ? 1 : VM_EXIT_OK;
}
