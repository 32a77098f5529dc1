/* SPDX-License-Identifier: BSD-2-Clause */
/* Key-value pairs: tells the guest facts about the host, hears facts about the guest, reads and sets
 * IP addresses.
 * Reference: <uapi/linux/hyperv.h> struct hv_kvp_msg (cited as HK); client drivers/hv/hv_kvp.c and
 * tools/hv/hv_kvp_daemon.c. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ic.h"

enum { OP_GET = 0, OP_SET = 1, OP_DELETE = 2, OP_ENUMERATE = 3, OP_GET_IP = 4, OP_SET_IP = 5, OPS };
enum { POOL_EXTERNAL = 0, POOL_GUEST = 1, POOL_AUTO = 2, POOL_AUTO_EXTERNAL = 3, POOLS };
enum { REG_SZ = 1, REG_U32 = 4, REG_U64 = 8 };

/* Body of a message with a value; what follows in one for an address.  HK. */
enum {
    B_OP = 0,
    B_POOL = 1,
    B_VALUE = 4, /* struct hv_kvp_exchg_msg_value; enumerating: u32 index, then that */
    V_TYPE = 0,
    V_KEY_SIZE = 4,
    V_VALUE_SIZE = 8,
    V_KEY = 12, /* 512 bytes */
    V_VALUE = 524, /* 2048 bytes */
    V_LEN = 2572,
    D_KEY_SIZE = 4, /* deleting */
    D_KEY = 8,
    KEY_BYTES = 512,
    VALUE_BYTES = 2048,
    BODY_VALUE = 4 + 4 + V_LEN,
    I_ADAPTER = 2, /* 128 units */
    I_FAMILY = 258,
    I_DHCP = 259,
    I_ADDR = 260,  /* 1024 units */
    I_MASK = 2308, /* 1024 units */
    I_GATE = 4356, /* 512 units */
    I_DNS = 5380,  /* 1024 units */
    BODY_IP = 7428
};
enum { FAMILY_IPV4 = 1, FAMILY_IPV6 = 2 };
enum { KEY_MAX = 512, VALUE_MAX = 1024, ITEMS_MAX = 64, OPS_MAX = 32, SEARCH_MAX = 4096 };

/* Something to ask the guest.  Getting enumerates the pool until the key comes: Linux's driver cuts
 * the value of the other answer short (hv_kvp.c takes it from another place of the union).  For addresses: key is the adapter, value "dhcp", or address, mask,
 * gateway, name servers with '|' between. */
struct op {
    uint8_t op, pool;
    uint8_t mine;  /* not commanded by a person */
    uint8_t family;
    uint32_t index;
    char key[KEY_MAX], value[VALUE_MAX];
};

struct item {
    char *key, *value; /* owned */
};

struct kvp_state {
    uint32_t nops;    /* ops[0] is under way when the channel waits */
    uint64_t next_ns; /* when the pools are read again, 0: the timer is off */
    uint64_t polls;
    uint8_t refused; /* the guest did not take one of our values: they are sent again */
    uint32_t feed;   /* number of our value that comes next into the queue, from 1; 0: none */
};

struct kvp {
    struct mobo_vdev *dev;        /* borrowed */
    const struct mobo_host *host; /* borrowed */
    struct ic ic;
    mobo_timer_t timer;
    uint64_t interval_ns;
    struct kvp_state s;
    int told; /* the log knows that values are refused */
    struct op ops[OPS_MAX];
    struct item items[POOLS][ITEMS_MAX]; /* what the guest told */
    uint32_t nitems[POOLS];
    char last[VALUE_MAX + 600]; /* how the last command ended */
    char address[4][VALUE_MAX]; /* of the last get-ip: address, mask, gateway, name servers */
    char adapter[KEY_MAX];
};

static const char *const pool_names[POOLS] = { "external", "guest", "auto", "auto-external" };

/* ---- asking ------------------------------------------------------------------------------------ */

static struct op *add_op(struct kvp *k, unsigned op, unsigned pool)
{
    struct op *o;

    if (k->s.nops == OPS_MAX)
        return NULL;
    o = &k->ops[k->s.nops++];
    memset(o, 0, sizeof(*o));
    o->op = (uint8_t)op;
    o->pool = (uint8_t)pool;
    return o;
}

