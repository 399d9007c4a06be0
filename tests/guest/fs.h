/* SPDX-License-Identifier: Apache-2.0 */
/* The test guest's longer runs on a file system; for fs.c. */
#ifndef TESTS_GUEST_FS_H
#define TESTS_GUEST_FS_H

/* fsx:FILE:OPERATIONS:SEED */
int do_fsx(char **arg);
/* tree:DIR:DIRECTORIES:FILES */
int do_tree(char **arg);

#endif
