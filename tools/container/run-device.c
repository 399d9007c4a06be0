/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the parts of a container's machine: adding devices to its
 * configuration, keeping texts for its agent, giving all of it up.
 */
#include "tools/container/run.h"

#include "devices/virtio/virtio.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int run_add_device(struct config *cfg, const char *type, const char *text)
{
	const struct virtio_ops *ops = virtio_find(type);

	if (!ops)
		return log_ret(-ENOSYS, "this build has no device type '%s'",
			       type);
	return config_add_device(cfg, &ops->type, text);
}

const char *run_keep(struct run_machine *machine, const char *text)
{
	int r = text_list_add(&machine->strings, text);

	return r < 0 ? NULL : machine->strings.item[machine->strings.count - 1];
}

char *run_escape(const char *text)
{
	char *escaped = malloc(2 * strlen(text) + 1);
	char *to = escaped;

	if (!escaped)
		return NULL;
	for (; *text; text++) {
		if (*text == ',')
			*to++ = ',';
		*to++ = *text;
	}
	*to = '\0';
	return escaped;
}

int run_add_share(struct run_machine *machine, const char *path,
		  const char *tag, const char *more)
{
	autofree char *escaped = run_escape(path);
	autofree char *text = NULL;

	if (!escaped ||
	    asprintf(&text, "%s,tag=%s%s", escaped, tag, more) < 0) {
		text = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	return run_add_device(&machine->cfg, "fs", text);
}

void run_machine_done(struct run_machine *machine)
{
	config_done(&machine->cfg);
	util_close(&machine->initrd_fd);
	text_list_done(&machine->strings);
	text_list_done(&machine->sysctls);
	text_list_done(&machine->hosts);
	text_list_done(&machine->search);
	text_list_done(&machine->dns);
	text_list_done(&machine->mount_texts);
	for (unsigned i = 0; i < machine->nvolume_fds; i++)
		close(machine->volume_fds[i]);
	free(machine->ports);
	free(machine->oci);
}
