/* SPDX-License-Identifier: Apache-2.0 */
/* The mark is there whenever the machine stands still; see pause_instance(). */
#include "tools/container/pause.h"

#include "tools/container/vm-socket.h"
#include "tools/instance/instance.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* A disk's requests may take long; a monitor that was stopped never answers. */
#define TIMEOUT_MS 30000

bool pause_is_path(const char *text)
{
	struct stat st;

	return strchr(text, '/') ||
	       (lstat(text, &st) == 0 && S_ISSOCK(st.st_mode));
}

/* 0 or -errno, not logged where the machine says so. */
static int ask(const struct instance *instance, enum vm_request what)
{
	struct vm_answer answer;
	int r = vm_socket_ask(instance->control, what, NULL, NULL, TIMEOUT_MS,
			      &answer);

	if (r < 0 || answer.result == 0 || answer.result == -EALREADY)
		return r < 0 ? r : answer.result;
	return log_ret(answer.result,
		       answer.result == -ESHUTDOWN
			       ? "'%s': its machine is at its end"
			       : "'%s': %s",
		       instance->name, strerror(-answer.result));
}

/*
 * A command that is killed between the two leaves a mark too many, never one
 * too few: so that nobody waits for a machine that stands still. resume takes
 * that one away.
 */
int pause_instance(const struct instance *instance)
{
	autofd int lock = instance_lock_pause(instance, NULL);
	int r = lock < 0 ? lock : instance_note_paused(instance, true);

	if (r < 0)
		return r;
	r = ask(instance, VM_REQUEST_PAUSE);
	if (r == -EALREADY)
		return log_ret(r, "'%s' is paused already", instance->name);
	/* It may yet pause. */
	if (r < 0 && r != -ETIME)
		(void)instance_note_paused(instance, false);
	return r;
}

int resume_instance(const struct instance *instance)
{
	autofd int lock = instance_lock_pause(instance, NULL);
	int r = lock < 0 ? lock : ask(instance, VM_REQUEST_RESUME);

	if (r == 0 || r == -EALREADY)
		(void)instance_note_paused(instance, false);
	return r == -EALREADY ? log_ret(r, "'%s' is not paused", instance->name)
			      : r;
}
