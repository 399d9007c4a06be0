/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by config.c and config-json.c, and included by no other file. */
#ifndef VMM_CONFIG_CONFIG_FIELDS_H
#define VMM_CONFIG_CONFIG_FIELDS_H

#include "vmm/config/config.h"

#include <stddef.h>
#include <stdint.h>

/*
 * A member of struct config that is not a device: char * (CONFIG_TEXT),
 * uint64_t (SIZE), unsigned (NUMBER), bool (FLAG) or an enum (CHOICE).
 */
struct config_field {
	const char *name; /* NULL ends the table */
	enum config_kind kind;
	size_t offset;
	const char *choices;
};

const struct config_field *config_fields(void);

const struct config_type *
config_find_type(const char *name, const struct config_type *const *types);

/*
 * A fresh device at cfg->device[cfg->ndevices], not yet counted: the caller
 * counts it or calls config_device_done(). 0, -EINVAL (logged), -ENOMEM.
 */
int config_new_device(struct config *cfg, const struct config_type *type,
		      struct config_device **ret_dev);
int config_device_add_param(struct config_device *dev,
			    const struct config_type *type, const char *key,
			    const char *value);

/* Logs "WHAT 'NAME': did you mean ...", gives -EINVAL. KNOWN: ends with NULL.
 */
int config_unknown(const char *what, const char *name,
		   const char *const *known);

/* The shortest exact form: "256M". */
void config_format_size(char ret_text[24], uint64_t bytes);

#endif
