/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `kill`. The host's runtime sends a signal to the process that stands for the
 * guest's, which passes it on. SIGSTOP it cannot catch: it would stop itself,
 * and the guest's process would go on. The agent gets that one at once.
 */
#include "tools/oci/oci.h"

#include "tools/agent/agent.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static int stop(struct oci *oci, const char *id)
{
	struct agent_session *agent = NULL;
	const char *container;
	int r = oci_check_id(id);

	if (r < 0)
		return r;
	if (oci_stands_still(oci, id))
		return log_ret(-EBUSY,
			       "container '%s' is paused: it can be "
			       "stopped once it goes on",
			       id);
	r = oci_agent(oci, id, &agent, &container);
	if (r == 0)
		r = agent_signal(agent, container, SIGSTOP);
	agent_free(agent);
	return r;
}

/* kill [--all] ID [SIGNAL] */
int oci_cmd_kill(struct oci *oci, int argc, char **argv)
{
	const char *words[2] = {NULL, "TERM"};
	unsigned n = 0;

	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '-')
			continue;
		if (n < ARRAY_LEN(words))
			words[n] = argv[i];
		n++;
	}
	if (n == 0 || n > ARRAY_LEN(words) ||
	    agent_signal_number(words[1]) != SIGSTOP)
		return oci_cmd_pass(oci, argc, argv);
	return stop(oci, words[0]) < 0 ? OCI_EXIT_FAILED : 0;
}
