/* SPDX-License-Identifier: BSD-2-Clause */
/* The inside of the worker: what its files share. */
#ifndef CORE_VMWP_WORKER_INT_H
#define CORE_VMWP_WORKER_INT_H

#include <pthread.h>

#include "core/backend/backend.h"
#include "core/display/display.h"
#include "core/loader/loader.h"
#include "core/state/state.h"
#include "core/vmwp/worker.h"
#include "vmb/vmb.h"

struct event;
struct control;

/* Something that the control thread has to act on. */
struct worker_req {
    struct worker_req *next;
    enum vmb_request_kind kind; /* or a command, see below */
    int command;                /* enum backend_command, 0: a request of the board */
    unsigned code;
    char from[40];
    char *text, *dump; /* owned, may be NULL */
    uint64_t param[5];
};

struct worker {
    const struct worker_options *opt;
    const struct config *c;
    struct vmb *vmb;
    struct loader *loader;
    struct backend_env env;
    struct display_env displays;

    /* control thread */
    struct event_base *base;
    struct event *ev_queue, *ev_timeout, *ev_signal;
    struct event *ev_space; /* a disk is full: try again */
    bool no_space;          /* that, or a lost disk, is why it is paused */
    bool disk_lost;         /* the latter */
    int signal_fd;
    struct control *control;
    bool running, paused, ended;
    int status;
    uint64_t start_ns; /* CLOCK_MONOTONIC at worker_run() */
    unsigned resets;
    uint32_t buttons; /* of the mouse, that the control socket holds */

    pthread_mutex_t lock; /* a leaf; the queue */
    struct worker_req *head, **tail;
};

/* board.c */
int worker_board_create(struct worker *w, bool check_only, struct diag *diag);

/* worker.c; control thread */
void worker_end(struct worker *w, int status);
int worker_reset(struct worker *w, struct diag *diag);
/** Of a paused VM: has the guest reset or ended, and it is not served yet?  @return 0, or -errno with a sentence. */
int worker_pending(struct worker *w, struct diag *diag);
void worker_stats_log(struct worker *w);

/* save.c; control thread */
/** Pause and write the VM to @path.  After it the VM is to end: what it did later would be lost, but on
 * its disks.  On failure it goes on as before.  @return 0, or -errno with a sentence. */
int worker_save(struct worker *w, const char *path, struct diag *diag);
/** In place of vmb_power_on(): from @f, and running. */
int worker_restore(struct worker *w, struct state_file *f, struct diag *diag);

/* privilege.c */
/** Give up what setting up does not need; then, when all is open, the rest. */
int privilege_setup(struct diag *diag);
int privilege_drop(struct diag *diag);

/* core/control/control.c */
int control_open(struct worker *w, const char *path, struct control **ret, struct diag *diag);
void control_close(struct control *c);
/** Tell every client: "ended", "reset", "paused" ... */
void control_notify(struct control *c, const char *event, int status);

#endif
