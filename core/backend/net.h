/* SPDX-License-Identifier: BSD-2-Clause */
/* Network backends: what is at the other end of a virtual network card.
 *
 *   user         a private network behind this host's sockets (libslirp)
 *   tap:NAME     a TAP interface of the host
 *   switch:PATH  an Ethernet switch between VMs that name the same socket
 *   null         nothing
 *
 * The functions are the provider that vmb_ops wants; see there for threads. */
#ifndef CORE_BACKEND_NET_H
#define CORE_BACKEND_NET_H

#include <stdbool.h>
#include <stddef.h>

#include "vmb/vmb.h"

/** @base_dir: for relative paths; NULL: the current folder. */
int netb_open(const char *base_dir, struct event_base *base, const struct vmb_net_config *cfg,
              bool check_only, const struct vmb_net_sink *sink, void *dev, struct vmb_net **ret,
              struct mobo_net_info *info, char *msg, size_t msg_len);
int netb_send(struct vmb_net *n, const struct mobo_iov *iov, unsigned niov, size_t len);
void netb_ready(struct vmb_net *n);
void netb_close(struct vmb_net *n);

#endif
