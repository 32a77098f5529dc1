/* SPDX-License-Identifier: BSD-2-Clause */
/* See inband.h. */
#include "inband.h"

#include "wire.h"

enum { PACKETS_AT_ONCE = 64 };

/* @return what is wrong with the packet, or NULL. */
static const char *take(const struct inband *in, const struct mobo_vmbus_packet *p)
{
    if (p->type == MOBO_VMBUS_COMPLETION)
        return NULL;
    if (p->type != MOBO_VMBUS_INBAND || p->len < in->least || (in->pipe && wire_get(p->data, 4) != PIPE_DATA))
        return "a message that is none of this protocol";
    if (p->flags & MOBO_VMBUS_WANTS_COMPLETION &&
        in->host->vmbus_send(in->ch, MOBO_VMBUS_COMPLETION, 0, p->transaction, NULL, 0, NULL, 0))
        return "it leaves no room for completions";
    return in->receive(in->ctx, p);
}

int inband_turn(const struct inband *in)
{
    for (unsigned i = 0; i < PACKETS_AT_ONCE; i++) {
        struct mobo_vmbus_packet p = { .size = sizeof(p) };
        const char *wrong;

        if (in->host->vmbus_receive(in->ch, &p))
            return 1;
        wrong = take(in, &p);
        if (wrong) {
            in->host->vmbus_fault(in->ch, wrong);
            return 0;
        }
    }
    in->host->work_post(in->dev, in->again, in->ctx);
    return 0;
}
