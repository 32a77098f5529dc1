/* SPDX-License-Identifier: BSD-2-Clause */
/* A command's end of a VM's control socket: JSON-RPC 2.0, one object a line. */
#ifndef CORE_CLI_CLIENT_H
#define CORE_CLI_CLIENT_H

#include <jansson.h>
#include <stdio.h>

struct client {
    FILE *in;
    int id; /* of the last request */
};

/** Connect to the socket @path.  @return 0, negative errno; then there is nothing to close. */
int client_open(struct client *c, const char *path);
void client_close(struct client *c);
/** An answer that takes longer than @seconds counts as none. */
void client_patience(struct client *c, unsigned seconds);

/** Call a method and wait for its answer; events and other answers are passed over.
 * @param params taken over; NULL: none.
 * @param error what the VM refuses with, owned by the caller; NULL when there was no answer.
 * @return the result, owned by the caller, or NULL. */
json_t *client_call(struct client *c, const char *method, json_t *params, json_t **error);

#endif
