/* SPDX-License-Identifier: BSD-2-Clause */
/* Disk backends: images behind storage devices, worked on by a few threads.
 *
 * The functions are the provider that vmb_ops wants; see there for threads. */
#ifndef CORE_BACKEND_DISK_H
#define CORE_BACKEND_DISK_H

#include <stdbool.h>
#include <stddef.h>

#include "vmb/vmb.h"

/** @spec: PATH (or the URI of a network block device)[,ro][,cdrom][,direct][,sector=4096]; see block_open() in <mobo/vdev.h>. */
int disk_open(const char *spec, uint32_t flags, bool check_only, const struct vmb_block_sink *sink,
              void *block, struct vmb_disk **ret, struct mobo_block_info *info, char *msg,
              size_t msg_len);
void disk_submit(struct vmb_disk *d, struct mobo_block_req *req);
void disk_hurry(struct vmb_disk *d, bool on);
void disk_close(struct vmb_disk *d);

#endif