/* Cut @text at ' ' or '|' into @max fields of the message. */
static int put_utf16(const char *text, size_t len, uint8_t *at, uint32_t units)
{
    char part[VALUE_MAX];

    if (len >= sizeof(part))
        return -1;
    memcpy(part, text, len);
    part[len] = 0;
    return ic_utf16(part, at, units) ? 0 : -1;
}

/* @return length of the body, 0: a text does not fit. */
static uint32_t make_body(const struct op *o, uint8_t *b)
{
    static const struct {
        uint32_t at, units;
    } fields[] = { { I_ADDR, 1024 }, { I_MASK, 1024 }, { I_GATE, 512 }, { I_DNS, 1024 } };
    uint8_t *v = b + B_VALUE;
    const char *text = o->value;
    uint32_t n, m;

    memset(b, 0, BODY_IP);
    b[B_OP] = o->op;
    b[B_POOL] = o->pool;
    switch (o->op) {
    case OP_SET:
        n = ic_utf16(o->key, v + V_KEY, KEY_BYTES / 2);
        m = ic_utf16(o->value, v + V_VALUE, VALUE_BYTES / 2);
        wire_put(v + V_TYPE, REG_SZ, 4);
        wire_put(v + V_KEY_SIZE, 2 * n, 4);
        wire_put(v + V_VALUE_SIZE, 2 * m, 4);
        return n && m ? BODY_VALUE : 0;
    case OP_DELETE:
        n = ic_utf16(o->key, b + D_KEY, KEY_BYTES / 2);
        wire_put(b + D_KEY_SIZE, 2 * n, 4);
        return n ? BODY_VALUE : 0;
    case OP_GET: b[B_OP] = OP_ENUMERATE; /* fallthrough */
    case OP_ENUMERATE: wire_put(b + B_VALUE, o->index, 4); return BODY_VALUE;
    case OP_GET_IP:
    case OP_SET_IP:
        if (!ic_utf16(o->key, b + I_ADAPTER, 128))
            return 0;
        b[I_FAMILY] = o->family;
        if (o->op == OP_GET_IP)
            return BODY_IP;
        b[I_DHCP] = !strcmp(text, "dhcp");
        for (unsigned i = 0; i < 4 && !b[I_DHCP]; i++) {
            size_t len = strcspn(text, "|");

            if (put_utf16(text, len, b + fields[i].at, fields[i].units))
                return 0;
            text += len + (text[len] == '|');
        }
        return BODY_IP;
    }
    return 0;
}

static void drop_first(struct kvp *k)
{
    memmove(&k->ops[0], &k->ops[1], (k->s.nops - 1) * sizeof(k->ops[0]));
    k->s.nops--;
}

static void pause_polling(struct kvp *k)
{
    k->s.next_ns = k->host->clock_ns(k->dev) + k->interval_ns;
    k->host->timer_set(k->timer, k->s.next_ns);
}

static void enumerate(struct kvp *k, unsigned pool, uint32_t index)
{
    struct op *o = add_op(k, OP_ENUMERATE, pool);

    if (!o) { /* commands come first; later, then */
        pause_polling(k);
        return;
    }
    o->mine = 1;
    o->index = index;
}

/* ---- what it is told ------------------------------------------------------------------------------ */

static const struct {
    const char *key;
    unsigned pool;
} lists[] = { { "values", POOL_EXTERNAL }, { "host-values", POOL_AUTO_EXTERNAL } };

/* The first of "KEY=VALUE, KEY=VALUE".  @return what follows it, NULL: it is not such. */
static const char *split(const char *list, struct op *ret)
{
    size_t len, key;

    list += strspn(list, " \t");
    len = strcspn(list, ",");
    key = strcspn(list, "=");
    if (key >= len || !key || key >= KEY_MAX / 2 || len - key - 1 >= VALUE_MAX / 2)
        return NULL;
    snprintf(ret->key, sizeof(ret->key), "%.*s", (int)key, list);
    snprintf(ret->value, sizeof(ret->value), "%.*s", (int)(len - key - 1), list + key + 1);
    return list + len + (list[len] == ',');
}

