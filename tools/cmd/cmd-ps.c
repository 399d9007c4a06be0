/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead ps`: the instances there are, as a table or as JSON. */
#include "tools/cmd/cmd.h"

#include "tools/instance/instance.h"
#include "tools/cli/options.h"
#include "tools/cli/print.h"
#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum column { NAME, IMAGE, COMMAND, CREATED, STATUS, PORTS, COLUMNS };

struct row {
	char *text[COLUMNS];
};

struct listing {
	bool all, quiet, json, lines, whole;
	const char *format;
	struct option_list filters;
	struct row *row;
	unsigned nrows;
	json_t *list;
};

static const struct option_entry entries[] = {
	{"all", 'a', NULL, OPTION_FLAG, offsetof(struct listing, all), NULL,
	 "also list instances that have ended"},
	{"quiet", 'q', NULL, OPTION_FLAG, offsetof(struct listing, quiet), NULL,
	 "print names only"},
	{"no-trunc", 0, NULL, OPTION_FLAG, offsetof(struct listing, whole),
	 NULL, "do not shorten columns"},
	{"filter", 'f', "KEY=VALUE", OPTION_LIST,
	 offsetof(struct listing, filters), NULL,
	 "filter by name=, status=, label=, ancestor=, exited="},
	{"json", 0, NULL, OPTION_FLAG, offsetof(struct listing, json), NULL,
	 "print a list of JSON objects"},
	{"format", 0, "json", OPTION_TEXT, offsetof(struct listing, format),
	 NULL, "print a JSON object per line"},
	{0},
};

static const struct option_table table = {
	.command = "ps",
	.synopsis = "usage: bulkhead ps [OPTION]...\n"
		    "\n"
		    "Lists this user's running instances.\n",
	.entries = entries,
	.notes = "\nExamples:\n"
		 "  bulkhead ps -a\n"
		 "  bulkhead stop $(bulkhead ps -q)\n",
};

/* "5 minutes": one unit is enough. Allocated. */
static char *format_age(int64_t seconds)
{
	static const struct {
		const char *name;
		int64_t seconds;
	} units[] = {
		{"second", 1}, {"minute", 60}, {"hour", 3600}, {"day", 86400}};
	unsigned n = ARRAY_LEN(units) - 1;
	int64_t count;
	char *text;

	if (seconds < 1)
		return strdup("less than a second");
	while (n > 0 && seconds < 2 * units[n].seconds)
		n--;
	count = seconds / units[n].seconds;
	if (asprintf(&text, "%lld %s%s", (long long)count, units[n].name,
		     count == 1 ? "" : "s") < 0)
		return NULL;
	return text;
}

static char *format_created(const struct instance_state *state, int64_t now)
{
	autofree char *age = format_age(now - state->created_s);
	char *text;

	return !age || asprintf(&text, "%s ago", age) < 0 ? NULL : text;
}

static char *format_status(const struct instance_state *state, bool alive,
			   int64_t now)
{
	autofree char *age = format_age(
		now - (alive ? state->started_s : state->finished_s));
	char *text;
	int n;

	if (!age)
		return NULL;
	if (alive && state->phase == INSTANCE_CREATED)
		n = asprintf(&text, "Created");
	else if (alive)
		n = asprintf(&text, "Up %s%s", age,
			     state->phase == INSTANCE_PAUSED ? " (Paused)"
							     : "");
	else if (state->finished_s == 0)
		n = asprintf(&text, "Killed");
	else
		n = asprintf(&text, "Exited (%d) %s ago", state->status, age);
	return n < 0 ? NULL : text;
}

/* Printable: state.json may be anybody's, and its texts an image's. */
static char *shorten(const char *text, bool whole)
{
	const size_t max = 30;
	autofree char *copy = text_printable(text ? text : "");
	char *cut;

	if (!copy || whole || text_length(copy) <= max)
		return take_ptr(copy);
	return asprintf(&cut, "%.*s...", (int)text_prefix(copy, max - 3),
			copy) < 0
		       ? NULL
		       : cut;
}

static int add_row(struct listing *listing, const char *name,
		   const struct instance_state *state, bool alive)
{
	autofree char *command = instance_command(state);
	const int64_t now = time(NULL);
	struct row *more =
		reallocarray(listing->row, listing->nrows + 1, sizeof(*more));
	struct row *row;

	if (!more)
		return -ENOMEM;
	listing->row = more;
	row = &more[listing->nrows++];
	row->text[NAME] = shorten(name, true);
	row->text[IMAGE] = shorten(state->image, listing->whole);
	row->text[COMMAND] = shorten(command, listing->whole);
	row->text[CREATED] = format_created(state, now);
	row->text[STATUS] = format_status(state, alive, now);
	row->text[PORTS] = shorten(state->ports, true);
	for (unsigned i = 0; i < COLUMNS; i++)
		if (!row->text[i])
			return -ENOMEM;
	return 0;
}

static const char *phase_name(const struct instance_state *state, bool alive)
{
	static const char *const phases[] = {"created", "running", "paused",
					     "exited"};

	return phases[alive ? state->phase : INSTANCE_EXITED];
}

static int add_json(struct listing *listing, const char *name,
		    const struct instance_state *state, bool alive)
{
	autofree char *command = instance_command(state);
	json_t *json = json_pack(
		"{s:s, s:s, s:s*, s:s*, s:s*, s:s*, s:i, s:I, s:I, s:I}",
		"name", name, "status", phase_name(state, alive), "image",
		state->image, "command", command, "ports", state->ports,
		"error", state->error, "pid", alive ? (int)state->pid : 0,
		"created", (json_int_t)state->created_s, "started",
		(json_int_t)state->started_s, "finished",
		(json_int_t)state->finished_s);

	if (!alive)
		json_object_set_new(json, "exit_status",
				    json_integer(state->status));
	return json_array_append_new(listing->list, json) == 0 ? 0 : -ENOMEM;
}

/* ---- filters */

/* VALUE is a label, or its name. */
static bool has_label(const struct instance_state *state, const char *value)
{
	const size_t length = strlen(value);

	for (char **label = state->labels; label && *label; label++)
		if (strcmp(*label, value) == 0 ||
		    (!strchr(value, '=') &&
		     strncmp(*label, value, length) == 0 &&
		     (*label)[length] == '='))
			return true;
	return false;
}

static bool fits(const char *filter, const char *name,
		 const struct instance_state *state, bool alive)
{
	const char *value = strchr(filter, '=') + 1;

	switch (filter[0]) {
	case 'n':
		return strstr(name, value) != NULL;
	case 's':
		return strcmp(value, phase_name(state, alive)) == 0;
	case 'l':
		return has_label(state, value);
	case 'a':
		return state->image && strcmp(state->image, value) == 0;
	default:
		return !alive && state->status == atoi(value);
	}
}

/* Several of a key are alternatives but for labels, as with Docker. */
static bool fits_all(const struct listing *listing, const char *name,
		     const struct instance_state *state, bool alive)
{
	for (unsigned i = 0; i < listing->filters.count; i++) {
		const char *filter = listing->filters.item[i];
		bool any = fits(filter, name, state, alive);

		for (unsigned k = 0;
		     !any && filter[0] != 'l' && k < listing->filters.count;
		     k++)
			any = listing->filters.item[k][0] == filter[0] &&
			      fits(listing->filters.item[k], name, state,
				   alive);
		if (!any)
			return false;
	}
	return true;
}

static int check_filter_value(const char *filter)
{
	const char *value = strchr(filter, '=') + 1;
	uint64_t n;

	if (filter[0] == 's' && strcmp(value, "created") != 0 &&
	    strcmp(value, "running") != 0 && strcmp(value, "paused") != 0 &&
	    strcmp(value, "exited") != 0)
		return usage_error("ps",
				   "--filter '%s': known are created, running, "
				   "paused and exited",
				   filter);
	if (filter[0] == 'e' && util_parse_number(value, 0, 255, &n) < 0)
		return usage_error("ps",
				   "--filter '%s': not an exit status, 0 to "
				   "255",
				   filter);
	return 0;
}

/* Filters that concern an end also list instances that have ended. */
static int check_filters(struct listing *listing)
{
	static const char *const keys[] = {
		"name=", "status=", "label=", "ancestor=", "exited="};

	for (unsigned i = 0; i < listing->filters.count; i++) {
		const char *filter = listing->filters.item[i];
		unsigned k = 0;

		while (k < ARRAY_LEN(keys) &&
		       strncmp(filter, keys[k], strlen(keys[k])) != 0)
			k++;
		if (k == ARRAY_LEN(keys))
			return usage_error("ps",
					   "--filter '%s': known are name=, "
					   "status=, label=, ancestor= and "
					   "exited=",
					   filter);
		if (check_filter_value(filter) != 0)
			return VM_EXIT_USAGE;
		listing->all |= filter[0] == 's' || filter[0] == 'e';
	}
	return 0;
}

static int add(const struct instance *instance, void *arg)
{
	struct listing *listing = arg;
	bool alive = instance_is_alive(instance);
	struct instance_state state;
	int r = instance_load(instance, &state);

	if (r < 0)
		return 0; /* just being made, or damaged: said already */
	if ((!listing->all && !alive) ||
	    !fits_all(listing, instance->name, &state, alive))
		r = 0;
	else if (listing->json || listing->lines)
		r = add_json(listing, instance->name, &state, alive);
	else
		r = add_row(listing, instance->name, &state, alive);
	instance_state_done(&state);
	return r;
}

static void print_rows(const struct listing *listing)
{
	static const struct row head = {{(char *)"NAME", (char *)"IMAGE",
					 (char *)"COMMAND", (char *)"CREATED",
					 (char *)"STATUS", (char *)"PORTS"}};
	int width[COLUMNS] = {0};

	for (unsigned c = 0; c < COLUMNS; c++) {
		width[c] = (int)strlen(head.text[c]);
		for (unsigned i = 0; i < listing->nrows; i++) {
			int n = (int)text_length(listing->row[i].text[c]);

			width[c] = n > width[c] ? n : width[c];
		}
	}
	for (unsigned i = 0; i <= listing->nrows; i++) {
		const struct row *row = i ? &listing->row[i - 1] : &head;

		for (unsigned c = 0; c < COLUMNS - 1; c++)
			printf("%s%*s   ", row->text[c],
			       width[c] - (int)text_length(row->text[c]), "");
		puts(row->text[PORTS]);
	}
}

static void print_names(const struct listing *listing)
{
	for (unsigned i = 0; i < listing->nrows; i++)
		puts(listing->row[i].text[NAME]);
}

static int print_lines(const struct listing *listing)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_array_size(listing->list); i++)
		r = print_json(json_array_get(listing->list, i), 0);
	return r;
}

/* 0 or -ENOMEM, logged. */
static int print(const struct listing *listing)
{
	int r = 0;

	if (listing->lines) {
		r = print_lines(listing);
	} else if (listing->json) {
		r = print_json(listing->list, JSON_INDENT(2));
	} else if (listing->quiet) {
		print_names(listing);
	} else {
		print_rows(listing);
	}
	return r;
}

static void listing_done(struct listing *listing)
{
	for (unsigned i = 0; i < listing->nrows; i++)
		for (unsigned c = 0; c < COLUMNS; c++)
			free(listing->row[i].text[c]);
	free(listing->row);
	json_decref(listing->list);
	option_list_done(&listing->filters);
}

int cmd_ps(int argc, char **argv)
{
	struct listing listing = {0};
	int n = options_parse(&table, &listing, argc, argv);
	int r;

	if (n == OPTIONS_HELP)
		return VM_EXIT_OK;
	if (n < 0 || check_filters(&listing) != 0) {
		option_list_done(&listing.filters);
		return VM_EXIT_USAGE;
	}
	if (n < argc)
		return usage_error("ps", "'%s': unexpected argument", argv[n]);
	listing.lines = listing.format != NULL;
	if (listing.format && strcmp(listing.format, "json") != 0)
		return usage_error("ps", "--format '%s': only json is known",
				   listing.format);
	listing.list = json_array();
	instance_sweep();
	r = instance_each(add, &listing);
	if (r == -ENOMEM)
		log_error("out of memory");
	else if (r >= 0)
		r = print(&listing);
	listing_done(&listing);
	return r < 0 ? VM_EXIT_HOST : VM_EXIT_OK;
}
