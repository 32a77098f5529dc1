/* SPDX-License-Identifier: BSD-2-Clause */
/* The worker's control socket: JSON-RPC 2.0 on a Unix socket, one object a line.
 *
 * Methods: status, inspect {device}, stats, pause, resume, reset, power-button, turn-off, save {file},
 * shutdown {reboot, force, text}, command {device or type, command, argument}; screenshot, type, key and
 * pointer are in screen.c.
 * Notifications to every client: {"method": "event", "params": {"event": "reset" ...}}.
 * Everything runs on the control thread.  Reference: JSON-RPC 2.0 Specification. */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/control/control_int.h"
#include "core/log/log.h"
#include "sdk/lib/inspect.h"

enum { REQUEST_MAX = 64 << 10, OUTPUT_MAX = 16 << 20, CLIENTS_MAX = 16, DEPTH_MAX = 32 };

struct client {
    struct client *next;
    struct control *control;
    struct bufferevent *bev;
};

struct control {
    struct worker *w;
    char *path;
    int fd;
    struct event *ev;
    struct client *clients;
    unsigned nclients;
};

/* ---- JSON ------------------------------------------------------------------------------------ */

/* Any text; bytes that are not UTF-8 become '?'. */
static json_t *json_text(const char *text)
{
    json_t *s = json_string(text ? text : "");
    char *copy;

    if (s)
        return s;
    copy = strdup(text);
    for (char *c = copy; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    s = json_string(copy ? copy : "");
    free(copy);
    return s;
}

/* JSON integers are signed here; larger ones become hexadecimal text. */
static json_t *json_uint(uint64_t v)
{
    char text[24];

    if (v <= INT64_MAX)
        return json_integer((json_int_t)v);
    snprintf(text, sizeof(text), "0x%llx", (unsigned long long)v);
    return json_string(text);
}

struct tree {
    json_t *at[DEPTH_MAX];
    unsigned depth; /* deeper levels are left out */
};

static json_t *tree_top(struct tree *t)
{
    return t->depth < DEPTH_MAX ? t->at[t->depth] : NULL;
}

static void tree_begin(void *ctx, const char *name)
{
    struct tree *t = ctx;
    json_t *o = json_object(), *top = tree_top(t);

    if (top && o)
        json_object_set_new(top, name, json_incref(o));
    t->depth++;
    if (t->depth < DEPTH_MAX)
        t->at[t->depth] = o; /* borrowed from its parent */
    json_decref(o);
}

static void tree_end(void *ctx)
{
    struct tree *t = ctx;

    if (t->depth)
        t->depth--;
}

static void tree_uint(void *ctx, const char *name, uint64_t val, unsigned width)
{
    json_t *top = tree_top(ctx);

    (void)width;
    if (top)
        json_object_set_new(top, name, json_uint(val));
}

static void tree_str(void *ctx, const char *name, const char *text)
{
    json_t *top = tree_top(ctx);

    if (top)
        json_object_set_new(top, name, json_text(text));
}

static void tree_array(void *ctx, const char *name, const void *buf, unsigned elem, unsigned count)
{
    json_t *top = tree_top(ctx), *list;
    const uint8_t *p = buf;

    if (!top)
        return;
    if (elem != 2 && elem != 4 && elem != 8) {
        size_t n = (size_t)elem * count;
        char *hex = calloc(1, 2 * n + 1);
        for (size_t i = 0; hex && i < n; i++)
            sprintf(hex + 2 * i, "%02x", p[i]);
        json_object_set_new(top, name, json_string(hex ? hex : ""));
        free(hex);
        return;
    }
    list = json_array();
    for (unsigned i = 0; i < count; i++) {
        uint64_t v = 0;
        memcpy(&v, p + (size_t)i * elem, elem);
        json_array_append_new(list, json_uint(v));
    }
    json_object_set_new(top, name, list);
}

/* ---- methods --------------------------------------------------------------------------------- */

static double seconds_since(uint64_t start_ns)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)((uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec - start_ns) / 1e9;
}

