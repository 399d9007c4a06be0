/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Go's programs write numbers of 64 bits without a sign; Jansson's end at
 * 2^63 - 1, and as reals they would lose their last digits. From 2^63 on they
 * go through Jansson as the negative number of the same bits.
 */
#include "tools/spec/spec-parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Characters of numbers, also in one with a fraction or an exponent. */
static bool is_in_number(char c)
{
	return (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.' ||
	       c == 'e' || c == 'E';
}

static bool is_digits(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (text[i] < '0' || text[i] > '9')
			return false;
	return n > 0;
}

/* How many bytes of TEXT's BYTES the string has that begins it. */
static size_t string_length(const char *text, size_t bytes)
{
	size_t n = 1;

	while (n < bytes && text[n] != '"')
		n += text[n] == '\\' ? 2 : 1;
	return n < bytes ? n + 1 : bytes;
}

/* Each writes the number of N bytes at TEXT to TO. How many bytes it has. */
typedef size_t number_fn(char *to, const char *text, size_t n);

static size_t narrow(char *to, const char *text, size_t n)
{
	char digits[24] = "";
	uint64_t number = 0;

	/* Smaller ones are as they are; larger ones are Jansson's to refuse. */
	if (n >= 19 && n <= 20 && text[0] != '0' && is_digits(text, n)) {
		memcpy(digits, text, n);
		errno = 0;
		number = strtoull(digits, NULL, 10);
		if (errno)
			number = 0;
	}
	if (number > INT64_MAX)
		return (size_t)sprintf(to, "%" PRId64, (int64_t)number);
	memcpy(to, text, n);
	return n;
}

static size_t widen(char *to, const char *text, size_t n)
{
	char digits[24] = "";

	if (n < sizeof(digits) && text[0] == '-' &&
	    is_digits(text + 1, n - 1)) {
		memcpy(digits, text, n);
		return (size_t)sprintf(to, "%" PRIu64,
				       (uint64_t)strtoll(digits, NULL, 10));
	}
	memcpy(to, text, n);
	return n;
}

/* Has FN change the numbers outside of strings. "-1" grows most. */
static char *change(const char *text, size_t *bytes, number_fn *fn)
{
	char *out = malloc(10 * *bytes + 1);
	char *to = out;

	for (size_t i = 0; out && i < *bytes;) {
		size_t n = 0;

		while (i + n < *bytes && is_in_number(text[i + n]))
			n++;
		if (n > 0) {
			to += fn(to, text + i, n);
		} else {
			n = text[i] == '"' ? string_length(text + i, *bytes - i)
					   : 1;
			memcpy(to, text + i, n);
			to += n;
		}
		i += n;
	}
	if (out) {
		*to = '\0';
		*bytes = (size_t)(to - out);
	}
	return out;
}

char *spec_narrow(const char *text, size_t *bytes)
{
	return change(text, bytes, narrow);
}

char *spec_widen(const char *text)
{
	size_t bytes = strlen(text);

	return change(text, &bytes, widen);
}
