/* SPDX-License-Identifier: BSD-2-Clause */
/* The VM worker: builds a board from a VM description, runs it, and says how it ended. */
#ifndef CORE_VMWP_WORKER_H
#define CORE_VMWP_WORKER_H

#include "core/config/config.h"

/* Exit statuses of `mobo run`; a debug-exit device gives others. */
enum worker_status {
    STATUS_OK = 0,
    STATUS_CONFIG = 1, /* bad usage or configuration */
    STATUS_HOST = 2,   /* a file, memory, a plug-in */
    STATUS_CRASH = 3,  /* triple fault, or a crash that the guest reported */
    STATUS_RESET = 4,  /* the guest reset, and --no-reboot */
    STATUS_SAVED = 5,  /* the VM is in a file now, and can be restored */
    STATUS_TIMEOUT = 124,
    STATUS_SIGNAL = 128 /* plus the number of the signal */
};

struct worker_options {
    const struct config *config;
    const char *const *vdev_dirs; /* NULL-terminated */
    const char *control;          /* path of the control socket, or NULL */
    const char *restore;          /* path of a saved state to start from, or NULL */
    const char *check;            /* hv_config.check, or NULL */
    bool jit_trace;               /* likewise hv_config.jit_trace */
    const char *jit_dump, *symbols; /* likewise */
    double timeout_s;             /* 0: none */
    bool no_reboot;
    bool stats; /* counters at the end */
};

/** Run the VM in the foreground until it ends.  Messages go to the log.  @return exit status. */
int worker_run(const struct worker_options *opt);

/** Everything that worker_run() checks before it starts.  @return exit status, with a sentence when
 * it is not 0. */
int worker_check(const struct worker_options *opt, struct diag *diag);

/** The folders to look for plug-ins in: --vdev-path, MOBO_VDEV_PATH, the build tree that the
 * program runs from, else where `make install` put them.
 * @return NULL-terminated, owned by the caller. */
char **worker_vdev_dirs(const char *const *given, size_t ngiven);
void worker_vdev_dirs_free(char **dirs);

#endif
