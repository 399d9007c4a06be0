/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "--name value", "--name=value" and, as Go's programs take them, "-name". An
 * option that no table has is refused: the engine that passes it relies on it.
 */
#include "tools/oci/oci-options.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ARG is behind its dashes. */
static const struct oci_option *find(const struct oci_option *table,
				     const char *arg)
{
	const size_t n = strcspn(arg, "=");

	for (; table->name; table++) {
		if (strlen(table->name) == n &&
		    strncmp(table->name, arg, n) == 0)
			return table;
		if (n == 1 && table->letter && table->letter == arg[0])
			return table;
	}
	return NULL;
}

static bool takes_value(const struct oci_option *option)
{
	return option->kind != OCI_PASS_FLAG && option->kind != OCI_OWN_FLAG;
}

/* The host's runtime may look at it in another directory: crun does. */
static int add_path(struct text_list *pass, const char *path)
{
	autofree char *cwd = NULL, *whole = NULL;

	if (path[0] == '/' || path[0] == '\0')
		return text_list_add(pass, path);
	cwd = getcwd(NULL, 0);
	if (!cwd)
		return log_ret(-errno, "the current directory: %s",
			       strerror(errno));
	if (asprintf(&whole, "%s/%s", cwd, path) < 0) {
		whole = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	return text_list_add(pass, whole);
}

/* VALUE is NULL where there is none. */
static int take(const struct oci_option *option, const char *value, void *into,
		struct text_list *pass)
{
	char *const to = (char *)into + option->to;
	const bool off = value && strcmp(value, "false") == 0;
	char text[64];
	int r = 0;

	switch (option->kind) {
	case OCI_OWN_FLAG:
		*(bool *)to = !off;
		return 0;
	case OCI_OWN_VALUE:
		*(const char **)to = value;
		return 0;
	case OCI_OWN_LIST:
		return text_list_add((struct text_list *)to, value);
	case OCI_PASS_FLAG:
		if (off)
			return 0;
		break;
	case OCI_PASS_VALUE:
	case OCI_PASS_PATH:
		break;
	}
	snprintf(text, sizeof(text), "--%s", option->name);
	r = text_list_add(pass, text);
	if (r == 0 && option->kind == OCI_PASS_PATH)
		r = add_path(pass, value);
	else if (r == 0 && option->kind == OCI_PASS_VALUE)
		r = text_list_add(pass, value);
	return r;
}

int oci_options_parse(const struct oci_option *table, void *into,
		      struct text_list *pass, int argc, char **argv)
{
	int i = 1;

	while (i < argc && argv[i][0] == '-' && argv[i][1]) {
		const char *arg = argv[i] + (argv[i][1] == '-' ? 2 : 1);
		const struct oci_option *option = find(table, arg);
		const char *value = strchr(arg, '=');
		int r;

		if (strcmp(argv[i], "--") == 0)
			return i + 1;
		if (!option)
			return log_ret(-EINVAL, "%s: '%s': no such option",
				       argv[0], argv[i]);
		i++;
		if (value)
			value++;
		else if (takes_value(option) && i < argc)
			value = argv[i++];
		if (takes_value(option) && !value)
			return log_ret(-EINVAL,
				       "%s: --%s: its value is missing",
				       argv[0], option->name);
		r = take(option, value, into, pass);
		if (r < 0)
			return r;
	}
	return i;
}

int oci_check_fds(const char *fds)
{
	if (!fds || strcmp(fds, "0") == 0)
		return 0;
	return log_ret(-ENOTSUP,
		       "--preserve-fds %s: a process in a virtual machine "
		       "cannot be given open files of the host",
		       fds);
}