/* Our value number @n: of the lists, and then the host's name.  @return false: there are no more. */
static bool own_value(struct kvp *k, uint32_t n, struct op *ret)
{
    const char *name = k->host->param_str(k->dev, "host-name");

    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        const char *at = k->host->param_str(k->dev, lists[i].key);

        ret->pool = (uint8_t)lists[i].pool;
        while (at && *at) {
            at = split(at, ret);
            if (!--n)
                return true;
        }
    }
    if (n != 1)
        return false;
    snprintf(ret->key, sizeof(ret->key), "HostName");
    if (name)
        snprintf(ret->value, sizeof(ret->value), "%s", name);
    return name || !gethostname(ret->value, sizeof(ret->value) - 1);
}

/* Into the empty queue: our next value, or after the last one the reading of the pools.  @return false: nothing. */
static bool feed(struct kvp *k)
{
    struct op o = { .op = OP_SET, .mine = 1 };

    if (!k->s.feed)
        return false;
    if (own_value(k, k->s.feed, &o)) {
        k->s.feed++;
        k->ops[k->s.nops++] = o;
    } else {
        k->s.feed = 0;
        enumerate(k, POOL_AUTO, 0);
    }
    return true;
}

/* Send the first of the queue unless one is under way. */
static void next(struct kvp *k)
{
    uint8_t body[BODY_IP];
    uint32_t len;

    if (k->ic.s.phase != IC_READY || k->ic.s.waiting)
        return;
    while (k->s.nops || feed(k)) {
        len = make_body(&k->ops[0], body);
        if (len) {
            ic_send(&k->ic, body, len);
            return;
        }
        drop_first(k);
    }
}

/* ---- what the guest tells ---------------------------------------------------------------------- */

static void forget_items(struct kvp *k, unsigned pool, uint32_t from)
{
    for (uint32_t i = from; i < k->nitems[pool]; i++) {
        free(k->items[pool][i].key);
        free(k->items[pool][i].value);
    }
    if (k->nitems[pool] > from)
        k->nitems[pool] = from;
}

static void value_text(const uint8_t *v, char *ret, uint32_t max)
{
    uint32_t size = (uint32_t)wire_get(v + V_VALUE_SIZE, 4);

    if (size > VALUE_BYTES)
        size = VALUE_BYTES;
    switch (wire_get(v + V_TYPE, 4)) {
    case REG_U32:
        snprintf(ret, max, "%llu", (unsigned long long)wire_get(v + V_VALUE, 4));
        break;
    case REG_U64:
        snprintf(ret, max, "%llu", (unsigned long long)wire_get(v + V_VALUE, 8));
        break;
    default: ic_utf8(v + V_VALUE, size, ret, max);
    }
}

static void key_text(const uint8_t *v, char *ret, uint32_t max)
{
    uint32_t size = (uint32_t)wire_get(v + V_KEY_SIZE, 4);

    ic_utf8(v + V_KEY, size < KEY_BYTES ? size : KEY_BYTES, ret, max);
}

static void keep_item(struct kvp *k, const struct op *o, const uint8_t *v)
{
    char key[KEY_MAX], value[VALUE_MAX];
    struct item *it, got;

    key_text(v, key, sizeof(key));
    value_text(v, value, sizeof(value));
    got.key = strdup(key);
    got.value = strdup(value);
    if (!got.key || !got.value) {
        free(got.key);
        free(got.value);
        return;
    }
    it = &k->items[o->pool][o->index];
    if (o->index < k->nitems[o->pool]) {
        free(it->key);
        free(it->value);
    } else {
        k->nitems[o->pool] = o->index + 1;
    }
    *it = got;
}

/* How a person's command ended. */
static void say(struct kvp *k, const struct op *o, uint32_t status, const char *value)
{
    static const char *const verbs[OPS] = { "get", "set", "delete", "enumerate", "get-ip",
                                            "set-ip" };

    snprintf(k->last, sizeof(k->last), "%s %s: %s%s%s", verbs[o->op], o->key,
             ic_status_text(status), value ? " " : "", value ? value : "");
    if (status)
        k->host->log(k->dev, MOBO_WARNING, "%s %s: %s", verbs[o->op], o->key,
                     ic_status_text(status));
}

