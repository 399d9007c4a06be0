/* SPDX-License-Identifier: Apache-2.0 */
/* A running machine's state and memory, in files that the caller has opened. */
#include "tools/cmd/save.h"

#include "tools/agent/agent.h"
#include "tools/container/vm-socket.h"
#include "tools/instance/instance.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/snapshot.h"
#include "vmm/vm.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>

#define AGENT_TIMEOUT_MS 10000

/* By a signal; it may come before the machine is waited for. */
static volatile sig_atomic_t told_to_end;

static void end(int signal)
{
	(void)signal;
	told_to_end = 1;
}

static const int taken[SAVE_SIGNALS] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

void save_take_signals(struct sigaction before[SAVE_SIGNALS])
{
	const struct sigaction action = {.sa_handler = end};

	for (unsigned i = 0; i < SAVE_SIGNALS; i++)
		(void)sigaction(taken[i], &action, &before[i]);
}

void save_release_signals(const struct sigaction before[SAVE_SIGNALS])
{
	for (unsigned i = 0; i < SAVE_SIGNALS; i++)
		(void)sigaction(taken[i], &before[i], NULL);
}

bool save_is_told_to_end(void *arg)
{
	(void)arg;
	return told_to_end;
}

int save_check(const struct instance *instance,
	       const struct instance_state *state, const char *done)
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
			       "cannot be %s",
			       instance->name, done);
	if (state->network && strcmp(state->network, "namespace") == 0)
		return log_ret(-ENOTSUP,
			       "'%s': with --network namespace a container "
			       "cannot be %s: the interfaces are another's",
			       instance->name, done);
	return 0;
}

/* GOES_ON is called with ARG once the machine goes on, with HOW->live. */
static int save_files(const char *name, const char *path, const int files[2],
		      const struct save_how *how, void (*goes_on)(void *arg),
		      void *arg, struct vm_saved *ret)
{
	uint8_t id[SNAPSHOT_ID_BYTES];
	const struct vm_socket_target to = {
		.id = id,
		.base_id = how->base ? how->base_id : NULL,
		.files = files,
		.track_fd = how->track_fd,
		.goes_on = how->live ? goes_on : NULL,
		.arg = arg,
	};
	struct vm_answer answer;
	int r;

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return log_ret(-errno, "getrandom: %s", strerror(errno));
	r = vm_socket_save(path, &to, &answer);
	if (r < 0)
		return r;
	if (told_to_end)
		return log_ret(-EINTR, "'%s': told to end", name);
	if (answer.result == -ESTALE)
		return log_ret(-ESTALE,
			       "'%s': not the snapshot that '%s' was started "
			       "from, or saved in with --track: save it "
			       "without --base",
			       how->base, name);
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

static void nothing_waits(void *arg)
{
	(void)arg;
}

int save_machine_files(const char *name, const char *path, const int files[2],
		       const struct save_how *how, struct vm_saved *ret)
{
	return save_files(name, path, files, how, nothing_waits, NULL, ret);
}

/* The processes of an instance, which the agent holds. */
struct held {
	const struct instance *instance;
	struct agent_session *agent;
	int lock; /* owned until they go on */
	bool goes_on;
	int r; /* of letting them go on */
};

static void let_go(void *arg)
{
	struct held *held = arg;

	if (held->goes_on)
		return;
	held->goes_on = true;
	/* One that has ended says nothing more. */
	if (instance_is_alive(held->instance) &&
	    agent_hold(held->agent, false) < 0)
		held->r = -EIO;
	util_close(&held->lock);
}

int save_instance_files(const struct instance *instance, const int files[2],
			const struct save_how *how, struct vm_saved *ret)
{
	/* So that `pause` and `stop` meet no machine that stands still. */
	struct held held = {
		.instance = instance,
		.lock = instance_lock_pause(instance, save_is_told_to_end),
	};
	int r = held.lock < 0 ? held.lock
			      : agent_connect(instance->socket,
					      AGENT_TIMEOUT_MS, &held.agent);

	if (r == 0 && told_to_end)
		r = log_ret(-EINTR, "'%s': told to end", instance->name);
	if (r == 0)
		r = agent_hold(held.agent, true);
	if (r < 0) {
		util_close(&held.lock);
		agent_free(held.agent);
		return r;
	}
	/* Those of a machine that is restored wait for its host (docs/AGENT).
	 */
	r = save_files(instance->name, instance->control, files, how, let_go,
		       &held, ret);
	let_go(&held);
	agent_free(held.agent);
	return r < 0 ? r : held.r;
}
