/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers to names. */
#include "tools/container/inspect.h"

#include "tools/instance/instance.h"
#include "vmm/base/util.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static json_t *time_json(int64_t seconds)
{
	const time_t when = (time_t)seconds;
	char text[40];
	struct tm tm;

	if (seconds == 0 || !gmtime_r(&when, &tm) ||
	    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return json_null();
	return json_string(text);
}

/* A signal of real time has a number only. */
static json_t *signal_json(int signal)
{
	const char *name = sigabbrev_np(signal);

	return name ? json_sprintf("SIG%s", name) : json_integer(signal);
}

json_t *inspect_json(const struct instance *instance,
		     const struct instance_state *state, bool alive)
{
	json_t *json = instance_state_json(instance, state);
	const struct {
		const char *key;
		json_t *value; /* owned until it is set */
	} values[] = {
		{"created", time_json(state->created_s)},
		{"started", time_json(state->started_s)},
		{"finished", time_json(state->finished_s)},
		{"stop_signal", signal_json(state->stop_signal)},
	};
	int r = json ? 0 : -1;

	for (unsigned i = 0; i < ARRAY_LEN(values); i++)
		r |= json_object_set_new(json, values[i].key, values[i].value);
	if (json && !alive)
		r |= json_object_set_new(json, "status", json_string("exited"));
	if (r == 0)
		return json;
	json_decref(json);
	return NULL;
}
