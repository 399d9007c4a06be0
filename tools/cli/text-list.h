/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of texts that end with NULL. */
#ifndef TOOLS_CLI_TEXT_LIST_H
#define TOOLS_CLI_TEXT_LIST_H

/* A list of owned texts that ends with NULL. */
struct text_list {
	char **item;
	unsigned count;
};

/* Each adds a copy. 0 or -ENOMEM, logged. */
int text_list_add(struct text_list *list, const char *text);
int text_list_add_all(struct text_list *list, const char *const *texts);
/* "NAME=value" replaces what has that name. 0 or -ENOMEM, logged. */
int text_list_set(struct text_list *list, const char *text);
/* The value of the last "NAME=value", borrowed; NULL: there is none. */
const char *text_list_value(const struct text_list *list, const char *name);
void text_list_done(struct text_list *list);
/* All of them with BETWEEN between; allocated, or NULL. */
char *text_list_join(const struct text_list *list, const char *between);
/* As the agent takes it; never NULL once something was added. */
const char *const *text_list_items(const struct text_list *list);

#endif
