/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `start` needs those of `run`'s options that the container's spec does not
 * have: the machine's, as JSON in state.json and back.
 */
#include "tools/container/run.h"

#include "tools/guest/kernel.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define AT(member) offsetof(struct run_options, member)

static const struct {
	enum option_kind kind;
	const char *key;
	size_t offset;
} kept[] = {
	{OPTION_FLAG, "interactive", AT(interactive)},
	{OPTION_FLAG, "init", AT(init)},
	{OPTION_FLAG, "rootfs_write", AT(rootfs_write)},
	{OPTION_FLAG, "sig_proxy", AT(forward_signals)},
	{OPTION_FLAG, "no_sandbox", AT(no_sandbox)},
	{OPTION_FLAG, "cold", AT(cold)},
	{OPTION_TEXT, "root", AT(root)},
	{OPTION_TEXT, "bundle", AT(bundle)},
	{OPTION_TEXT, "kernel", AT(kernel)},
	{OPTION_TEXT, "append", AT(append)},
	{OPTION_TEXT, "network", AT(network)},
	{OPTION_TEXT, "guest_runtime", AT(guest_runtime)},
	{OPTION_TEXT, "log_level", AT(log_level)},
	{OPTION_LIST, "publish", AT(publish)},
	{OPTION_LIST, "dns", AT(dns)},
	{OPTION_LIST, "dns_search", AT(search)},
	{OPTION_LIST, "add_host", AT(hosts)},
};

static json_t *list_json(const struct option_list *list)
{
	json_t *json = json_array();

	for (unsigned i = 0; json && i < list->count; i++) {
		if (json_array_append_new(json, json_string(list->item[i])) <
		    0) {
			json_decref(json);
			json = NULL;
		}
	}
	return json;
}

/* NULL: no memory, or it is not UTF-8. A text that is not there is null. */
static json_t *value_json(const void *member, enum option_kind kind)
{
	const char *text;

	switch (kind) {
	case OPTION_FLAG:
		return json_boolean(*(const bool *)member);
	case OPTION_LIST:
		return list_json(member);
	default:
		text = *(const char *const *)member;
		return text ? json_string(text) : json_null();
	}
}

json_t *run_again_json(const struct run_options *opt, const struct rootfs *root)
{
	autofree char *kernel =
		opt->kernel && strcmp(opt->kernel, KERNEL_DISTRO) != 0
			? realpath(opt->kernel, NULL)
			: NULL;
	autofree char *bundle =
		opt->bundle ? realpath(opt->bundle, NULL) : NULL;
	struct run_options o = *opt;
	json_t *json = json_object();
	int r = json ? 0 : -1;

	/* Names of images move from one to another; directories do, too. */
	o.root = root->digest ? root->digest : root->path;
	if (kernel)
		o.kernel = kernel;
	if (bundle)
		o.bundle = bundle;
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(kept); i++)
		r = json_object_set_new(
			json, kept[i].key,
			value_json((const char *)&o + kept[i].offset,
				   kept[i].kind));
	if (r == 0)
		return json;
	json_decref(json);
	return NULL;
}

static int read_list(const json_t *json, struct option_list *list)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_array_size(json); i++) {
		const char *text = json_string_value(json_array_get(json, i));

		r = text ? option_list_add(list, text) : -EINVAL;
	}
	return r;
}

int run_again_options(const json_t *json, struct run_options *opt)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(kept); i++) {
		const json_t *value = json_object_get(json, kept[i].key);
		void *member = (char *)opt + kept[i].offset;

		if (kept[i].kind == OPTION_FLAG)
			*(bool *)member = json_is_true(value);
		else if (kept[i].kind == OPTION_LIST)
			r = read_list(value, member);
		else
			*(const char **)member = json_string_value(value);
	}
	if (r == 0 && !opt->root)
		r = -EINVAL;
	return r == -EINVAL ? log_ret(r, "its state.json does not say how it "
					 "was started")
			    : r;
}

int run_again_streams(struct run_options *opt, struct spec_process *process,
		      bool attach, bool input)
{
	struct winsize size = {0};

	opt->detach = !attach;
	opt->interactive &= opt->detach || input;
	opt->tty = process->terminal;
	if (opt->detach || !opt->tty)
		return 0;
	if (opt->interactive && !isatty(STDIN_FILENO))
		return log_ret(-ENOTTY,
			       "-i: standard input is not a terminal, as the "
			       "command's is");
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		(void)ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
	process->console_height = size.ws_row;
	process->console_width = size.ws_col;
	return 0;
}
