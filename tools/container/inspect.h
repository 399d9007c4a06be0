/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An instance's state for people: what `bulkhead inspect` prints. state.json
 * keeps numbers, for programs of ours.
 */
#ifndef TOOLS_CONTAINER_INSPECT_H
#define TOOLS_CONTAINER_INSPECT_H

#include <stdbool.h>

struct instance;
struct instance_state;
struct json_t;

/*
 * STATE as JSON, a new reference of jansson's: times as RFC 3339 has them, in
 * UTC (null: not yet), the stop signal by its name, as capabilities are in the
 * spec. ALIVE: whether its processes are there. NULL: no memory.
 */
struct json_t *inspect_json(const struct instance *instance,
			    const struct instance_state *state, bool alive);

#endif
