/* SPDX-License-Identifier: BSD-2-Clause */
/* The threads of the virtual processors.
 *
 * All threads follow run.mode: parked (they wait here), going (they are in hv_vp_run) or exiting.
 * A request that ends the run (reset, power-off, a crash) holds the VPs at once, so that a guest
 * does not run on until the control thread has come round to it. */
#include "vmb/board.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

struct vp_arg {
    struct vmb *v;
    unsigned vp;
};

static void kick_all(struct vmb *v)
{
    for (unsigned i = 0; i < v->vps; i++)
        hv_vp_cancel(v->part, i);
}

void vp_request(struct vmb *v, const struct vmb_request *req)
{
    bool first = true;

    if (req->kind != VMB_REQ_SUSPEND) {
        pthread_mutex_lock(&v->run.lock);
        first = !v->run.held;
        v->run.held = true;
        if (v->run.mode == RUN_GO)
            v->run.mode = RUN_PARK;
        pthread_mutex_unlock(&v->run.lock);
        kick_all(v);
    }
    if (first)
        v->ops->request(v->ctx, req);
}

static void handle_exit(struct vmb *v, unsigned vp, const struct hv_exit *x)
{
    char from[16], dump[8192];
    struct vmb_request req = { .from = from, .text = x->text, .dump = "" };

    snprintf(from, sizeof(from), "vp %u", vp);
    memcpy(req.param, x->param, sizeof(req.param));
    switch (x->reason) {
    case HV_EXIT_CANCELED: return;
    case HV_EXIT_RESET: req.kind = VMB_REQ_RESET; break;
    case HV_EXIT_CRASH: req.kind = VMB_REQ_CRASH; break;
    case HV_EXIT_TRIPLE_FAULT: req.kind = VMB_REQ_TRIPLE_FAULT; break;
    case HV_EXIT_ERROR:
    default: req.kind = VMB_REQ_ERROR; break;
    }
    if (req.kind != VMB_REQ_RESET && hv_vp_dump(v->part, vp, dump, sizeof(dump)) > 0)
        req.dump = dump;
    vp_request(v, &req);
}

static void *vp_main(void *arg)
{
    struct vmb *v = ((struct vp_arg *)arg)->v;
    unsigned vp = ((struct vp_arg *)arg)->vp;
    struct run *r = &v->run;
    struct hv_exit x;

    pthread_mutex_lock(&r->lock);
    r->started++; /* arg is the creator's until now */
    pthread_cond_broadcast(&r->cond);
    for (;;) {
        int err;

        while (r->mode == RUN_PARK) {
            r->parked++;
            pthread_cond_broadcast(&r->cond);
            pthread_cond_wait(&r->cond, &r->lock);
            r->parked--;
        }
        if (r->mode == RUN_EXIT)
            break;
        pthread_mutex_unlock(&r->lock);
        memset(&x, 0, sizeof(x));
        err = hv_vp_run(v->part, vp, &x);
        if (err) {
            x.reason = HV_EXIT_ERROR;
            snprintf(x.text, sizeof(x.text), "%s", hv_last_error());
        }
        handle_exit(v, vp, &x);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

int vp_start(struct vmb *v)
{
    struct run *r = &v->run;
    sigset_t old;
    int err = 0;

    r->mode = RUN_PARK;
    r->parked = r->started = 0;
    board_block_signals(&old);
    for (unsigned i = 0; i < v->vps && !err; i++) {
        struct vp_arg arg = { v, i };
        char name[24];

        err = pthread_create(&r->thread[i], NULL, vp_main, &arg);
        if (err)
            break;
        snprintf(name, sizeof(name), "mobo-vp%u", i);
        pthread_setname_np(r->thread[i], name);
        pthread_mutex_lock(&r->lock);
        while (r->started <= i)
            pthread_cond_wait(&r->cond, &r->lock);
        pthread_mutex_unlock(&r->lock);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (err)
        vp_join(v);
    return -err;
}

void vp_park(struct vmb *v)
{
    struct run *r = &v->run;

    pthread_mutex_lock(&r->lock);
    if (r->mode == RUN_GO)
        r->mode = RUN_PARK;
    pthread_mutex_unlock(&r->lock);
    kick_all(v);
    pthread_mutex_lock(&r->lock);
    while (r->mode == RUN_PARK && r->parked < r->started)
        pthread_cond_wait(&r->cond, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

void vp_go(struct vmb *v)
{
    struct run *r = &v->run;

    pthread_mutex_lock(&r->lock);
    if (r->mode == RUN_PARK && !r->held) {
        r->mode = RUN_GO;
        pthread_cond_broadcast(&r->cond);
    }
    pthread_mutex_unlock(&r->lock);
}

void vp_release(struct vmb *v)
{
    pthread_mutex_lock(&v->run.lock);
    v->run.held = false;
    pthread_mutex_unlock(&v->run.lock);
}

void vp_join(struct vmb *v)
{
    struct run *r = &v->run;
    unsigned n;

    pthread_mutex_lock(&r->lock);
    n = r->started;
    r->mode = RUN_EXIT;
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->lock);
    kick_all(v);
    for (unsigned i = 0; i < n; i++)
        pthread_join(r->thread[i], NULL);
    r->started = r->parked = 0;
    r->mode = RUN_OFF;
}
