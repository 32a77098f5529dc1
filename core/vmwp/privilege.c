/* SPDX-License-Identifier: BSD-2-Clause */
/* What the worker may do: a guest that breaks out finds as little as possible.
 *
 * Capabilities belong to threads, so they go before threads are made: all but the right to open the
 * files that the description names before the board exists, the rest before VPs and the I/O thread
 * start. */
#include <cap-ng.h>
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/log/log.h"
#include "core/vmwp/worker_int.h"

static int apply(bool keep_files, struct diag *diag)
{
    capng_get_caps_process();
    capng_clear(CAPNG_SELECT_BOTH);
    if (keep_files)
        capng_updatev(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_DAC_OVERRIDE,
                      CAP_DAC_READ_SEARCH, -1);
    /* the bounding set needs a capability of its own, which containers may lack */
    if (keep_files && capng_apply(CAPNG_SELECT_BOUNDS))
        log_write(LOGL_DEBUG, "privilege", "the bounding set stays as it is");
    if (capng_apply(CAPNG_SELECT_CAPS))
        return diag_set(diag, -EPERM, "cannot drop capabilities");
    return 0;
}

int privilege_setup(struct diag *diag)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return diag_set(diag, -errno, "cannot set no_new_privs: %s", strerror(errno));
    capng_get_caps_process();
    if (capng_have_capabilities(CAPNG_SELECT_CAPS) == CAPNG_NONE)
        return 0;
    return apply(true, diag);
}

int privilege_drop(struct diag *diag)
{
    capng_get_caps_process();
    if (capng_have_capabilities(CAPNG_SELECT_CAPS) == CAPNG_NONE)
        return 0;
    return apply(false, diag);
}
