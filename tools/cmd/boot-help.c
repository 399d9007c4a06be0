/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead boot --help` and `--list-devices`, from the tables themselves. */
#include "tools/cmd/boot.h"

#include "tools/cli/print.h"

#include "devices/virtio/virtio.h"
#include "vmm/config/config.h"
#include "vmm/vm.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define HELP_COLUMN 34

static const char synopsis[] =
	"usage: bulkhead boot [OPTION]...\n"
	"\n"
	"Boots a guest from a kernel image. Standard input and output are its\n"
	"console; Ctrl-A x ends the guest, Ctrl-A h lists the other keys.\n";

static const char examples[] =
	"\n"
	"Examples:\n"
	"  A disk whose file system is the guest's root, with the project's "
	"kernel:\n"
	"    bulkhead boot --disk root.img\n"
	"  Two CPUs, 1 GiB, an initrd, your own kernel:\n"
	"    bulkhead boot --kernel vmlinux --initrd initrd.cpio --cpus 2 "
	"--memory 1G\n"
	"  A network: make a tap first, then give the guest its other end:\n"
	"    ip tuntap add tap0 mode tap; ip address add 10.0.0.1/24 dev tap0\n"
	"    ip link set tap0 up\n"
	"    bulkhead boot --disk root.img --net "
	"tap=tap0\n"
	"  One for any user, by passt, the guest's port 80 at the host's "
	"8080:\n"
	"    bulkhead boot --disk root.img --net user,publish=8080:80\n"
	"  A read-only root and a second disk past the host's page cache:\n"
	"    bulkhead boot --disk root.img,readonly --disk data.img,direct\n"
	"  Keep a configuration and use it, with more memory this time:\n"
	"    bulkhead boot --disk root.img --dump-config >vm.json\n"
	"    bulkhead boot --config vm.json --memory 512M\n"
	"  Why does it not start?\n"
	"    bulkhead check; bulkhead boot --log-level debug --disk root.img\n";

static const char notes[] =
	"\n"
	"An option given again replaces the earlier one; --disk, --net and\n"
	"--device add up. SIZE is a number with K, M, G or T (of 1024). In a\n"
	"device's value two commas stand for one.\n"
	"\n"
	"Without --kernel: $BULKHEAD_KERNEL, else the newest kernel in the "
	"cache\n"
	"(${BULKHEAD_CACHE:-~/.cache/bulkhead}), else the installed one.\n"
	"\n"
	"Exit status: the guest's own if it wrote one to the exit port; 0 it "
	"powered\n"
	"off or rebooted; 1 it crashed; 2 bad usage or configuration; 3 the "
	"host\n"
	"cannot (no /dev/kvm, no memory, ...); 128+N signal N ended it.\n";

static void print_option(const struct boot_option *o)
{
	char letter[5] = "";
	int n;

	if (o->letter)
		snprintf(letter, sizeof(letter), "-%c, ", o->letter);
	n = printf("  %s--%s%s%s", letter, o->name, o->arg ? " " : "",
		   o->arg ? o->arg : "");

	if (n >= HELP_COLUMN)
		n = printf("\n") - 1;
	printf("%*s%s\n", HELP_COLUMN - n, "", o->help);
}

/* "path=TEXT", "[readonly]", "id=a|b" */
static void print_key(const struct config_key *key)
{
	static const char *const args[] = {
		[CONFIG_TEXT] = "=TEXT", [CONFIG_FLAG] = "",
		[CONFIG_SIZE] = "=SIZE", [CONFIG_NUMBER] = "=N",
		[CONFIG_MAC] = "=MAC",   [CONFIG_CHOICE] = "=",
	};
	int n = printf("      %s%s%s%s%s", key->name, args[key->kind],
		       key->kind == CONFIG_CHOICE ? key->choices : "",
		       key->alias ? " or " : "", key->alias ? key->alias : "");

	if (n >= HELP_COLUMN)
		n = printf("\n") - 1;
	printf("%*s%s%s%s%s\n", HELP_COLUMN - n, "", key->help ? key->help : "",
	       key->bare ? ", the key may be left out" : "",
	       key->list ? ", may be given again" : "",
	       key->required ? " (required)" : "");
}

static void print_types(void)
{
	const struct config_type *const *types = virtio_config_types();

	for (; *types; types++) {
		printf("  %-8s%s\n", (*types)->name, (*types)->help);
		for (const struct config_key *k = (*types)->keys; k && k->name;
		     k++)
			print_key(k);
	}
}

int boot_help(void)
{
	fputs(synopsis, stdout);
	for (const struct boot_option *o = boot_options(); o->name; o++) {
		if (o->group)
			printf("\n%s:\n", o->group);
		print_option(o);
	}
	fputs("\nDevice types (--disk is blk, --net is net, --vsock is vsock) "
	      "and their keys:\n",
	      stdout);
	print_types();
	fputs(notes, stdout);
	fputs(examples, stdout);
	return VM_EXIT_OK;
}

static json_t *key_json(const struct config_key *key)
{
	static const char *const kinds[] = {
		[CONFIG_TEXT] = "text", [CONFIG_FLAG] = "flag",
		[CONFIG_SIZE] = "size", [CONFIG_NUMBER] = "number",
		[CONFIG_MAC] = "mac",   [CONFIG_CHOICE] = "choice",
	};
	json_t *json = json_pack("{s:s, s:s, s:b}", "name", key->name, "kind",
				 kinds[key->kind], "required", key->required);

	if (key->kind == CONFIG_CHOICE)
		json_object_set_new(json, "choices", json_string(key->choices));
	if (key->help)
		json_object_set_new(json, "help", json_string(key->help));
	return json;
}

int boot_list_devices(bool json)
{
	const struct config_type *const *types = virtio_config_types();
	json_t *list;
	int r;

	if (!json) {
		print_types();
		return VM_EXIT_OK;
	}
	list = json_array();
	for (; *types; types++) {
		json_t *keys = json_array();

		for (const struct config_key *k = (*types)->keys; k && k->name;
		     k++)
			json_array_append_new(keys, key_json(k));
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:o}", "type",
						(*types)->name, "help",
						(*types)->help, "keys", keys));
	}
	r = print_json(list, JSON_INDENT(2));
	json_decref(list);
	return r < 0 ? VM_EXIT_HOST : VM_EXIT_OK;
}
