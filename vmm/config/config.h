/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct config is the only way to make a VM, whoever asks: command line, JSON
 * file, `bulkhead run`. It is plain data: building one opens no file and
 * touches no device. It can be printed as JSON and read back.
 *
 * Devices are a type's name and key=value pairs. The types and keys that exist
 * come from the devices themselves (struct config_type), so that a new device
 * brings its own options, help and checks.
 */
#ifndef VMM_CONFIG_CONFIG_H
#define VMM_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_CPUS_MAX    32
#define CONFIG_DEVICES_MAX 256 /* trees of shares included */
#define CONFIG_PARAMS_MAX  16

enum config_kind {
	CONFIG_TEXT,   /* any non-empty text */
	CONFIG_FLAG,   /* true or false; a bare key means true */
	CONFIG_SIZE,   /* bytes, K/M/G accepted */
	CONFIG_NUMBER, /* within min..max */
	CONFIG_MAC,    /* 02:00:00:00:00:01 */
	CONFIG_CHOICE, /* one of `choices`, "a|b|c" */
};

struct config_key {
	const char *name;
	const char *alias; /* means the same on the command line, or NULL */
	enum config_kind kind;
	bool required;
	bool bare; /* the first comma-separated item may omit "name=" */
	bool path; /* of a file: without a leading slash it begins somewhere */
	bool list; /* may be given again: the values, with commas between */
	uint64_t min, max; /* CONFIG_NUMBER and CONFIG_SIZE; max 0: no limit */
	const char *choices; /* CONFIG_CHOICE */
	const char *help;    /* one phrase, lower case, no full stop */
};

struct config_device;
struct config;
struct trace;

/* The keys that a device type takes; they end with a NULL name. */
struct config_type {
	const char *name; /* "blk" */
	const char *help; /* one phrase */
	const struct config_key *keys;
	/*
	 * Checks what concerns several keys, or more than a key's kind, without
	 * touching the host; NULL: there is nothing. 0 or -EINVAL, logged.
	 */
	int (*check)(const struct config_device *dev);
	/* The same for what concerns other devices of CFG; or NULL. */
	int (*check_all)(const struct config *cfg,
			 const struct config_device *dev);
};

struct config_param {
	char *key;
	char *value;
};

struct config_device {
	char *type;
	struct config_param param[CONFIG_PARAMS_MAX];
	unsigned nparams;
};

enum config_console {
	CONFIG_CONSOLE_AUTO, /* virtio, and serial for early messages */
	CONFIG_CONSOLE_SERIAL,
	CONFIG_CONSOLE_VIRTIO,
	CONFIG_CONSOLE_NONE,
};

enum config_entry {
	CONFIG_ENTRY_AUTO,  /* Linux's 64-bit entry where there is one */
	CONFIG_ENTRY_LINUX, /* 64-bit boot protocol, device tree */
	CONFIG_ENTRY_PVH,   /* PVH note's entry, ACPI and command line */
};

enum config_assist {
	CONFIG_ASSIST_AUTO, /* when the host is found to need it */
	CONFIG_ASSIST_ON,
	CONFIG_ASSIST_OFF,
};

enum config_reboot {
	CONFIG_REBOOT_EXIT,    /* a reboot ends the VM */
	CONFIG_REBOOT_RESTART, /* and a new one is made of the configuration */
};

struct config {
	char *name;   /* of the VM; NULL: "bulkhead" */
	char *kernel; /* path; required */
	char *initrd; /* path or NULL */
	/* It is no user's: it mounts the root as a kernel without one does. */
	bool initrd_mounts_root;
	char *append; /* added to the kernel command line, or NULL */
	uint64_t memory_bytes;
	unsigned cpus;
	bool hugetlb, prefault;
	enum config_console console;
	enum config_entry entry;
	enum config_assist assist;
	enum config_reboot on_reboot;
	unsigned reboot_status; /* the exit status when the guest rebooted */
	int kvm_fd; /* /dev/kvm, borrowed; 0: is opened. In no file */
	/* It gets what its devices have behind them later: vm_adopt(). In no
	 * file. */
	bool adopts;
	/* For --trace; borrowed, NULL: none. In no file. */
	struct trace *trace;
	bool sandbox; /* around the VMM, as in sandbox.h; on by default */
	struct config_device device[CONFIG_DEVICES_MAX];
	unsigned ndevices;
	char *dump_dtb; /* write the device tree there, or NULL */
	/* Path of a Unix socket where others ask for a pause, or NULL. */
	char *control;
};

void config_init(struct config *cfg); /* the defaults */
void config_done(struct config *cfg);
/* The same for one device that was taken out of a configuration. */
void config_device_done(struct config_device *device);

/*
 * Sets what is not a device from text, replacing what was there; NAME is the
 * option's without dashes and the JSON file's key alike: "memory". A flag's
 * VALUE is "true" or "false". PREFIX begins the message: "--". 0, -ENOENT (no
 * such name, not logged), -EINVAL (logged), -ENOMEM.
 */
int config_set(struct config *cfg, const char *prefix, const char *name,
	       const char *value);

/*
 * Adds a device from the command line's "FILE,readonly,id=x" form; two commas
 * stand for one in a value. The message names the known keys when one is
 * unknown. 0, -EINVAL (logged), -ENOMEM.
 */
int config_add_device(struct config *cfg, const struct config_type *type,
		      const char *text);

/*
 * Adds a device from its keys and values as they are. One whose value is NULL
 * is not given; a list's key may come again. 0, -EINVAL (logged), -ENOMEM.
 */
struct config_pair {
	const char *key, *value;
};
int config_add_pairs(struct config *cfg, const struct config_type *type,
		     const struct config_pair *pairs, size_t n);

/*
 * Has the devices' paths that have no leading slash begin in DIRECTORY. 0 or
 * -ENOMEM (logged).
 */
int config_set_directory(struct config *cfg, const char *directory,
			 const struct config_type *const *types);

/*
 * Checks everything that can be checked without touching the host: ranges,
 * required keys, each value's kind. TYPES ends with NULL. 0 or -EINVAL, logged
 * with the option, the value and what would be right.
 */
int config_check(const struct config *cfg,
		 const struct config_type *const *types);

/*
 * Reads a JSON file over CFG: its values replace, its devices are added. 0,
 * -EINVAL (logged, with the line or the key), -errno (logged).
 */
int config_read_json(struct config *cfg, const char *path,
		     const struct config_type *const *types);
/* The same for a file's content; PATH is for messages. */
int config_read_json_bytes(struct config *cfg, const char *path,
			   const void *data, size_t bytes,
			   const struct config_type *const *types);
/*
 * The JSON that config_read_json() reads back: for free(), or NULL (logged).
 */
char *config_json(const struct config *cfg,
		  const struct config_type *const *types);
/* The same on FD. 0 or -errno. */
int config_write_json(const struct config *cfg, int fd,
		      const struct config_type *const *types);

/*
 * A device's values, after config_check(): these cannot fail. A missing key
 * gives NULL, false, or the default.
 */
const char *config_text(const struct config_device *dev, const char *key);
bool config_flag(const struct config_device *dev, const char *key);
uint64_t config_number(const struct config_device *dev, const char *key,
		       uint64_t fallback); /* CONFIG_SIZE and CONFIG_NUMBER */
/* true and the octets when the key is there. */
bool config_mac(const struct config_device *dev, const char *key,
		uint8_t ret_mac[6]);

#endif
