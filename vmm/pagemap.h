/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bits that /proc/PID/pagemap has of each page of a process (Linux:
 * Documentation/admin-guide/mm/pagemap).
 */
#ifndef VMM_PAGEMAP_H
#define VMM_PAGEMAP_H

#include <stdint.h>

#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
/* It is a file's, or shared: in a private mapping, not written to so far. */
#define PAGEMAP_FILE (UINT64_C(1) << 61)

/*
 * Opens this process's, as one without CAP_SYS_ADMIN does: without the numbers
 * of the host's frames, which whoever opened it with that reads for ever. A
 * descriptor or -errno, not logged. Any thread.
 */
int pagemap_open(void);

#endif
