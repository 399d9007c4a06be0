/* SPDX-License-Identifier: Apache-2.0 */
/* Growing the lists. */
#include "tools/cli/text-list.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>

/* Makes room for one more and the end. */
static int grow(struct text_list *list)
{
	char **more = reallocarray(list->item, list->count + 2, sizeof(*more));

	if (!more)
		return log_ret(-ENOMEM, "out of memory");
	list->item = more;
	return 0;
}

static int add_owned(struct text_list *list, char *text)
{
	int r = text ? grow(list) : log_ret(-ENOMEM, "out of memory");

	if (r < 0) {
		free(text);
		return r;
	}
	list->item[list->count++] = text;
	list->item[list->count] = NULL;
	return 0;
}

int text_list_add(struct text_list *list, const char *text)
{
	return add_owned(list, strdup(text));
}

int text_list_add_all(struct text_list *list, const char *const *texts)
{
	int r = 0;

	for (; r == 0 && texts && *texts; texts++)
		r = text_list_add(list, *texts);
	return r;
}

const char *text_list_value(const struct text_list *list, const char *name)
{
	const size_t n = strlen(name);

	for (unsigned i = list->count; i > 0; i--) {
		const char *text = list->item[i - 1];

		if (strncmp(text, name, n) == 0 && text[n] == '=')
			return text + n + 1;
	}
	return NULL;
}

void text_list_done(struct text_list *list)
{
	for (unsigned i = 0; i < list->count; i++)
		free(list->item[i]);
	free(list->item);
	*list = (struct text_list){0};
}

char *text_list_join(const struct text_list *list, const char *between)
{
	size_t bytes = 1;
	char *text;

	for (unsigned i = 0; i < list->count; i++)
		bytes += strlen(list->item[i]) + strlen(between);
	text = calloc(1, bytes);
	for (unsigned i = 0; text && i < list->count; i++) {
		if (i > 0)
			strcat(text, between);
		strcat(text, list->item[i]);
	}
	return text;
}

const char *const *text_list_items(const struct text_list *list)
{
	return (const char *const *)list->item;
}

int text_list_set(struct text_list *list, const char *text)
{
	const size_t name = strcspn(text, "=");

	for (unsigned i = 0; i < list->count; i++) {
		char *copy;

		if (strncmp(list->item[i], text, name) != 0 ||
		    list->item[i][name] != '=')
			continue;
		copy = strdup(text);
		if (!copy)
			return log_ret(-ENOMEM, "out of memory");
		free(list->item[i]);
		list->item[i] = copy;
		return 0;
	}
	return text_list_add(list, text);
}