static json_t *do_status(struct worker *w, json_t *params, struct rpc_error *e)
{
    const char *state = w->ended      ? "ended"
                        : !w->running ? "starting"
                        : w->paused   ? "paused"
                                      : "running";

    (void)params;
    (void)e;
    return json_pack("{s:o, s:s, s:s, s:o, s:i, s:f, s:i, s:i}", "name", json_text(w->c->vm_name),
                     "state", state, "engine", hv_partition_engine(vmb_partition(w->vmb)), "memory",
                     json_uint(w->c->memory), "processors", (int)w->c->processors, "uptime",
                     seconds_since(w->start_ns), "resets", (int)w->resets, "pid", (int)getpid());
}

static void engine_counter(void *ctx, const char *name, uint64_t val)
{
    json_object_set_new(ctx, name, json_uint(val));
}

static json_t *do_stats(struct worker *w, json_t *params, struct rpc_error *e)
{
    struct hv_partition *p = vmb_partition(w->vmb);
    json_t *list = json_array(), *engine;

    (void)params;
    (void)e;
    for (unsigned vp = 0; vp < hv_partition_vps(p); vp++) {
        json_t *o = json_object();
        for (int c = 0; c < HV_CTR_COUNT; c++)
            json_object_set_new(o, hv_counter_name((enum hv_counter)c),
                                json_uint(hv_counter_get(p, vp, (enum hv_counter)c)));
        engine = json_object();
        hv_engine_counters(p, vp, engine_counter, engine);
        if (json_object_size(engine))
            json_object_set(o, strcmp(hv_partition_engine(p), "kvm") ? hv_partition_engine(p) : "kernel", engine);
        json_decref(engine);
        json_array_append_new(list, o);
    }
    return json_pack("{s:f, s:o, s:o}", "uptime", seconds_since(w->start_ns), "guest_time_ns", json_uint(hv_time_ns(p)),
                     "processors", list);
}

static json_t *do_inspect(struct worker *w, json_t *params, struct rpc_error *e)
{
    struct tree tree = { .depth = 0 };
    struct mobo_inspect out = { .ctx = &tree,
                                .begin = tree_begin,
                                .end = tree_end,
                                .uint = tree_uint,
                                .str = tree_str,
                                .array = tree_array };
    json_t *name = json_object_get(params, "device"), *root = json_object();
    int err;

    if (name && !json_is_string(name)) {
        json_decref(root);
        e->code = RPC_PARAMS;
        diag_set(&e->diag, 0, "'device' is not a string");
        return NULL;
    }
    tree.at[0] = root;
    err = vmb_inspect(w->vmb, name ? json_string_value(name) : NULL, &out);
    if (!err)
        return root;
    json_decref(root);
    e->code = RPC_FAILED;
    diag_set(&e->diag, 0, "no device '%s'", name ? json_string_value(name) : "");
    return NULL;
}

static json_t *board_did(int err, const char *what, struct rpc_error *e)
{
    if (!err)
        return json_object();
    e->code = RPC_FAILED;
    diag_set(&e->diag, err, "%s: %s", what, strerror(-err));
    return NULL;
}

static json_t *do_pause(struct worker *w, json_t *params, struct rpc_error *e)
{
    bool already = w->paused && !w->no_space; /* with no_space it would go on by itself */
    int err = w->paused ? 0 : vmb_pause(w->vmb);

    (void)params;
    if (!err && !already) {
        w->paused = true;
        w->no_space = false;
        control_notify(w->control, "paused", 0);
    }
    return board_did(err, "pause", e);
}

static json_t *do_resume(struct worker *w, json_t *params, struct rpc_error *e)
{
    int err = w->paused ? vmb_resume(w->vmb) : 0;

    (void)params;
    w->no_space = false; /* whoever says this hears of it if there is still none */
    if (!err && w->paused) {
        w->paused = false;
        control_notify(w->control, "running", 0);
    }
    return board_did(err, "resume", e);
}

static json_t *do_reset(struct worker *w, json_t *params, struct rpc_error *e)
{
    (void)params;
    if (worker_reset(w, &e->diag) == 0)
        return json_object();
    e->code = RPC_FAILED;
    log_write(LOGL_ERROR, NULL, "%s", e->diag.text);
    worker_end(w, STATUS_HOST);
    return NULL;
}