/* Linux does so when its daemon does not answer in time, early 4.x also before there is one. */
static void not_taken(struct kvp *k, const struct op *o, uint32_t status)
{
    k->s.refused = 1;
    if (!k->told)
        k->host->log(k->dev, MOBO_INFO,
                     "the guest does not take %s (%s): tried again every %llu s until it does", o->key,
                     ic_status_text(status), (unsigned long long)(k->interval_ns / 1000000000));
    k->told = 1;
}

static void answer(void *ctx, uint32_t status, const uint8_t *b, uint32_t len)
{
    static const struct {
        uint32_t at, bytes;
    } fields[] = { { I_ADDR, 2048 }, { I_MASK, 2048 }, { I_GATE, 1024 }, { I_DNS, 2048 } };
    struct kvp *k = ctx;
    struct op o;
    char key[KEY_MAX], value[VALUE_MAX];

    if (!k->s.nops)
        return; /* lost in a restore */
    o = k->ops[0];
    if (len < (o.op >= OP_GET_IP ? BODY_IP : BODY_VALUE)) {
        k->host->vmbus_fault(k->ic.ch, "an answer that is shorter than the request");
        return;
    }
    drop_first(k);
    switch (o.op) {
    case OP_ENUMERATE:
        if (o.index > k->nitems[o.pool]) { /* the beginning was lost in a restore */
            enumerate(k, o.pool, 0);
            break;
        }
        if (!status && o.index < ITEMS_MAX) {
            keep_item(k, &o, b + B_VALUE + 4);
            if (o.index + 1 < ITEMS_MAX) {
                enumerate(k, o.pool, o.index + 1);
                break;
            }
        } else {
            forget_items(k, o.pool, o.index);
        }
        if (o.pool == POOL_AUTO) {
            enumerate(k, POOL_GUEST, 0);
        } else {
            k->s.polls++;
            pause_polling(k);
        }
        break;
    case OP_GET:
        key_text(b + B_VALUE + 4, key, sizeof(key));
        value_text(b + B_VALUE + 4, value, sizeof(value));
        if (!status && strcmp(key, o.key) && o.index < SEARCH_MAX) {
            o.index++;
            memmove(&k->ops[1], &k->ops[0], k->s.nops * sizeof(k->ops[0])); /* it was there */
            k->ops[0] = o;
            k->s.nops++;
        } else if (!status && strcmp(key, o.key)) {
            say(k, &o, IC_CONTINUE, NULL);
        } else {
            say(k, &o, status, status ? NULL : value);
        }
        break;
    case OP_GET_IP:
        for (unsigned i = 0; i < 4 && !status; i++)
            ic_utf8(b + fields[i].at, fields[i].bytes, k->address[i], VALUE_MAX);
        if (!status)
            snprintf(k->adapter, sizeof(k->adapter), "%s", o.key);
        say(k, &o, status, status ? NULL : k->address[0]);
        break;
    default:
        if (!o.mine)
            say(k, &o, status, NULL);
        else if (status)
            not_taken(k, &o, status);
    }
    next(k);
}

static void poll(void *ctx, uint64_t now)
{
    struct kvp *k = ctx;

    (void)now;
    k->s.next_ns = 0;
    if (k->s.refused && !k->s.nops) {
        k->s.refused = 0;
        k->s.feed = 1;
    } else {
        enumerate(k, POOL_AUTO, 0);
    }
    next(k);
}

static void ready(void *ctx)
{
    struct kvp *k = ctx;

    k->s.nops = 0;
    k->s.refused = 0;
    k->s.feed = 1;
    k->told = 0;
    next(k);
}

static void closed(void *ctx)
{
    struct kvp *k = ctx;

    k->s.nops = 0;
    k->s.next_ns = 0;
    k->s.refused = 0;
    k->s.feed = 0;
    k->host->timer_cancel(k->timer);
    for (unsigned p = 0; p < POOLS; p++)
        forget_items(k, p, 0);
}

