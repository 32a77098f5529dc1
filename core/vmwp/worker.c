/* SPDX-License-Identifier: BSD-2-Clause */
/* The VM worker: one VM in the foreground of this process.
 *
 * The calling thread becomes the control thread: it alone creates, resets, pauses and ends the
 * board.  Requests of the guest, terminal commands, signals, the timeout and the control socket all
 * arrive as events on its loop. */
#include "core/vmwp/worker_int.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "core/log/log.h"

static const int end_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- ends ------------------------------------------------------------------------------------ */

void worker_end(struct worker *w, int status)
{
    if (w->ended)
        return;
    w->ended = true;
    w->status = status;
    event_base_loopbreak(w->base);
}

static void host_error(struct worker *w, const char *text)
{
    log_write(LOGL_ERROR, NULL, "%s", text);
    worker_end(w, STATUS_HOST);
}

int worker_reset(struct worker *w, struct diag *diag)
{
    char msg[VMB_MSG_LEN] = "";
    int err = vmb_reset(w->vmb, msg, sizeof(msg));

    if (err)
        return diag_set(diag, err, "reset: %s", msg[0] ? msg : strerror(-err));
    w->resets++; /* what was paused stays so: resume, or space on the host, has it go on */
    control_notify(w->control, "reset", 0);
    return 0;
}

static void guest_reset(struct worker *w, const char *from)
{
    struct diag diag = { "" };

    if (w->opt->no_reboot) {
        log_write(LOGL_INFO, from, "the guest reset");
        worker_end(w, STATUS_RESET);
        return;
    }
    log_write(LOGL_INFO, from, "reset");
    if (worker_reset(w, &diag))
        host_error(w, diag.text);
}

static const struct timeval space_again = { 5, 0 };