static json_t *do_power_button(struct worker *w, json_t *params, struct rpc_error *e)
{
    (void)params;
    (void)e;
    vmb_event(w->vmb, MOBO_EVENT_POWER_BUTTON);
    return json_object();
}

static json_t *do_turn_off(struct worker *w, json_t *params, struct rpc_error *e)
{
    (void)params;
    (void)e;
    log_write(LOGL_INFO, NULL, "turned off through the control socket");
    worker_end(w, STATUS_OK);
    return json_object();
}

bool rpc_text(json_t *params, const char *key, const char *def, const char **ret,
              struct rpc_error *e)
{
    json_t *val = json_object_get(params, key);

    *ret = val ? json_string_value(val) : def;
    if (!val || *ret)
        return true;
    e->code = RPC_PARAMS;
    diag_set(&e->diag, 0, "'%s' is not a string", key);
    return false;
}

bool rpc_int(json_t *params, const char *key, json_int_t min, json_int_t max, json_int_t def,
             json_int_t *ret, struct rpc_error *e)
{
    json_t *val = json_object_get(params, key);

    *ret = val ? json_integer_value(val) : def;
    if (!val || (json_is_integer(val) && *ret >= min && *ret <= max))
        return true;
    e->code = RPC_PARAMS;
    diag_set(&e->diag, 0, "'%s' is not a number from %lld to %lld", key, (long long)min,
             (long long)max);
    return false;
}

/* To a file, and then the end: a VM that went on would change its disks behind the state's back. */
static json_t *do_save(struct worker *w, json_t *params, struct rpc_error *e)
{
    const char *file;

    if (!rpc_text(params, "file", NULL, &file, e))
        return NULL;
    if (!file || !*file) {
        e->code = RPC_PARAMS;
        diag_set(&e->diag, 0, "'file' is missing");
        return NULL;
    }
    if (worker_save(w, file, &e->diag)) {
        e->code = RPC_FAILED;
        log_write(LOGL_ERROR, NULL, "save: %s", e->diag.text);
        return NULL;
    }
    log_write(LOGL_INFO, NULL, "saved to %s", DIAG_Q(file));
    control_notify(w->control, "saved", 0);
    worker_end(w, STATUS_SAVED);
    return json_object();
}

static json_t *command(struct worker *w, const char *device, const char *type, const char *verb,
                       const char *arg, struct rpc_error *e)
{
    char answer[1024] = "", msg[VMB_MSG_LEN] = "";
    int err = vmb_command(w->vmb, device, type, verb, arg, answer, sizeof(answer), msg, sizeof(msg));

    if (!err)
        return json_pack("{s:o}", "answer", json_text(answer));
    e->code = RPC_FAILED;
    diag_set(&e->diag, err, "%s", msg);
    return NULL;
}

static json_t *do_command(struct worker *w, json_t *params, struct rpc_error *e)
{
    const char *device, *type, *verb, *arg;

    if (!rpc_text(params, "device", NULL, &device, e) ||
        !rpc_text(params, "type", NULL, &type, e) ||
        !rpc_text(params, "command", NULL, &verb, e) ||
        !rpc_text(params, "argument", "", &arg, e))
        return NULL;
    if ((!device && !type) || !verb) {
        e->code = RPC_PARAMS;
        diag_set(&e->diag, 0, "'%s' is missing", verb ? "device" : "command");
        return NULL;
    }
    return command(w, device, type, verb, arg, e);
}

/* Through the integration service in the guest; power-button is for guests without. */
static json_t *do_shutdown(struct worker *w, json_t *params, struct rpc_error *e)
{
    bool force = json_is_true(json_object_get(params, "force"));
    const char *text;
    json_t *answer;
    char *arg;

    if (!rpc_text(params, "text", "", &text, e))
        return NULL;
    /* the space keeps text that begins with the word from being taken for it */
    if (asprintf(&arg, "%s %s", force ? "force" : "", text) < 0) {
        e->code = RPC_FAILED;
        diag_set(&e->diag, -ENOMEM, "no memory");
        return NULL;
    }
    answer = command(w, NULL, "shutdown",
                     json_is_true(json_object_get(params, "reboot"))      ? "reboot"
                     : json_is_true(json_object_get(params, "hibernate")) ? "hibernate"
                                                                          : "shutdown",
                     arg, e);
    free(arg);
    return answer;
}

