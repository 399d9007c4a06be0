/* SPDX-License-Identifier: Apache-2.0 */
/* A seccomp profile in Docker's format, for one container. */
#ifndef TOOLS_CONTAINER_OCI_SECCOMP_H
#define TOOLS_CONTAINER_OCI_SECCOMP_H

#include <jansson.h>
#include <stdint.h>

/*
 * The profile at PATH as "linux.seccomp" of config.json: what it says of other
 * architectures, kernels and capabilities than those of CAPS is left out. A new
 * object, or NULL (logged).
 */
json_t *oci_seccomp_load(const char *path, uint64_t caps);

#endif
