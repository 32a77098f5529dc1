/* SPDX-License-Identifier: BSD-2-Clause */
/* The inside of the control socket: what a method is. */
#ifndef CORE_CONTROL_CONTROL_INT_H
#define CORE_CONTROL_CONTROL_INT_H

#include <jansson.h>

#include "core/vmwp/worker_int.h"

/* JSON-RPC 2.0 section 5.1 */
enum {
    RPC_PARSE = -32700,
    RPC_INVALID = -32600,
    RPC_NO_METHOD = -32601,
    RPC_PARAMS = -32602,
    RPC_FAILED = -32000, /* the board said no; the message has its reason */
    RPC_BUSY = -32001    /* not now: the same request may be tried again */
};

struct rpc_error {
    int code;
    struct diag diag;
};

/** @return whether the member is absent or a string; then *ret is it, or @def. */
bool rpc_text(json_t *params, const char *key, const char *def, const char **ret,
              struct rpc_error *e);
/** The same for integers from @min to @max. */
bool rpc_int(json_t *params, const char *key, json_int_t min, json_int_t max, json_int_t def,
             json_int_t *ret, struct rpc_error *e);

/* Methods: @return the result, or NULL with *@e set. */
json_t *rpc_screenshot(struct worker *w, json_t *params, struct rpc_error *e);
json_t *rpc_type(struct worker *w, json_t *params, struct rpc_error *e);
json_t *rpc_key(struct worker *w, json_t *params, struct rpc_error *e);
json_t *rpc_pointer(struct worker *w, json_t *params, struct rpc_error *e);

#endif
