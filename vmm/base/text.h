/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts on their way to a terminal that strangers wrote or could have written:
 * a guest, an image, a bundle, the name of a file. One rule for all of them
 * says what is shown: well-formed UTF-8 (RFC 3629) without what a terminal
 * obeys (U+0000 to U+001F, U+007F, U+0080 to U+009F, in one byte or in two),
 * without the ends of lines and paragraphs, and without what turns the
 * direction of writing (U+2028 to U+202E, U+2066 to U+2069), which makes one
 * text look like another. Pure functions, for any thread.
 */
#ifndef VMM_BASE_TEXT_H
#define VMM_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The length in bytes of the character at TEXT; 0: not shown, or not a
 * character.
 */
unsigned text_character(const char *text);

/* Puts a question mark in place of each byte that is not shown. */
void text_make_printable(char *text);

/* A copy that is printable; NULL where TEXT is, or where there is no memory. */
char *text_printable(const char *text);

/* How many characters a printable text has. */
size_t text_length(const char *text);

/* How many bytes its first MAX characters have. */
size_t text_prefix(const char *text, size_t max);

/*
 * Copies TEXT to OUT, of ROOM bytes (at least 8), and ends it there. Bytes that
 * are not shown become \xNN, or as JSON's strings have it: \u00NN, and quotes
 * and backslashes with a backslash. The length.
 */
size_t text_escape(char *out, size_t room, const char *text, bool json);

/*
 * A copy of JSON that a library wrote, with its values, in which characters
 * that are not shown are written as \uNNNN. NULL where JSON is NULL, or without
 * memory.
 */
char *text_json(const char *json);

#endif
