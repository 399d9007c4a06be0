/* SPDX-License-Identifier: Apache-2.0 */
/* getopt_long(3) driven by a table. */
#include "tools/cli/options.h"

#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define ENTRIES_MAX 64
#define FIRST       256 /* getopt's value of the table's first option */
#define VALUE_HELP  255
#define HELP_COLUMN 32
#define LETTERS_MAX (3 * ENTRIES_MAX + 8)

/* The table as getopt_long() wants it. */
struct forms {
	struct option longs[ENTRIES_MAX + 2];
	const char *names[ENTRIES_MAX + 2];
	char letters[LETTERS_MAX];
};

static void make_forms(const struct option_entry *entries, struct forms *forms)
{
	unsigned n = 0;
	size_t letters = 2;

	*forms = (struct forms){.letters = "+:"};
	for (; entries[n].name; n++) {
		const struct option_entry *e = &entries[n];

		assert(n < ENTRIES_MAX);
		forms->names[n] = e->name;
		/* --rm=false: Docker's flags take a value after "=". */
		forms->longs[n] = (struct option){
			e->name, e->arg ? required_argument : optional_argument,
			NULL, FIRST + (int)n};
		if (e->letter) {
			forms->letters[letters++] = e->letter;
			if (e->arg)
				forms->letters[letters++] = ':';
		}
	}
	forms->names[n] = "help";
	forms->longs[n] =
		(struct option){"help", no_argument, NULL, VALUE_HELP};
}

static const struct option_entry *find(const struct option_entry *entries,
				       int value)
{
	if (value >= FIRST)
		return &entries[value - FIRST];
	while (entries->name && entries->letter != value)
		entries++;
	return entries;
}

int option_list_add(struct option_list *list, const char *text)
{
	const char **more =
		reallocarray(list->item, list->count + 1, sizeof(*list->item));

	if (!more)
		return log_ret(-ENOMEM, "out of memory");
	more[list->count++] = text;
	list->item = more;
	return 0;
}

void option_list_done(struct option_list *list)
{
	free(list->item);
	*list = (struct option_list){0};
}

static int set_flag(const struct option_table *table,
		    const struct option_entry *e, const char *value, bool *flag)
{
	if (!value || strcmp(value, "true") == 0 || strcmp(value, "1") == 0)
		*flag = true;
	else if (strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
		*flag = false;
	else
		return usage_error(table->command,
				   "--%s '%s': neither true nor false", e->name,
				   value);
	return 0;
}

static int apply(const struct option_table *table, const struct option_entry *e,
		 const char *value, void *into)
{
	void *member = (char *)into + e->offset;

	switch (e->kind) {
	case OPTION_FLAG:
		return set_flag(table, e, value, member);
	case OPTION_LIST:
		return option_list_add(member, value);
	default:
		*(const char **)member = value;
		return 0;
	}
}

static void print_entry(const struct option_entry *e)
{
	char letter[5] = "    ";
	int n;

	if (e->group)
		printf("\n%s:\n", e->group);
	if (e->letter)
		snprintf(letter, sizeof(letter), "-%c, ", e->letter);
	n = printf("  %s--%s%s%s", letter, e->name, e->arg ? " " : "",
		   e->arg ? e->arg : "");
	if (n >= HELP_COLUMN)
		n = printf("\n") - 1;
	printf("%*s%s\n", HELP_COLUMN - n, "", e->help);
}

static void print_help(const struct option_table *table)
{
	fputs(table->synopsis, stdout);
	if (!table->entries[0].group)
		puts("\nOptions:");
	for (const struct option_entry *e = table->entries; e->name; e++)
		print_entry(e);
	printf("%-*s%s\n", HELP_COLUMN, "      --help", "print this");
	if (table->notes)
		fputs(table->notes, stdout);
}

/* Finds out why Docker's option ARG is not supported. NULL: it is unknown. */
static const char *find_refused(const struct option_table *table,
				const char *arg, char ret_name[64])
{
	if (!table->refused)
		return NULL;
	if (strncmp(arg, "--", 2) != 0) {
		snprintf(ret_name, 64, "-%c", optopt);
		return table->refused(NULL, optopt);
	}
	snprintf(ret_name, 64, "%.*s", (int)strcspn(arg, "="), arg);
	return optopt ? NULL : table->refused(ret_name + 2, 0);
}

static void refuse(const struct option_table *table, int result, char **argv,
		   const char *const *names)
{
	char name[64];
	const char *why = result == '?'
				  ? find_refused(table, argv[optind - 1], name)
				  : NULL;

	if (why)
		log_error("'%s' is not supported: %s", name, why);
	else
		usage_getopt(table->command, result, argv, names);
}

int options_parse(const struct option_table *table, void *into, int argc,
		  char **argv)
{
	struct forms forms;
	int c;

	make_forms(table->entries, &forms);
	optind = 0; /* glibc: begin anew */
	opterr = 0;
	while ((c = usage_next(argc, argv, forms.letters, forms.longs)) != -1) {
		if (c == VALUE_HELP) {
			print_help(table);
			return OPTIONS_HELP;
		}
		if (c == '?' || c == ':') {
			refuse(table, c, argv, forms.names);
			return OPTIONS_ERROR;
		}
		if (apply(table, find(table->entries, c), optarg, into) != 0)
			return OPTIONS_ERROR;
	}
	return optind;
}
