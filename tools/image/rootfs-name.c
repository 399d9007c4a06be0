/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of images, and digests. A digest proves which image it means; a name is
 * only somebody's word. So a text that can be meant as a digest never is a
 * name, neither by an archive's word nor by the user's.
 */
#include "tools/image/rootfs-parts.h"

#include "vmm/base/util.h"

#include <ctype.h>
#include <string.h>

#define HEX "0123456789abcdef"
/* Fewer digits of a digest are taken for a name. */
#define PREFIX_MIN 4
/* As many as `bulkhead images` shows. */
#define ID_MIN     12
#define DIGEST_HEX (SHA256_HEX - 1)

static bool is_hex(const char *text, size_t min)
{
	const size_t len = strlen(text);

	return len >= min && len <= DIGEST_HEX && strspn(text, HEX) == len;
}

bool digest_valid(const char *text)
{
	return strncmp(text, "sha256:", 7) == 0 && is_hex(text + 7, DIGEST_HEX);
}

const char *name_digits(const char *text)
{
	const char *at = strchr(text, '@');
	const char *digits = at ? at + 1 : text;

	if (strncmp(digits, "sha256:", 7) == 0)
		digits += 7;
	else if (at)
		return ""; /* another kind of digest: of no image here */
	else if (!is_hex(text, PREFIX_MIN))
		return NULL;
	return is_hex(digits, PREFIX_MIN) ? digits : "";
}

bool name_is_digest(const char *text)
{
	const char *at = strrchr(text, '@');

	if (text[0] == '/' || text[0] == '.')
		return false;
	return is_hex(text, ID_MIN) || strncmp(text, "sha256:", 7) == 0 ||
	       (at && digest_valid(at + 1));
}

/* "sha256:TAG" and digits could be meant as digests, whatever the tag. */
static bool looks_like_digest(const char *name)
{
	static const char *const kinds[] = {"sha256", "sha384", "sha512"};
	const size_t len = strcspn(name, ":/");

	if (name[len] == '/')
		return false;
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
		if (len == strlen(kinds[i]) && memcmp(name, kinds[i], len) == 0)
			return true;
	return len >= ID_MIN && strspn(name, HEX) >= len;
}

/*
 * Strips again and again, so that no name is left that looks as if it had a
 * registry.
 */
static const char *without_registry(const char *name)
{
	static const char *const prefixes[] = {"docker.io/", "library/"};
	unsigned i = 0;

	while (i < ARRAY_LEN(prefixes)) {
		const size_t len = strlen(prefixes[i]);

		if (strncmp(name, prefixes[i], len) == 0) {
			name += len;
			i = 0;
		} else {
			i++;
		}
	}
	return name;
}

/* Up to one colon with a tag behind it; those further ahead are a port's. */
static bool tag_is_valid(const char *name, const char **ret_colon)
{
	const char *last = strrchr(name, '/');

	last = last ? last + 1 : name;
	*ret_colon = strchr(last, ':');
	if (!*ret_colon)
		return last[0] != '\0';
	return *ret_colon > last && (*ret_colon)[1] != '\0' &&
	       !strchr(*ret_colon + 1, ':');
}

bool name_normalize(const char *text, char ret_name[IMAGE_NAME_MAX + 1])
{
	const char *colon;
	size_t len;

	text = without_registry(text);
	len = strlen(text);
	if (!isalnum((unsigned char)text[0]) ||
	    len > IMAGE_NAME_MAX - strlen(":latest"))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)text[i]) &&
		    !strchr("._/:+-", text[i]))
			return false;
	if (!tag_is_valid(text, &colon) || looks_like_digest(text))
		return false;
	memcpy(ret_name, text, len + 1);
	if (!colon)
		memcpy(ret_name + len, ":latest", sizeof(":latest"));
	return true;
}

bool name_is_normal(const char *text)
{
	char name[IMAGE_NAME_MAX + 1];

	return name_normalize(text, name) && strcmp(text, name) == 0;
}
