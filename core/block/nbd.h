/* SPDX-License-Identifier: BSD-2-Clause */
/* Network block devices as the file below an image. */
#ifndef CORE_BLOCK_NBD_H
#define CORE_BLOCK_NBD_H

#include "core/block/file.h"

/** Connect to nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH or nbds://... (NBD URI
 * specification).  Blocks up to ten seconds.
 * @return 0 with *ret, or -errno with a line; -ENOTSUP without libnbd. */
int bfile_open_nbd(const char *uri, bool read_only, struct bfile **ret, struct diag *diag);
/** Whether a name is such a URI. */
bool block_is_uri(const char *name);

#endif