/* Time to try again: if it fails once more, the same request comes. */
static void on_space(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;

    (void)fd;
    (void)what;
    if (w->ended || !w->no_space)
        return;
    if (!w->paused) { /* it has gone well since the last try */
        w->no_space = false;
        log_write(LOGL_INFO, NULL, "the disk images %s",
                  w->disk_lost ? "can be reached again" : "have space again");
        control_notify(w->control, "running", 0);
    } else if (!vmb_resume(w->vmb)) {
        w->paused = false;
        event_add(w->ev_space, &space_again);
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

static void act_command(struct worker *w, int command)
{
    switch (command) {
    case BACKEND_QUIT:
        log_write(LOGL_INFO, NULL, "ended from the terminal");
        worker_end(w, STATUS_OK);
        break;
    case BACKEND_POWER_BUTTON: vmb_event(w->vmb, MOBO_EVENT_POWER_BUTTON); break;
    case BACKEND_RESET: {
        struct diag diag = { "" };
        if (worker_reset(w, &diag))
            host_error(w, diag.text);
        break;
    }
    }
}

/* A disk image cannot grow, or its server is out of reach: stand still until that has changed.  It is
 * tried again now and then. */
static void no_space(struct worker *w, const char *from, const char *what, bool away)
{
    if (w->paused && !w->no_space)
        return; /* by somebody, who will resume it */
    if (!w->no_space) {
        log_write(LOGL_ERROR, from, "%s: %s", what,
                  away ? "the server of the image cannot be reached: the VM is paused; it goes on "
                         "when it is back"
                       : "no space left on the host for the image: the VM is paused; it goes on "
                         "when there is space");
        control_notify(w->control, away ? "disk-lost" : "no-space", 0);
        w->disk_lost = away;
    }
    if (!w->paused && vmb_pause(w->vmb))
        return;
    w->paused = w->no_space = true;
    if (!w->ev_space)
        w->ev_space = event_new(w->base, -1, 0, on_space, w);
    if (w->ev_space)
        event_add(w->ev_space, &space_again);
}

static void act(struct worker *w, const struct worker_req *r)
{
    const char *text = r->text ? r->text : "";

    if (r->command) {
        act_command(w, r->command);
        return;
    }
    switch (r->kind) {
    case VMB_REQ_POWEROFF:
        log_write(LOGL_INFO, r->from, "power-off%s%s", *text ? ": " : "", text);
        worker_end(w, STATUS_OK);
        break;
    case VMB_REQ_RESET: guest_reset(w, r->from); break;
    case VMB_REQ_SUSPEND:
        log_write(LOGL_WARNING, r->from, "the guest wants to suspend; not available yet");
        break;
    case VMB_REQ_EXIT:
        log_write(LOGL_INFO, r->from, "exit with status %u%s%s", r->code, *text ? ": " : "", text);
        worker_end(w, (int)(r->code & 0xff));
        break;
    case VMB_REQ_NO_SPACE: no_space(w, r->from, text, false); break;
    case VMB_REQ_DISK_LOST: no_space(w, r->from, text, true); break;
    case VMB_REQ_CRASH:
        log_write(LOGL_ERROR, r->from,
                  "the guest crashed%s%s (parameters 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx)",
                  *text ? ": " : "", text, (unsigned long long)r->param[0],
                  (unsigned long long)r->param[1], (unsigned long long)r->param[2],
                  (unsigned long long)r->param[3], (unsigned long long)r->param[4]);
        if (r->dump)
            log_block(LOGL_ERROR, r->from, r->dump);
        worker_end(w, STATUS_CRASH);
        break;
    case VMB_REQ_TRIPLE_FAULT:
        log_write(LOGL_ERROR, r->from, "%s", *text ? text : "triple fault");
        if (r->dump)
            log_block(LOGL_ERROR, r->from, r->dump);
        worker_end(w, STATUS_CRASH);
        break;
    case VMB_REQ_ERROR:
        log_write(LOGL_ERROR, r->from, "%s", *text ? text : "the engine cannot go on");
        if (r->dump)
            log_block(LOGL_ERROR, r->from, r->dump);
        worker_end(w, STATUS_HOST);
        break;
    }
}

int worker_pending(struct worker *w, struct diag *diag)
{
    bool reset = false, end = false;

    pthread_mutex_lock(&w->lock);
    for (const struct worker_req *r = w->head; r; r = r->next) {
        if (r->command)
            continue;
        switch (r->kind) {
        case VMB_REQ_SUSPEND:
        case VMB_REQ_NO_SPACE:
        case VMB_REQ_DISK_LOST: break;
        case VMB_REQ_RESET: reset = true; break;
        default: end = true;
        }
    }
    pthread_mutex_unlock(&w->lock);
    if (end || (reset && w->opt->no_reboot))
        return diag_set(diag, -ECANCELED, "the VM has just ended");
    return reset ? diag_set(diag, -EAGAIN, "the guest has just reset: try again") : 0;
}

static void on_queue(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;
    struct worker_req *r, *next;

    (void)fd;
    (void)what;
    pthread_mutex_lock(&w->lock);
    r = w->head;
    w->head = NULL;
    w->tail = &w->head;
    pthread_mutex_unlock(&w->lock);
    for (; r; r = next) {
        next = r->next;
        if (!w->ended)
            act(w, r);
        free(r->text);
        free(r->dump);
        free(r);
    }
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;

    (void)fd;
    (void)what;
    log_write(LOGL_ERROR, NULL, "timeout: the VM ran for %g s", w->opt->timeout_s);
    worker_end(w, STATUS_TIMEOUT);
}

/* ---- signals --------------------------------------------------------------------------------- */

/* A second signal, while the end takes too long. */
static void at_once(int sig)
{
    tty_restore();
    _exit(STATUS_SIGNAL + sig);
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;
    struct signalfd_siginfo si;

    (void)what;
    if (read(fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
        return;
    log_write(LOGL_INFO, NULL, "ended by signal %u", si.ssi_signo);
    worker_end(w, STATUS_SIGNAL + (int)si.ssi_signo);
}

/* Blocked before any thread is made, so that this thread alone hears of them. */
static int signals_init(struct worker *w)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < COUNT(end_signals); i++)
        sigaddset(&set, end_signals[i]);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    w->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (w->signal_fd < 0)
        return -errno;
    w->ev_signal = event_new(w->base, w->signal_fd, EV_READ | EV_PERSIST, on_signal, w);
    return w->ev_signal && event_add(w->ev_signal, NULL) == 0 ? 0 : -ENOMEM;
}

static void signals_at_once(void)
{
    struct sigaction sa = { .sa_handler = at_once };
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < COUNT(end_signals); i++) {
        sigaction(end_signals[i], &sa, NULL);
        sigaddset(&set, end_signals[i]);
    }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* What only the engine counts. */
static void engine_counter(void *ctx, const char *name, uint64_t val)
{
    fprintf(stderr, "mobo: stats: vp %u %s %llu\n", *(const unsigned *)ctx, name, (unsigned long long)val);
}

void worker_stats_log(struct worker *w)
{
    struct hv_partition *p = vmb_partition(w->vmb);
    uint64_t first = hv_first_insn_ns(p), wall = now_ns() - w->start_ns;

    fprintf(stderr, "mobo: stats: engine %s, %u processor%s, %.3f s\n", hv_partition_engine(p),
            hv_partition_vps(p), hv_partition_vps(p) == 1 ? "" : "s", (double)wall / 1e9);
    if (first)
        fprintf(stderr, "mobo: stats: first instruction after %.3f ms\n",
                (double)(first - w->start_ns) / 1e6);
    for (int c = 0; c < HV_CTR_COUNT; c++) {
        uint64_t sum = 0;
        for (unsigned vp = 0; vp < hv_partition_vps(p); vp++)
            sum += hv_counter_get(p, vp, (enum hv_counter)c);
        if (!sum && c >= HV_CTR_VMEXITS) /* of hardware virtualization */
            continue;
        sum = 0;
        fprintf(stderr, "mobo: stats: %-14s", hv_counter_name((enum hv_counter)c));
        for (unsigned vp = 0; vp < hv_partition_vps(p); vp++) {
            uint64_t v = hv_counter_get(p, vp, (enum hv_counter)c);
            sum += v;
            if (hv_partition_vps(p) > 1)
                fprintf(stderr, " %llu", (unsigned long long)v);
        }
        fprintf(stderr, "%s%llu\n", hv_partition_vps(p) > 1 ? "  total " : " ",
                (unsigned long long)sum);
    }
    if (!strcmp(hv_partition_engine(p), "jit"))
        for (unsigned vp = 0; vp < hv_partition_vps(p); vp++)
            hv_engine_counters(p, vp, engine_counter, &vp);
}

static int fini(struct worker *w, int status)
{
    control_close(w->control);
    vmb_destroy(w->vmb);
    loader_close(w->loader);
    tty_restore();
    if (w->ev_queue)
        on_queue(-1, 0, w); /* `ended` is set: frees what came last */
    if (w->ev_signal)
        event_free(w->ev_signal);
    if (w->ev_timeout)
        event_free(w->ev_timeout);
    if (w->ev_space)
        event_free(w->ev_space);
    if (w->ev_queue)
        event_free(w->ev_queue);
    if (w->base)
        event_base_free(w->base);
    if (w->signal_fd >= 0)
        close(w->signal_fd);
    pthread_mutex_destroy(&w->lock);
    return status;
}

static int init(struct worker *w, const struct worker_options *opt)
{
    *w = (struct worker){ .opt = opt, .c = opt->config, .signal_fd = -1, .start_ns = now_ns() };
    w->tail = &w->head;
    pthread_mutex_init(&w->lock, NULL);
    if (evthread_use_pthreads())
        return -ENOMEM;
    w->base = event_base_new();
    w->ev_queue = w->base ? event_new(w->base, -1, EV_PERSIST, on_queue, w) : NULL;
    return w->ev_queue ? 0 : -ENOMEM;
}

int worker_check(const struct worker_options *opt, struct diag *diag)
{
    struct worker w;
    int status = STATUS_HOST;

    if (init(&w, opt))
        diag_set(diag, -ENOMEM, "no memory");
    else
        status = worker_board_create(&w, true, diag);
    w.ended = true;
    return fini(&w, status);
}

static int power_on(struct worker *w, struct diag *diag)
{
    char msg[VMB_MSG_LEN] = "";
    int err = vmb_power_on(w->vmb, msg, sizeof(msg));

    return err ? diag_set(diag, err, "%s", msg[0] ? msg : strerror(-err)) : 0;
}

int worker_run(const struct worker_options *opt)
{
    struct worker w;
    struct diag diag = { "" };
    struct state_file *state = NULL;
    int err, status;

    tty_guard();
    err = init(&w, opt);
    if (!err)
        err = signals_init(&w);
    if (err) {
        log_write(LOGL_ERROR, NULL, "cannot start: %s", strerror(-err));
        w.ended = true;
        return fini(&w, STATUS_HOST);
    }
    status = STATUS_HOST;
    if (privilege_setup(&diag) == 0 && (!opt->restore || state_open(opt->restore, &state, &diag) == 0))
        status = worker_board_create(&w, false, &diag);
    if (status == STATUS_OK && opt->control && control_open(&w, opt->control, &w.control, &diag))
        status = STATUS_HOST;
    if (status == STATUS_OK && privilege_drop(&diag))
        status = STATUS_HOST;
    if (status != STATUS_OK) {
        state_close(state);
        w.ended = true;
        fini(&w, status); /* the terminal first, then the message */
        log_write(LOGL_ERROR, NULL, "%s", diag.text);
        return status;
    }
    if (opt->timeout_s > 0) {
        struct timeval tv = { (time_t)opt->timeout_s,
                              (suseconds_t)((opt->timeout_s - (double)(time_t)opt->timeout_s) *
                                            1e6) };
        w.ev_timeout = event_new(w.base, -1, 0, on_timeout, &w);
        if (w.ev_timeout)
            event_add(w.ev_timeout, &tv);
    }
    err = state ? worker_restore(&w, state, &diag) : power_on(&w, &diag);
    state_close(state);
    if (!err && (err = display_start(&w.displays))) /* viewers come when the devices are all there */
        diag_set(&diag, err, "cannot start the VNC server: %s", strerror(-err));
    if (err) {
        w.ended = true;
        fini(&w, STATUS_HOST);
        log_write(LOGL_ERROR, NULL, "%s", diag.text);
        return STATUS_HOST;
    }
    w.running = true;
    log_write(LOGL_INFO, NULL, "'%s' %s: %s, %u processor%s, engine %s", w.c->vm_name,
              opt->restore ? "goes on" : "runs", DIAG_SIZE(w.c->memory), w.c->processors, w.c->processors == 1 ? "" : "s",
              hv_partition_engine(vmb_partition(w.vmb)));
    while (!w.ended)
        if (event_base_loop(w.base, EVLOOP_NO_EXIT_ON_EMPTY) < 0)
            host_error(&w, "the event loop failed");
    signals_at_once();
    control_notify(w.control, "ended", w.status);
    vmb_power_off(w.vmb);
    w.running = false;
    if (opt->stats) {
        tty_restore();
        worker_stats_log(&w);
    }
    return fini(&w, w.status);
}
