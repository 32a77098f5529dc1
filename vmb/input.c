/* SPDX-License-Identifier: BSD-2-Clause */
/* Keys and pointer movements on their way to the guest.
 *
 * Anybody may put some into a queue; the I/O thread hands them to the best device that the guest uses.
 * A device without room holds up its queue until it says input_ready().  A key is let go at the device
 * where it was pressed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmb/board.h"

static bool is_key(const struct mobo_input_event *e)
{
    return e->kind == MOBO_INPUT_KEY;
}

static unsigned rank(const struct mobo_input *in)
{
    switch (in->dev->plugin->desc.dev_class) {
    case MOBO_CLASS_SYNTHETIC: return 3;
    case MOBO_CLASS_PLUGIN: return 2;
    }
    return 1;
}

/* Of kinds @kinds; input.lock is held. */
static struct mobo_input *best(struct vmb *v, uint32_t kinds)
{
    struct mobo_input *found = NULL;

    for (struct mobo_input *in = v->input.list; in; in = in->next)
        if (in->active && (in->ops.kinds & kinds) && (!found || rank(in) > rank(found)))
            found = in;
    return found;
}

static uint32_t kinds_for(const struct mobo_input_event *e)
{
    return is_key(e) ? 1u << MOBO_INPUT_KEY : 1u << MOBO_INPUT_MOVE | 1u << MOBO_INPUT_POINT;
}

/* ---- to the device ------------------------------------------------------------------------------- */

static int32_t clamp(int64_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : (int32_t)v;
}

/* The form of movement that the device takes.  The board's idea of the position follows. */
static void convert(struct inputs *i, struct mobo_input_event *e, uint32_t kinds)
{
    int32_t x = i->x, y = i->y;
    /* pixels: both ends rounded alike, so that they add up */
    int64_t w = i->width, h = i->height, n = MOBO_POINT_MAX + 1;

    if (is_key(e))
        return;
    if (e->kind == MOBO_INPUT_POINT) {
        i->x = e->x;
        i->y = e->y;
        if (!(kinds & 1u << MOBO_INPUT_POINT)) {
            e->kind = MOBO_INPUT_MOVE;
            e->x = (int32_t)(i->x * w / n - x * w / n);
            e->y = (int32_t)(i->y * h / n - y * h / n);
        }
        return;
    }
    i->x = clamp(x + e->x * n / w, 0, MOBO_POINT_MAX);
    i->y = clamp(y + e->y * n / h, 0, MOBO_POINT_MAX);
    if (!(kinds & 1u << MOBO_INPUT_MOVE)) {
        e->kind = MOBO_INPUT_POINT;
        e->x = i->x;
        e->y = i->y;
    }
}

/* Hand over one queue, as far as it goes.  @return whether to come back soon. */
static bool drain(struct vmb *v, struct input_queue *q)
{
    struct inputs *i = &v->input;
    const unsigned full = q == &i->keys ? FULL_KEYS : FULL_POINTER;
    bool again = false;

    pthread_mutex_lock(&i->lock);
    while (q->count && !again && !atomic_load(&v->io.paused)) {
        struct mobo_input_event e = q->events[q->first];
        struct mobo_input *in = best(v, kinds_for(&e));
        unsigned life = q->life;
        int32_t x = i->x, y = i->y;
        struct vdev_enter enter;
        int err = 0;

        if (is_key(&e) && !e.down) {
            in = i->owner[e.key];
            i->owner[e.key] = NULL;
            if (in && !in->active)
                in = NULL;
        }
        if (in) {
            convert(i, &e, in->ops.kinds);
            atomic_fetch_or(&in->full, full); /* input_ready() between the answer and here clears it */
            pthread_mutex_unlock(&i->lock);
            enter = vdev_enter(in->dev);
            err = in->ops.event(in->ctx, &e);
            vdev_leave(in->dev, enter);
            pthread_mutex_lock(&i->lock);
        }
        if (q->life != life) /* a reset has emptied it */
            continue;
        if (err == -EAGAIN) {
            if (is_key(&e) && !e.down)
                i->owner[e.key] = in;
            i->x = x;
            i->y = y;
            if ((atomic_load(&in->full) & full) && in->active)
                break;
            again = true; /* there is room already, or it is another device's turn */
            continue;
        }
        if (in)
            atomic_fetch_and(&in->full, ~full);
        if (in && is_key(&e) && e.down)
            i->owner[e.key] = in;
        q->first = (q->first + 1) % INPUT_QUEUE;
        q->count--;
    }
    pthread_mutex_unlock(&i->lock);
    return again;
}

static void post(struct vmb *v);

static void pump(void *ctx)
{
    struct vmb *v = ctx;
    bool keys, pointer;

    atomic_store(&v->input.posted, false);
    keys = drain(v, &v->input.keys);
    pointer = drain(v, &v->input.pointer);
    if (keys || pointer)
        post(v);
}

static void post(struct vmb *v)
{
    if (!atomic_exchange(&v->input.posted, true) && io_post(v, NULL, pump, v))
        atomic_store(&v->input.posted, false);
}

/* ---- from outside -------------------------------------------------------------------------------- */

static bool sound(const struct mobo_input_event *e)
{
    switch (e->kind) {
    case MOBO_INPUT_KEY: return e->key && e->key < MOBO_KEY_COUNT && e->down <= 1;
    case MOBO_INPUT_POINT:
        if (e->x < 0 || e->x > MOBO_POINT_MAX || e->y < 0 || e->y > MOBO_POINT_MAX)
            return false;
        break;
    case MOBO_INPUT_MOVE:
        if (e->x < -MOBO_POINT_MAX || e->x > MOBO_POINT_MAX || e->y < -MOBO_POINT_MAX ||
            e->y > MOBO_POINT_MAX)
            return false;
        break;
    default: return false;
    }
    return e->buttons < 32 && e->wheel >= -127 && e->wheel <= 127 && e->pan >= -127 &&
           e->pan <= 127;
}

