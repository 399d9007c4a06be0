/* SPDX-License-Identifier: Apache-2.0 */
/* A START as the "process" of OCI's runtime specification. */
#ifndef FIRMWARE_INIT_OCI_H
#define FIRMWARE_INIT_OCI_H

#include "firmware/init/request.h"
#include "firmware/init/users.h"

#include <stdio.h>

/*
 * The object itself, as `crun exec --process` takes it. ENV ends with NULL.
 * Errors are the file's (ferror).
 */
void oci_print_process(FILE *file, const struct init_start *start,
		       const struct init_user *user, const char *const *env);

/* CONFIG, which has no process, with this one. */
void oci_print_config(FILE *file, const char *config,
		      const struct init_start *start,
		      const struct init_user *user, const char *const *env);

#endif