static const struct ic_service service = {
    .class_id = MOBO_GUID(0xa9a0f4e7, 0x5a45, 0x4d96, 0xb8, 0x27, 0x8a, 0x84, 0x1e, 0x8c, 0x03, 0xe6),
    .instance_id = MOBO_GUID(0x242ff919, 0x07db, 0x4180, 0x9c, 0x2e, 0xb8, 0x6c, 0xb6, 0x8c, 0x8c,
                             0x55),
    .type = 2,
    .versions = { IC_VERSION(4, 0), IC_VERSION(3, 0), IC_VERSION(1, 0) },
    .ready = ready,
    .answer = answer,
    .closed = closed,
};

/* ---- commands ---------------------------------------------------------------------------------- */

/* Cut a word off @arg into @ret.  @return what follows, NULL: too long or missing. */
static const char *word(const char *arg, char *ret, size_t max)
{
    size_t len;

    arg += strspn(arg, " ");
    len = strcspn(arg, " ");
    if (!len || len >= max)
        return NULL;
    memcpy(ret, arg, len);
    ret[len] = 0;
    arg += len;
    return arg + strspn(arg, " ");
}

/* get POOL KEY | set POOL KEY VALUE | delete POOL KEY | get-ip ADAPTER [ipv6] |
 * set-ip ADAPTER dhcp | set-ip ADAPTER ADDRESS MASK [GATEWAY [DNS]] | refresh */
static int kvp_command(void *self, const char *verb, const char *arg, char *ret, uint32_t ret_len)
{
    struct kvp *k = self;
    struct op o = { 0 }, *at;
    uint8_t body[BODY_IP];
    char pool[16], part[4][256] = { "", "", "", "" };
    const char *rest = arg;

    if (!strcmp(verb, "refresh")) {
        if (k->ic.s.phase != IC_READY)
            return ic_fail(&k->ic, -ENOTCONN);
        if (k->s.next_ns) {
            k->host->timer_cancel(k->timer);
            poll(k, 0);
        }
        snprintf(ret, ret_len, "the pools are read");
        return 0;
    }
    if (!strcmp(verb, "get-ip") || !strcmp(verb, "set-ip")) {
        unsigned n = 0;

        o.op = !strcmp(verb, "get-ip") ? OP_GET_IP : OP_SET_IP;
        o.family = FAMILY_IPV4;
        rest = word(rest, o.key, sizeof(o.key));
        while (rest && *rest && n < 4)
            rest = word(rest, part[n++], sizeof(part[0]));
        if (!rest || *rest || (o.op == OP_GET_IP ? n > 1 : n == 0))
            return k->host->fail(k->dev, -EINVAL,
                                 "%s: ADAPTER%s is needed, an adapter being {GUID}", verb,
                                 o.op == OP_GET_IP ? " [ipv6]"
                                                   : " and dhcp, or address, mask, gateway, DNS");
        if (o.op == OP_GET_IP ? !strcmp(part[0], "ipv6") : strchr(part[0], ':') != NULL)
            o.family = FAMILY_IPV6;
        if (o.op == OP_SET_IP && n == 1)
            snprintf(o.value, sizeof(o.value), "%s", part[0]);
        else if (o.op == OP_SET_IP)
            snprintf(o.value, sizeof(o.value), "%s|%s|%s|%s", part[0], part[1], part[2], part[3]);
    } else {
        o.op = !strcmp(verb, "get")      ? OP_GET
               : !strcmp(verb, "set")    ? OP_SET
               : !strcmp(verb, "delete") ? OP_DELETE
                                         : OPS;
        if (o.op == OPS)
            return k->host->fail(k->dev, -ENOSYS,
                                 "unknown command '%s' (get, set, delete, get-ip, set-ip, refresh)",
                                 verb);
        rest = word(rest, pool, sizeof(pool));
        for (o.pool = 0; rest && o.pool < POOLS && strcmp(pool, pool_names[o.pool]); o.pool++)
            ;
        if (!rest || o.pool == POOLS)
            return k->host->fail(k->dev, -EINVAL,
                                 "%s: which pool? (external, guest, auto, auto-external)", verb);
        rest = word(rest, o.key, sizeof(o.key));
        if (!rest || strlen(rest) >= sizeof(o.value))
            return k->host->fail(k->dev, -EINVAL, "%s: the %s is missing or too long", verb,
                                 rest ? "value" : "key");
        snprintf(o.value, sizeof(o.value), "%s", rest);
    }
    if (!make_body(&o, body))
        return k->host->fail(k->dev, -E2BIG, "%s: a text is too long", verb);
    if (k->ic.s.phase != IC_READY)
        return ic_fail(&k->ic, -ENOTCONN);
    at = add_op(k, o.op, o.pool);
    if (!at)
        return k->host->fail(k->dev, -EBUSY, "too many commands are waiting");
    *at = o;
    snprintf(k->last, sizeof(k->last), "%s %s: waiting for the guest", verb, o.key);
    next(k);
    snprintf(ret, ret_len, "the guest is asked; inspect shows the answer");
    return 0;
}

