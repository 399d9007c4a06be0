/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead images`, `tag` and `rmi`: what is in the image store. */
#include "tools/cmd/cmd.h"
#include "tools/cli/print.h"
#include "tools/image/rootfs.h"
#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define EXIT_FAILED   1 /* as docker rmi's */
#define SHORT_ID      12
#define DIGEST_PREFIX 7 /* "sha256:" */

/* ---- images */

enum form { FORM_TABLE, FORM_IDS, FORM_JSON };

static const char images_usage[] =
	"usage: bulkhead images [--quiet | --json]\n"
	"\n"
	"Lists the images that `bulkhead run` has unpacked, newest first.\n"
	"\n"
	"  -q, --quiet  print identifiers only\n"
	"      --json   print the list as JSON\n"
	"      --help   print this\n"
	"\n"
	"They are kept in $BULKHEAD_STORE, by default /var/lib/bulkhead for\n"
	"root and ~/.local/share/bulkhead for others.\n"
	"\n"
	"Examples:\n"
	"  bulkhead images\n"
	"  bulkhead rmi $(bulkhead images -q)\n";

/* 12.3 MB: powers of 1000, as Docker counts. */
static void format_size(uint64_t bytes, char ret_text[16])
{
	static const char units[] = "kMGT";
	double value = (double)bytes / 1000;
	unsigned i = 0;

	while (value >= 1000 && units[i + 1]) {
		value /= 1000;
		i++;
	}
	snprintf(ret_text, 16, "%.1f %cB", value, units[i]);
}

static void print_table(const struct rootfs_image *images, size_t count)
{
	int width = (int)strlen("NAME");

	for (size_t i = 0; i < count; i++)
		for (char **name = images[i].names; *name; name++)
			if ((int)strlen(*name) > width)
				width = (int)strlen(*name);
	printf("%-*s  %-12s  %-16s  %9s  %s\n", width, "NAME", "ID", "UNPACKED",
	       "SIZE", "USED");
	for (size_t i = 0; i < count; i++) {
		char size[16], date[32], none[] = "<none>";
		char *no_names[] = {none, NULL};
		char **names = images[i].names[0] ? images[i].names : no_names;

		format_size(images[i].bytes, size);
		print_format_date(images[i].unpacked, date);
		for (; *names; names++)
			printf("%-*s  %.*s  %-16s  %9s  %s\n", width, *names,
			       SHORT_ID, images[i].digest + DIGEST_PREFIX, date,
			       size, images[i].used ? "yes" : "no");
	}
}

static int print_list(const struct rootfs_image *images, size_t count)
{
	json_t *list = json_array();
	int r;

	for (size_t i = 0; i < count; i++) {
		json_t *names = json_array();

		for (char **name = images[i].names; *name; name++)
			json_array_append_new(names, json_string(*name));
		json_array_append_new(
			list,
			json_pack("{s:s, s:o, s:I, s:I, s:I, s:b}", "id",
				  images[i].digest, "names", names, "bytes",
				  (json_int_t)images[i].bytes, "files",
				  (json_int_t)images[i].files, "unpacked",
				  (json_int_t)images[i].unpacked, "used",
				  images[i].used));
	}
	r = print_json(list, JSON_INDENT(2));
	json_decref(list);
	return r;
}

static int list_images(enum form form)
{
	struct rootfs_image *images;
	size_t count;
	int r = 0;

	if (rootfs_list(NULL, &images, &count) < 0)
		return VM_EXIT_HOST;
	if (form == FORM_TABLE)
		print_table(images, count);
	else if (form == FORM_JSON)
		r = print_list(images, count);
	for (size_t i = 0; form == FORM_IDS && i < count; i++)
		printf("%.*s\n", SHORT_ID, images[i].digest + DIGEST_PREFIX);
	rootfs_list_free(images, count);
	return r < 0 ? VM_EXIT_HOST : VM_EXIT_OK;
}

int cmd_images(int argc, char **argv)
{
	static const struct option options[] = {
		{"quiet", no_argument, NULL, 'q'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	static const char *const names[] = {"quiet", "json", "help", NULL};
	enum form form = FORM_TABLE;
	int c;

	opterr = 0;
	while ((c = usage_next(argc, argv, "+:qh", options)) != -1) {
		if (c == 'h') {
			fputs(images_usage, stdout);
			return VM_EXIT_OK;
		}
		if (c != 'q' && c != 'j')
			return usage_getopt("images", c, argv, names);
		form = c == 'q' ? FORM_IDS : FORM_JSON;
	}
	if (optind < argc)
		return usage_error("images", "'%s': unexpected argument",
				   argv[optind]);
	log_setup(LOG_WARN, form == FORM_JSON);
	return list_images(form);
}

/* ---- tag */

static const char tag_usage[] =
	"usage: bulkhead tag IMAGE NAME\n"
	"\n"
	"Gives an image of the store another name, and takes it from the "
	"image\n"
	"that has it. An archive's or a layout's image is unpacked first.\n"
	"IMAGE is what `bulkhead run` takes; NAME without a tag gets "
	"\"latest\".\n"
	"\n"
	"  --help  print this\n"
	"\n"
	"Examples:\n"
	"  bulkhead tag app.tar app:2\n"
	"  bulkhead tag 6f4c21b16f33 app\n";

static int tag(const char *image, const char *name)
{
	const struct rootfs_options options = {.name = name};
	struct rootfs rootfs;

	if (rootfs_open(image, &options, &rootfs) < 0)
		return EXIT_FAILED;
	rootfs_close(&rootfs);
	return VM_EXIT_OK;
}

int cmd_tag(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	static const char *const names[] = {"help", NULL};
	int c;

	opterr = 0;
	while ((c = usage_next(argc, argv, "+:h", options)) != -1) {
		if (c != 'h')
			return usage_getopt("tag", c, argv, names);
		fputs(tag_usage, stdout);
		return VM_EXIT_OK;
	}
	if (argc - optind != 2)
		return usage_error("tag", "give an image and a name");
	return tag(argv[optind], argv[optind + 1]);
}

/* ---- rmi */

static const char rmi_usage[] =
	"usage: bulkhead rmi IMAGE...\n"
	"\n"
	"Removes images from the store, by name or by identifier (its first\n"
	"digits are enough). An image that a container uses stays. One with\n"
	"several names loses the one that is given.\n"
	"\n"
	"  --help  print this\n"
	"\n"
	"Exit status: 0 all are removed; 1 one could not be; 2 bad usage.\n"
	"\n"
	"Examples:\n"
	"  bulkhead rmi busybox\n"
	"  bulkhead rmi 6f4c21b1\n";

int cmd_rmi(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	static const char *const names[] = {"help", NULL};
	int status = VM_EXIT_OK;
	int c;

	opterr = 0;
	while ((c = usage_next(argc, argv, "+:h", options)) != -1) {
		if (c != 'h')
			return usage_getopt("rmi", c, argv, names);
		fputs(rmi_usage, stdout);
		return VM_EXIT_OK;
	}
	if (optind == argc)
		return usage_error("rmi", "which image?");
	for (; optind < argc; optind++)
		if (rootfs_remove(NULL, argv[optind]) < 0)
			status = EXIT_FAILED;
	return status;
}
