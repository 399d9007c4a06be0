/* SPDX-License-Identifier: Apache-2.0 */
/* The words of a driver's templates. No shell is started for a measured run. */
#include "tools/bench/bench-driver.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char blanks[] = " \t\n";

struct word {
	char *text; /* owned */
	size_t len;
};

static int put(struct word *word, const char *text, size_t len)
{
	char *more = realloc(word->text, word->len + len + 1);

	if (!more)
		return log_ret(-ENOMEM, "out of memory");
	memcpy(more + word->len, text, len);
	word->text = more;
	word->len += len;
	more[word->len] = '\0';
	return 0;
}

/* The length of a place's name at TEXT, behind its brace; 0: it is none. */
static size_t place_length(const char *text)
{
	const size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz");

	return text[len] == '}' ? len : 0;
}

static int put_place(struct word *word, const char *what, const char *name,
		     size_t len, const struct bench_place *places)
{
	for (; places->name; places++)
		if (strlen(places->name) == len &&
		    strncmp(places->name, name, len) == 0)
			break;
	if (!places->name)
		return log_ret(-EINVAL,
			       "driver '%s': no place {%.*s} (bulkhead-bench(1)"
			       " has the list)",
			       what, (int)len, name);
	if (!places->value)
		return log_ret(-EINVAL,
			       "driver '%s': nothing is there for "
			       "{%.*s}",
			       what, (int)len, name);
	return put(word, places->value, strlen(places->value));
}

/* One word at TEXT, which is behind it then. */
static int take_word(struct word *word, const char *what, const char **text,
		     const struct bench_place *places)
{
	const char *p = *text;
	char quote = '\0';
	int r = put(word, "", 0);

	while (r == 0 && *p && (quote || !strchr(blanks, *p))) {
		size_t len;

		if (*p == quote) {
			quote = '\0';
			p++;
		} else if (!quote && (*p == '"' || *p == '\'')) {
			quote = *p++;
		} else if (*p == '{' && (len = place_length(p + 1)) > 0) {
			r = put_place(word, what, p + 1, len, places);
			p += len + 2;
		} else {
			r = put(word, p++, 1);
		}
	}
	*text = p;
	if (r == 0 && quote)
		r = log_ret(-EINVAL, "driver '%s': a quotation does not end",
			    what);
	return r;
}

int bench_template(struct text_list *words, const char *what, const char *text,
		   const struct bench_place *places, char *const *command)
{
	static const char whole[] = "{command}";
	int r = 0;

	text += strspn(text, blanks);
	while (r == 0 && *text) {
		const size_t n = strcspn(text, blanks);
		struct word word = {0};

		if (n == strlen(whole) && strncmp(text, whole, n) == 0) {
			r = text_list_add_all(words,
					      (const char *const *)command);
			text += n;
		} else {
			r = take_word(&word, what, &text, places);
			if (r == 0)
				r = text_list_add(words, word.text);
			free(word.text);
		}
		text += strspn(text, blanks);
	}
	return r;
}
