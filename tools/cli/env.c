/* SPDX-License-Identifier: Apache-2.0 */
/* Where the values of variables come from. */
#include "tools/cli/env.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define BOM "\xef\xbb\xbf"
/* These may stand before a line's first word. */
#define BLANKS " \t\v\f\r"

int env_set_option(struct text_list *env, const char *text)
{
	autofree char *both = NULL;
	const char *value;

	if (text[0] == '=' || text[0] == '\0')
		return log_ret(-EINVAL, "--env '%s': a variable needs a name",
			       text);
	if (strchr(text, '='))
		return text_list_set(env, text);
	value = getenv(text);
	if (!value)
		return 0;
	if (asprintf(&both, "%s=%s", text, value) < 0) {
		both = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	return text_list_set(env, both);
}

/*
 * ---- --env-file, by the rules of Docker's command line: a variable a line,
 * taken as it is, without quotes and without a shell's words
 */

/* One that holds NUL, or is not UTF-8, could not be kept in state.json. */
static bool is_text(const char *line, size_t bytes)
{
	json_t *json = json_stringn(line, bytes);
	const bool valid = json && strlen(line) == bytes;

	json_decref(json);
	return valid;
}

/* A line of BYTES, without its newline. NULL, or what is wrong with it. */
static const char *take_line(struct text_list *env, const char *line,
			     size_t bytes, int *ret_error)
{
	const char *text = line + strspn(line, BLANKS);
	const size_t name = strcspn(text, "=");

	if (!is_text(line, bytes))
		return "it is not UTF-8 text";
	if (text[0] == '\0' || text[0] == '#')
		return NULL;
	if (name == 0)
		return "the variable has no name before its '='";
	if (strncmp(text, "export ", 7) == 0)
		return "'export' is a shell's word: write NAME=VALUE";
	if (strcspn(text, " \t") < name)
		return "the variable's name has a blank in it";
	*ret_error = env_set_option(env, text);
	return NULL;
}

int env_set_file(struct text_list *env, const char *path)
{
	FILE *file = fopen(path, "re");
	autofree char *line = NULL;
	unsigned number = 0;
	size_t room = 0;
	ssize_t n;
	int r = 0;

	if (!file)
		return log_ret(-errno, "--env-file '%s': %s", path,
			       strerror(errno));
	while (r == 0 && (n = getline(&line, &room, file)) >= 0) {
		const char *wrong, *text = line;

		if (n > 0 && line[n - 1] == '\n')
			line[--n] = '\0';
		if (n > 0 && line[n - 1] == '\r')
			line[--n] = '\0';
		if (number++ == 0 && strncmp(line, BOM, strlen(BOM)) == 0)
			text += strlen(BOM);
		wrong = take_line(env, text, (size_t)(line + n - text), &r);
		if (wrong)
			r = log_ret(-EINVAL, "--env-file '%s': line %u: %s",
				    path, number, wrong);
	}
	if (r == 0 && ferror(file))
		r = log_ret(-EIO, "--env-file '%s': it cannot be read", path);
	fclose(file);
	return r;
}
