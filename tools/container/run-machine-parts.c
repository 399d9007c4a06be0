/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the parts of a container's machine: adding devices to its
 * configuration, keeping texts for its agent, giving all of it up.
 */
#include "tools/container/run.h"

#include "devices/virtio/virtio.h"
#include "tools/container/template.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int run_add_device(struct config *cfg, const char *type,
		   const struct config_pair *pairs, size_t n)
{
	const struct config_type *known = virtio_config_type(type);

	if (!known)
		return log_ret(-ENOSYS, "this build has no device type '%s'",
			       type);
	return config_add_pairs(cfg, known, pairs, n);
}

const char *run_keep(struct run_machine *machine, const char *text)
{
	int r = text_list_add(&machine->strings, text);

	return r < 0 ? NULL : machine->strings.item[machine->strings.count - 1];
}

int run_trees_make(struct run_machine *machine, const char *path, unsigned most)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", most);
	return run_add_device(&machine->cfg, "fs",
			      (const struct config_pair[]){
				      {"tag", RUN_TREES_TAG},
				      {"socket", path},
				      {"trees", number},
			      },
			      3);
}

bool run_is_address(const char *text)
{
	struct in6_addr address;

	return inet_pton(AF_INET, text, &address) == 1 ||
	       inet_pton(AF_INET6, text, &address) == 1;
}

void run_machine_done(struct run_machine *machine)
{
	config_done(&machine->cfg);
	template_free(machine->template);
	distro_done(&machine->distro);
	util_close(&machine->initrd_fd);
	if (machine->is_member)
		util_close(&machine->trees_fd);
	text_list_done(&machine->strings);
	text_list_done(&machine->hosts);
	text_list_done(&machine->search);
	text_list_done(&machine->dns);
	text_list_done(&machine->names);
	run_chosen_done(&machine->chosen);
	for (unsigned i = 0; i < machine->nvolume_fds; i++)
		close(machine->volume_fds[i]);
	if (machine->netns.places > 0)
		netns_leave_all();
	netns_done(&machine->netns);
	free(machine->links);
	free(machine->exacts);
	free(machine->mounts);
	spec_linux_done(&machine->devices);
	free(machine->ports);
	free(machine->oci);
	spec_filter_done(&machine->filter);
}