static const struct method {
    const char *name;
    json_t *(*call)(struct worker *w, json_t *params, struct rpc_error *e);
    bool while_running; /* needs a VM that runs */
} methods[] = {
    { "status", do_status, false },
    { "stats", do_stats, false },
    { "inspect", do_inspect, false },
    { "pause", do_pause, true },
    { "resume", do_resume, true },
    { "reset", do_reset, true },
    { "power-button", do_power_button, true },
    { "turn-off", do_turn_off, true },
    { "save", do_save, true },
    { "shutdown", do_shutdown, true },
    { "command", do_command, true },
    { "screenshot", rpc_screenshot, true },
    { "type", rpc_type, true },
    { "key", rpc_key, true },
    { "pointer", rpc_pointer, true },
};

/* ---- the protocol ---------------------------------------------------------------------------- */

static void client_close(struct client *c)
{
    struct client **at = &c->control->clients;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->control->nclients--;
    bufferevent_free(c->bev);
    free(c);
}

/* Takes over @msg. */
static void send_json(struct client *c, json_t *msg)
{
    char *text = msg ? json_dumps(msg, JSON_COMPACT) : NULL;
    struct evbuffer *out = bufferevent_get_output(c->bev);

    json_decref(msg);
    if (!text)
        return;
    /* a client that does not read: it loses messages, we do not lose memory */
    if (evbuffer_get_length(out) == 0 || evbuffer_get_length(out) + strlen(text) < OUTPUT_MAX) {
        evbuffer_add(out, text, strlen(text));
        evbuffer_add(out, "\n", 1);
    }
    free(text);
}

static json_t *error_reply(json_t *id, int code, const char *text)
{
    return json_pack("{s:s, s:O, s:{s:i, s:o}}", "jsonrpc", "2.0", "id", id, "error", "code", code,
                     "message", json_text(text));
}

/* One request.  @return the reply, NULL for a notification. */
static json_t *handle(struct worker *w, json_t *req)
{
    json_t *id = json_object_get(req, "id"), *params = json_object_get(req, "params"), *result;
    json_t *null_id = json_null();
    const char *version = json_string_value(json_object_get(req, "jsonrpc"));
    const char *name = json_string_value(json_object_get(req, "method"));
    struct rpc_error e = { 0 };

    if (!version || strcmp(version, "2.0") != 0 || !name ||
        (id && !json_is_string(id) && !json_is_integer(id) && !json_is_null(id)))
        return error_reply(null_id, RPC_INVALID, "not a JSON-RPC 2.0 request");
    if (params && !json_is_object(params))
        return id ? error_reply(id, RPC_PARAMS, "params: an object is needed") : NULL;
    for (size_t i = 0; i < COUNT(methods); i++) {
        if (strcmp(methods[i].name, name) != 0)
            continue;
        if (methods[i].while_running && (!w->running || w->ended))
            return id ? error_reply(id, RPC_FAILED, "the VM does not run") : NULL;
        result = methods[i].call(w, params, &e);
        if (!id) {
            json_decref(result);
            return NULL;
        }
        if (!result)
            return error_reply(id, e.code, e.diag.text);
        return json_pack("{s:s, s:O, s:o}", "jsonrpc", "2.0", "id", id, "result", result);
    }
    return id ? error_reply(id, RPC_NO_METHOD, "no such method") : NULL;
}

