/* SPDX-License-Identifier: Apache-2.0 */
/* Which known word a mistyped one was probably meant to be. */
#ifndef VMM_BASE_SUGGEST_H
#define VMM_BASE_SUGGEST_H

/*
 * The word of WORDS (ends with NULL) nearest to TEXT, or NULL when none is
 * near enough to be worth a question.
 */
const char *suggest(const char *text, const char *const *words);

#endif
