/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A header of a tar archive, for its reader and its writer, and included by no
 * other file.
 */
#ifndef FIRMWARE_ARCHIVE_TAR_HEADER_H
#define FIRMWARE_ARCHIVE_TAR_HEADER_H

#define BLOCK 512

/* pax, "ustar Interchange Format" */
struct header {
	char name[100];
	char mode[8];
	char uid[8];
	char gid[8];
	char size[12];
	char mtime[12];
	char checksum[8];
	char type;
	char linkname[100];
	char magic[6];
	char version[2];
	char uname[32];
	char gname[32];
	char devmajor[8];
	char devminor[8];
	char prefix[155];
	char pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is one block");

#endif