/* ---- the device -------------------------------------------------------------------------------- */

static void kvp_reset(void *self)
{
    struct kvp *k = self;

    closed(k);
    k->s = (struct kvp_state){ 0 };
    k->last[0] = k->adapter[0] = 0;
    ic_reset(&k->ic);
}

static const struct mobo_field kvp_fields[] = {
    MOBO_FIELD(1, struct kvp_state, nops),
    MOBO_FIELD(2, struct kvp_state, next_ns),
    MOBO_FIELD(3, struct kvp_state, polls),
    MOBO_FIELD_FLAGS(5, struct kvp_state, feed, MOBO_FIELD_OPTIONAL),
};
static const struct mobo_field op_fields[] = {
    MOBO_FIELD(1, struct op, op),     MOBO_FIELD(2, struct op, pool),
    MOBO_FIELD(3, struct op, mine),   MOBO_FIELD(4, struct op, family),
    MOBO_FIELD(5, struct op, index),  MOBO_FIELD(6, struct op, key),
    MOBO_FIELD(7, struct op, value),
};
enum { TAG_REFUSED = 4, TAG_OP = 0x200 }; /* refused: only when it is 1 */

/* What the guest told is not saved: it is asked again. */
static int kvp_save(void *self, struct mobo_writer *out)
{
    struct kvp *k = self;
    int err = k->host->save_fields(out, MOBO_ARRAY(kvp_fields), &k->s);

    if (!err && k->s.refused)
        err = k->host->save_bytes(out, TAG_REFUSED, 0, &k->s.refused, sizeof(k->s.refused));
    for (uint32_t i = 0; !err && i < k->s.nops; i++) {
        err = k->host->save_begin(out, TAG_OP + i, 0);
        if (!err)
            err = k->host->save_fields(out, MOBO_ARRAY(op_fields), &k->ops[i]);
        if (!err)
            err = k->host->save_end(out);
    }
    return err ? err : ic_save(&k->ic, out);
}

static int op_ok(const struct op *o)
{
    return o->op < OPS && o->pool < POOLS && o->mine <= 1 &&
           o->index <= (o->op == OP_GET ? SEARCH_MAX : ITEMS_MAX - 1) &&
           memchr(o->key, 0, sizeof(o->key)) && memchr(o->value, 0, sizeof(o->value));
}

static int kvp_restore(void *self, struct mobo_reader *in)
{
    struct kvp *k = self;
    struct kvp_state s = { 0 };
    struct ic_saved saved;
    struct op *ops = calloc(OPS_MAX, sizeof(*ops));
    uint32_t len = 0;
    int err;

    if (!ops)
        return k->host->fail(k->dev, -ENOMEM, "out of memory");
    err = k->host->load_bytes(in, TAG_REFUSED, &s.refused, sizeof(s.refused), &len);
    if (err == -ENOENT)
        err = 0;
    else if (err == -EMSGSIZE || (!err && (len != 1 || s.refused != 1)))
        err = k->host->fail(k->dev, -EINVAL, "the saved state makes no sense");
    if (!err)
        err = k->host->load_fields(in, MOBO_ARRAY(kvp_fields), &s);
    if (!err && s.nops > OPS_MAX)
        err = k->host->fail(k->dev, -EINVAL, "the saved state makes no sense");
    for (uint32_t i = 0; !err && i < s.nops; i++) {
        err = k->host->load_begin(in, TAG_OP + i);
        if (!err)
            err = k->host->load_fields(in, MOBO_ARRAY(op_fields), &ops[i]);
        if (!err)
            err = k->host->load_end(in);
        if (err == -ENOENT || (!err && !op_ok(&ops[i])))
            err = k->host->fail(k->dev, -EINVAL, "saved request %u is missing or broken", i);
    }
    if (!err)
        err = ic_load(&k->ic, in, &saved);
    if (!err)
        err = k->host->load_done(in);
    if (!err && saved.s.phase == IC_READY && saved.s.waiting && !s.nops)
        err = k->host->fail(k->dev, -EINVAL, "the saved request is missing");
    if (!err) {
        closed(k);
        ic_commit(&k->ic, &saved);
        k->s = s;
        memcpy(k->ops, ops, OPS_MAX * sizeof(*ops));
        if (s.next_ns)
            k->host->timer_set(k->timer, s.next_ns);
    }
    free(ops);
    return err;
}

