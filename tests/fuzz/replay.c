/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A main() for a fuzz target without a fuzzer: feeds it the files named on the
 * command line, and all files of the directories among them. Fails when there
 * was none: a corpus that went missing is no success.
 */
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A buffer of exactly the file's size, so that ASan sees a read behind it. */
static int replay_file(const char *path, off_t bytes)
{
	autofree uint8_t *data = malloc(bytes > 0 ? (size_t)bytes : 1);
	FILE *file = fopen(path, "re");
	size_t n;

	if (!data || !file) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		if (file)
			fclose(file);
		return -1;
	}
	n = fread(data, 1, (size_t)bytes, file);
	fclose(file);
	LLVMFuzzerTestOneInput(data, n);
	return 1;
}

static int replay(const char *path);

static int replay_directory(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	int count = 0;

	if (!dir) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return -1;
	}
	while ((entry = readdir(dir))) {
		char name[PATH_MAX];
		int n;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		n = replay(name);
		if (n < 0) {
			count = -1;
			break;
		}
		count += n;
	}
	closedir(dir);
	return count;
}

/* How many inputs were run, or -1. */
static int replay(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return -1;
	}
	return S_ISDIR(st.st_mode) ? replay_directory(path)
				   : replay_file(path, st.st_size);
}

int main(int argc, char **argv)
{
	int count = 0;

	for (int i = 1; i < argc; i++) {
		int n = replay(argv[i]);

		if (n < 0)
			return 1;
		count += n;
	}
	printf("%d inputs replayed\n", count);
	return count > 0 ? 0 : 1;
}
