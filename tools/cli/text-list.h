/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of texts that end with NULL, and a process's environment as one. */
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
void text_list_done(struct text_list *list);
/* All of them with BETWEEN between; allocated, or NULL. */
char *text_list_join(const struct text_list *list, const char *between);
/* As the agent takes it; never NULL once something was added. */
const char *const *text_list_items(const struct text_list *list);

/* ---- the environment */

/* "NAME=value" replaces what has that name. 0 or -ENOMEM, logged. */
int env_set(struct text_list *env, const char *text);
/* -e: "NAME" alone takes this program's, if it has one. 0 or -errno, logged. */
int env_set_option(struct text_list *env, const char *text);
/*
 * --env-file (env-file.c): lines of the same, as Docker's command line reads
 * them. 0 or -errno, logged with the file's name and the line's number.
 */
int env_set_file(struct text_list *env, const char *path);

#endif