static void kvp_inspect(void *self, struct mobo_inspect *out)
{
    static const char *const parts[] = { "address", "mask", "gateway", "dns" };
    struct kvp *k = self;

    ic_inspect(&k->ic, out);
    for (unsigned p = 0; p < POOLS; p++) {
        if (p != POOL_GUEST && p != POOL_AUTO)
            continue;
        k->host->inspect_begin(out, pool_names[p]);
        for (uint32_t i = 0; i < k->nitems[p]; i++)
            k->host->inspect_str(out, k->items[p][i].key, k->items[p][i].value);
        k->host->inspect_end(out);
    }
    if (k->last[0])
        k->host->inspect_str(out, "last_command", k->last);
    if (k->adapter[0]) {
        k->host->inspect_begin(out, k->adapter);
        for (unsigned i = 0; i < 4; i++)
            k->host->inspect_str(out, parts[i], k->address[i]);
        k->host->inspect_end(out);
    }
}

static void kvp_destroy(void *self)
{
    struct kvp *k = self;

    for (unsigned p = 0; p < POOLS; p++)
        forget_items(k, p, 0);
    free(k);
}

static int kvp_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    struct kvp *k = calloc(1, sizeof(*k));
    struct op o;
    int err = 0;

    if (!k)
        return host->fail(dev, -ENOMEM, "out of memory");
    k->dev = dev;
    k->host = host;
    k->interval_ns = host->param_uint(dev, "interval") * 1000000000;
    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        const char *at = host->param_str(dev, lists[i].key), *rest;

        for (; !err && at && *at; at = rest) {
            at += strspn(at, " \t");
            rest = split(at, &o);
            if (!rest)
                err = host->fail(dev, -EINVAL, "%s: '%.*s' is not KEY=VALUE, or too long",
                                 lists[i].key, (int)(strcspn(at, ",") < 60 ? strcspn(at, ",") : 60),
                                 at);
        }
    }
    if (!err)
        err = ic_create(&k->ic, dev, host, &service, k);
    if (!err)
        err = host->timer_create(dev, poll, k, &k->timer);
    if (err) {
        free(k);
        return err;
    }
    *ret_self = k;
    return 0;
}

static const struct mobo_param kvp_params[] = {
    { "values", MOBO_STRING, 0, NULL, NULL, 0, 0, NULL,
      "KEY=VALUE, KEY=VALUE ... for the guest's pool 'external'" },
    { "host-values", MOBO_STRING, 0, NULL, NULL, 0, 0, NULL,
      "KEY=VALUE, KEY=VALUE ... for its pool 'auto-external'" },
    { "host-name", MOBO_STRING, 0, NULL, NULL, 0, 255, NULL,
      "HostName in that pool; default: the name of this computer" },
    { "interval", MOBO_UINT, 0, "s", "60", 1, 86400, NULL,
      "time between two readings of the guest's pools" },
};

static const struct mobo_vdev_ops kvp_ops = {
    .size = sizeof(kvp_ops),
    .create = kvp_create,
    .destroy = kvp_destroy,
    .reset = kvp_reset,
    .save = kvp_save,
    .restore = kvp_restore,
    .inspect = kvp_inspect,
    .command = kvp_command,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "kvp",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "integration service: key-value pairs and IP addresses",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .max_instances = 1,
    .params = kvp_params,
    .nparams = sizeof(kvp_params) / sizeof(kvp_params[0]),
    .param_size = sizeof(struct mobo_param),
    .ops = &kvp_ops,
};
