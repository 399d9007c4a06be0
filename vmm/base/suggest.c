/* SPDX-License-Identifier: Apache-2.0 */
/* Edit distance between short words; longer ones are never suggested. */
#include "vmm/base/suggest.h"

#include <stdint.h>
#include <string.h>

#define WORD_MAX 32

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Insertions, deletions and replacements that turn A into B. */
static unsigned distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned row[WORD_MAX + 1];

	if (la > WORD_MAX || lb > WORD_MAX)
		return UINT32_MAX;
	for (unsigned j = 0; j <= lb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= la; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			unsigned above = row[j];

			row[j] = min3(above + 1, row[j - 1] + 1,
				      diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[lb];
}

const char *suggest(const char *text, const char *const *words)
{
	size_t length = strlen(text);
	/* A third of the letters may be wrong, and not all of a short word. */
	unsigned best = length < 3 ? 2 : 2 + (unsigned)(length / 3);
	const char *found = NULL;

	for (; *words; words++) {
		unsigned d = distance(text, *words);

		/* A word that was not typed to its end counts as one slip. */
		if (length >= 2 && strncmp(text, *words, length) == 0)
			d = 1;
		if (d < best && d < length) {
			best = d;
			found = *words;
		}
	}
	return found;
}