/* A pointer that moves on replaces where it was. */
static bool merge(struct input_queue *q, const struct mobo_input_event *e)
{
    struct mobo_input_event *last;

    if (!q->count || e->kind != MOBO_INPUT_POINT || e->wheel || e->pan)
        return false;
    last = &q->events[(q->first + q->count - 1) % INPUT_QUEUE];
    if (q->count == 1 || last->kind != MOBO_INPUT_POINT || last->buttons != e->buttons ||
        last->wheel || last->pan)
        return false; /* the first one may be on its way just now */
    *last = *e;
    return true;
}

int vmb_input(struct vmb *v, const struct mobo_input_event *events, unsigned n)
{
    struct inputs *i = &v->input;
    unsigned keys = 0, moves = 0;
    int err = 0;

    for (unsigned k = 0; k < n; k++) {
        if (!sound(&events[k]))
            return -EINVAL;
        if (is_key(&events[k]))
            keys++;
        else
            moves++;
    }
    pthread_mutex_lock(&i->lock);
    if ((keys && !best(v, 1u << MOBO_INPUT_KEY)) ||
        (moves && !best(v, 1u << MOBO_INPUT_MOVE | 1u << MOBO_INPUT_POINT)))
        err = -ENODEV;
    else if (keys > INPUT_QUEUE - i->keys.count || moves > INPUT_QUEUE - i->pointer.count)
        err = -EAGAIN;
    for (unsigned k = 0; !err && k < n; k++) {
        struct input_queue *q = is_key(&events[k]) ? &i->keys : &i->pointer;

        if (!merge(q, &events[k]))
            q->events[(q->first + q->count++) % INPUT_QUEUE] = events[k];
    }
    pthread_mutex_unlock(&i->lock);
    if (!err && n)
        post(v);
    return err;
}

unsigned vmb_input_waiting(struct vmb *v)
{
    unsigned n;

    pthread_mutex_lock(&v->input.lock);
    n = v->input.keys.count;
    pthread_mutex_unlock(&v->input.lock);
    return n;
}

unsigned vmb_input_leds(struct vmb *v)
{
    struct mobo_input *in;
    unsigned leds;

    pthread_mutex_lock(&v->input.lock);
    in = best(v, 1u << MOBO_INPUT_KEY);
    leds = in ? in->leds : 0;
    pthread_mutex_unlock(&v->input.lock);
    return leds;
}

/* ---- from vdevs ---------------------------------------------------------------------------------- */

int input_add(struct mobo_vdev *dev, const struct mobo_input_ops *ops, void *ctx,
              struct mobo_input **ret)
{
    const uint32_t known = 1u << MOBO_INPUT_KEY | 1u << MOBO_INPUT_MOVE | 1u << MOBO_INPUT_POINT;
    struct mobo_input **at = &dev->board->input.list, *in;

    if (vdev_creating(dev, "input_add"))
        return -EPERM;
    if (ops->size < sizeof(*ops) || !ops->event || !ops->kinds || (ops->kinds & ~known))
        return vdev_fail(dev, -EINVAL, "bad use of input_add");
    in = calloc(1, sizeof(*in));
    if (!in)
        return vdev_fail(dev, -ENOMEM, "no memory");
    in->dev = dev;
    memcpy(&in->ops, ops, sizeof(in->ops));
    in->ctx = ctx;
    while (*at)
        at = &(*at)->next;
    *at = *ret = in;
    return 0;
}

void input_active(struct mobo_input *in, int active)
{
    struct inputs *i = &in->dev->board->input;

    vdev_check(in->dev, "input_active");
    pthread_mutex_lock(&i->lock);
    for (unsigned k = 0; k < MOBO_KEY_COUNT && in->active && !active; k++)
        if (i->owner[k] == in)
            i->owner[k] = NULL;
    in->active = active != 0;
    if (!active)
        in->leds = 0;
    pthread_mutex_unlock(&i->lock);
    atomic_store(&in->full, 0);
    post(in->dev->board); /* what waited may go another way now */
}

void input_ready(struct mobo_input *in)
{
    if (atomic_exchange(&in->full, 0))
        post(in->dev->board);
}

void input_leds(struct mobo_input *in, uint32_t leds)
{
    struct inputs *i = &in->dev->board->input;

    pthread_mutex_lock(&i->lock);
    in->leds = leds & 7;
    pthread_mutex_unlock(&i->lock);
}

/* ---- the board ----------------------------------------------------------------------------------- */

void input_init(struct vmb *v)
{
    pthread_mutex_init(&v->input.lock, NULL);
    v->input.width = 1024;
    v->input.height = 768;
}

void input_screen(struct vmb *v, uint32_t width, uint32_t height)
{
    pthread_mutex_lock(&v->input.lock);
    v->input.width = width;
    v->input.height = height;
    pthread_mutex_unlock(&v->input.lock);
}

void input_resume(struct vmb *v)
{
    post(v);
}

void input_reset(struct vmb *v)
{
    struct inputs *i = &v->input;

    pthread_mutex_lock(&i->lock);
    i->keys.count = i->pointer.count = 0;
    i->keys.life++;
    i->pointer.life++;
    memset(i->owner, 0, sizeof(i->owner));
    pthread_mutex_unlock(&i->lock);
}

void input_fini(struct vmb *v)
{
    for (struct mobo_input *in = v->input.list, *next; in; in = next) {
        next = in->next;
        free(in);
    }
    v->input.list = NULL;
    pthread_mutex_destroy(&v->input.lock);
}