static void handle_line(struct client *c, const char *line, size_t len)
{
    json_error_t je;
    json_t *msg = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je), *reply;

    if (!msg) {
        send_json(c, error_reply(json_null(), RPC_PARSE, je.text));
        return;
    }
    if (json_is_array(msg)) { /* a batch */
        json_t *replies = json_array(), *one;
        size_t i;
        json_array_foreach(msg, i, one)
        {
            reply = handle(c->control->w, one);
            if (reply)
                json_array_append_new(replies, reply);
        }
        if (json_array_size(msg) == 0)
            send_json(c, error_reply(json_null(), RPC_INVALID, "empty batch"));
        if (json_array_size(replies))
            send_json(c, json_incref(replies));
        json_decref(replies);
    } else {
        send_json(c, handle(c->control->w, msg));
    }
    json_decref(msg);
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct client *c = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    char *line;
    size_t len;

    while ((line = evbuffer_readln(in, &len, EVBUFFER_EOL_LF))) {
        if (len)
            handle_line(c, line, len);
        free(line);
    }
    if (evbuffer_get_length(in) > REQUEST_MAX) {
        log_write(LOGL_WARNING, "control", "a request is longer than %d bytes", REQUEST_MAX);
        client_close(c);
    }
}

static void on_gone(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        client_close(arg);
}

static void on_accept(evutil_socket_t lfd, short what, void *arg)
{
    struct control *k = arg;
    int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct client *c;

    (void)what;
    if (fd < 0)
        return;
    c = k->nclients < CLIENTS_MAX ? calloc(1, sizeof(*c)) : NULL;
    if (c)
        c->bev = bufferevent_socket_new(k->w->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!c || !c->bev) {
        free(c);
        close(fd);
        return;
    }
    c->control = k;
    c->next = k->clients;
    k->clients = c;
    k->nclients++;
    bufferevent_setcb(c->bev, on_read, NULL, on_gone, c);
    bufferevent_setwatermark(c->bev, EV_READ, 0, REQUEST_MAX + 4096);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

void control_notify(struct control *k, const char *event, int status)
{
    for (struct client *c = k ? k->clients : NULL; c; c = c->next)
        send_json(c, json_pack("{s:s, s:s, s:{s:s, s:i}}", "jsonrpc", "2.0", "method", "event",
                               "params", "event", event, "status", status));
}

int control_open(struct worker *w, const char *path, struct control **ret, struct diag *diag)
{
    struct control *k = calloc(1, sizeof(*k));
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct stat st;
    mode_t mask;
    int err = -ENOMEM;

    if (!k || !(k->path = strdup(path))) {
        free(k);
        return diag_set(diag, err, "--control %s: no memory", path);
    }
    k->w = w;
    k->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (k->fd < 0 || strlen(path) >= sizeof(a.sun_path)) {
        err = k->fd < 0 ? -errno : -ENAMETOOLONG;
        goto fail;
    }
    strcpy(a.sun_path, path);
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (probe >= 0 && connect(probe, (struct sockaddr *)&a, sizeof(a)) && errno == ECONNREFUSED)
            unlink(path); /* left from a worker that is no more */
        if (probe >= 0)
            close(probe);
    }
    mask = umask(077);
    err = bind(k->fd, (struct sockaddr *)&a, sizeof(a)) ? -errno : 0;
    umask(mask);
    if (err)
        goto fail;
    k->ev = event_new(w->base, k->fd, EV_READ | EV_PERSIST, on_accept, k);
    if (!k->ev || event_add(k->ev, NULL) || listen(k->fd, 8)) {
        err = -errno;
        unlink(path);
        goto fail;
    }
    *ret = k;
    return 0;
fail:
    diag_set(diag, err, "--control %s: %s", path, strerror(-err));
    if (k->ev)
        event_free(k->ev);
    if (k->fd >= 0)
        close(k->fd);
    free(k->path);
    free(k);
    return err;
}

void control_close(struct control *k)
{
    if (!k)
        return;
    /* what was said last, the end for one; a client that does not read must not hold us */
    for (int i = 0; i < 4 && k->clients; i++)
        event_base_loop(k->w->base, EVLOOP_NONBLOCK);
    while (k->clients)
        client_close(k->clients);
    event_free(k->ev);
    close(k->fd);
    unlink(k->path);
    free(k->path);
    free(k);
}
