/* SPDX-License-Identifier: Apache-2.0 */
/* Which characters of a stranger's text reach a terminal. */
#include "vmm/base/text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The length in bytes of the character at TEXT, shown or not; 0: it is none. */
static unsigned decode(const unsigned char *text, uint32_t *ret_code)
{
	/*
	 * The first that needs so many bytes: a longer form is not well-formed.
	 */
	static const uint32_t first[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned bytes = text[0] < 0x80    ? 1
			       : text[0] >= 0xf0 ? 4
			       : text[0] >= 0xe0 ? 3
			       : text[0] >= 0xc0 ? 2
						 : 0;
	uint32_t code = bytes == 1 ? text[0] : text[0] & (0x7fu >> bytes);

	for (unsigned i = 1; i < bytes; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (text[i] & 0x3f);
	}
	*ret_code = code;
	return bytes == 0 || text[0] >= 0xf8 || code < first[bytes] ||
			       code > 0x10ffff || code >> 11 == 0x1b
		       ? 0
		       : bytes;
}

static bool is_shown(uint32_t code)
{
	return code >= 0x20 && (code < 0x7f || code >= 0xa0) &&
	       (code < 0x2028 || code > 0x202e) &&
	       (code < 0x2066 || code > 0x2069);
}

unsigned text_character(const char *text)
{
	uint32_t code;
	const unsigned bytes = decode((const unsigned char *)text, &code);

	return bytes > 0 && is_shown(code) ? bytes : 0;
}

void text_make_printable(char *text)
{
	while (*text) {
		const unsigned bytes = text_character(text);

		if (bytes == 0)
			*text = '?';
		text += bytes > 0 ? bytes : 1;
	}
}

char *text_printable(const char *text)
{
	char *copy = text ? strdup(text) : NULL;

	if (copy)
		text_make_printable(copy);
	return copy;
}

size_t text_length(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += (*text & 0xc0) != 0x80;
	return n;
}

size_t text_prefix(const char *text, size_t max)
{
	size_t at = 0;

	while (text[at] && ((text[at] & 0xc0) == 0x80 || max-- > 0))
		at++;
	return at;
}

size_t text_escape(char *out, size_t room, const char *text, bool json)
{
	size_t n = 0;

	while (*text && n + 7 < room) {
		const unsigned bytes = text_character(text);

		if (bytes == 0)
			n += (size_t)snprintf(out + n, room - n,
					      json ? "\\u%04x" : "\\x%02x",
					      (unsigned char)*text);
		else if (json && (*text == '"' || *text == '\\'))
			n += (size_t)snprintf(out + n, room - n, "\\%c", *text);
		else
			for (unsigned i = 0; i < bytes; i++)
				out[n++] = text[i];
		text += bytes > 0 ? bytes : 1;
	}
	out[n] = '\0';
	return n;
}

char *text_json(const char *json)
{
	/* The worst case: one byte becomes six. */
	char *copy = json ? malloc(6 * strlen(json) + 1) : NULL;
	size_t n = 0;

	if (!copy)
		return NULL;
	while (*json) {
		uint32_t code;
		const unsigned bytes =
			decode((const unsigned char *)json, &code);

		/*
		 * JSON has ends of lines between values, but none within
		 * strings.
		 */
		if (*json == '\n' || bytes == 0 || is_shown(code)) {
			memcpy(copy + n, json, bytes > 0 ? bytes : 1);
			n += bytes > 0 ? bytes : 1;
		} else {
			n += (size_t)sprintf(copy + n, "\\u%04x", code);
		}
		json += bytes > 0 ? bytes : 1;
	}
	copy[n] = '\0';
	return copy;
}
