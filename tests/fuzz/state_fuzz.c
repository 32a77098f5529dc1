/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz target: changed states of a whole enlightened VM, into a board that takes them or refuses them.
 *
 * tests/fuzz/state/base.bin is what vmb_save() made of a Debian guest with all its synthetic drivers at work
 * (tests/fuzz/state/make).  An input is a list of changes to it, 8 bytes each: what, where (24 bits), with what.
 * A place is an offset, or the number of a record and a place in that; so fields can be missing, shorter or longer too.
 * The board has the real plug-ins and the interpreter; RAM is empty.  A state that is taken runs for a moment, so
 * that devices look at their rings, and is saved again. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/backend/net.h"
#include "vmb/vmb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

extern const unsigned long fuzz_inputs;
const unsigned long fuzz_inputs = 200; /* some milliseconds each: see driver.c */

enum { CHANGES_MAX = 64, EDIT = 8, BASE_MAX = 1 << 20, HEAD = 8, RECORDS_MAX = 8192 };
enum { IGNORABLE = 1, GROUP = 2 };

static uint8_t *base;
static size_t base_len;
/* Records of the base, those in groups behind their group.  A record is u16 tag, u16 flags, u32 length, contents. */
static struct record {
    uint32_t at, len; /* of the contents */
    uint32_t after;   /* length with header of the next one in the same group, 0: none */
    bool group;
} records[RECORDS_MAX];
static unsigned nrecords;
static char plugins[3][4096];
static const char *dirs[4];

/* ---- the board ------------------------------------------------------------------------------------------------ */

static const struct vmb_kv com1_kv[] = { { "port", "0x3f8", NULL, 0 }, { "irq", "4", NULL, 0 } };
static const struct vmb_kv net_kv[] = { { "backend", "null", NULL, 0 } };
#define DEV(n, t, ...) { .name = n, .type = t, __VA_ARGS__ }
static const struct vmb_dev_config devs[] = { /* in the order of the VM description */
    DEV("host", "i440fx", .line = 0),
    DEV("pic", "i8259", .line = 0),
    DEV("ioapic", "ioapic", .line = 0),
    DEV("isa", "piix4", .line = 0),
    DEV("pit", "i8254", .line = 0),
    DEV("rtc", "mc146818", .line = 0),
    DEV("kbd", "i8042", .line = 0),
    DEV("com1", "uart16550", .kv = com1_kv, .nkv = 2),
    DEV("heartbeat", "heartbeat", .line = 0),
    DEV("timesync", "timesync", .line = 0),
    DEV("shutdown", "shutdown", .line = 0),
    DEV("kvp", "kvp", .line = 0),
    DEV("synthkbd", "synthkbd", .line = 0),
    DEV("disk0", "storvsp", .line = 0),
    DEV("net0", "netvsp", .kv = net_kv, .nkv = 1),
    DEV("synthmouse", "synthmouse", .line = 0),
    DEV("vss", "vss", .line = 0),
    DEV("fcopy", "fcopy", .line = 0),
    DEV("balloon", "balloon", .line = 0),
};

static void on_log(void *ctx, unsigned level, const char *from, const char *line)
{
    (void)ctx, (void)level, (void)from;
    if (strchr(line, '\n'))
        abort();
}

static void on_request(void *ctx, const struct vmb_request *req) { (void)ctx, (void)req; }

static int on_net_open(void *ctx, struct event_base *eb, const char *dev_name, const struct vmb_net_config *cfg,
                       bool check_only, const struct vmb_net_sink *sink, void *net, struct vmb_net **ret,
                       struct mobo_net_info *info, char *msg, size_t msg_len)
{
    (void)ctx, (void)dev_name;
    return netb_open(NULL, eb, cfg, check_only, sink, net, ret, info, msg, msg_len);
}

static struct vmb *make(void)
{
    static const struct vmb_ops ops = { .log = on_log,       .request = on_request, .net_open = on_net_open,
                                        .net_send = netb_send, .net_ready = netb_ready, .net_close = netb_close };
    const struct vmb_config c = { .name = "fuzz",
                                  .engine = "interp",
                                  .memory = 256 << 20,
                                  .vps = 2,
                                  .enlightened = true,
                                  .generation = 1,
                                  .direct_boot = true,
                                  .devs = devs,
                                  .ndevs = sizeof(devs) / sizeof(devs[0]),
                                  .plugin_dirs = dirs,
                                  .ops = &ops };
    char msg[VMB_MSG_LEN] = "";
    struct vmb *v;

    if (vmb_create(&c, &v, msg, sizeof(msg))) {
        fprintf(stderr, "state_fuzz: %s\n", msg);
        exit(1);
    }
    return v;
}

/* @return as vmb_restore(). */
static int restore(const uint8_t *state, size_t len, char *msg, size_t msg_len)
{
    struct vmb *v = make();
    int err = vmb_restore(v, state, len, NULL, NULL, msg, msg_len);
    size_t again_len;
    void *again;

    if (!err) {
        vmb_resume(v);
        usleep(1000);
        vmb_pause(v);
        if (!vmb_save(v, &again, &again_len, msg, msg_len))
            free(again);
    }
    vmb_destroy(v);
    return err;
}

/* ---- inputs --------------------------------------------------------------------------------------------------- */

static void find_records(uint32_t at, uint32_t end)
{
    struct record *last = NULL;

    while (at + HEAD <= end && nrecords < RECORDS_MAX) {
        struct record *r = &records[nrecords++];

        *r = (struct record){ .at = at + HEAD, .group = base[at + 2] & GROUP };
        memcpy(&r->len, base + at + 4, 4);
        if (last)
            last->after = HEAD + r->len;
        last = r;
        if (r->group)
            find_records(r->at, r->at + r->len);
        at = r->at + r->len;
    }
}

/* One that is overlooked, and has a tag of its own. */
static void put_ignored(uint8_t *s, uint32_t at, unsigned tag, uint32_t len, unsigned group)
{
    s[at] = (uint8_t)tag;
    s[at + 1] = (uint8_t)(0x70 | (tag >> 8 & 15));
    s[at + 2] = (uint8_t)(IGNORABLE | group);
    s[at + 3] = 0;
    memcpy(s + at + 4, &len, 4);
}

static void change_record(uint8_t *s, const uint8_t *e)
{
    unsigned n = (e[1] | e[2] << 8) % nrecords;
    const struct record *r = &records[n];
    uint32_t val, len;

    memcpy(&val, e + 4, 4);
    switch (e[0] % 8) {
    case 0: put_ignored(s, r->at - HEAD, n, r->len, r->group ? GROUP : 0); break;
    case 1:
    case 2:
        if (r->len && !r->group)
            s[r->at + e[3] % r->len] = e[4];
        break;
    case 3:
        if (!r->group)
            memset(s + r->at, e[4], r->len);
        break;
    case 4:
        if (!r->group)
            memcpy(s + r->at, e + 4, r->len < 4 ? r->len : 4);
        break;
    case 5: /* shorter */
        if (r->group || r->len < HEAD)
            break;
        len = val % (r->len - HEAD + 1);
        put_ignored(s, r->at + len, n, r->len - HEAD - len, 0);
        memcpy(s + r->at - 4, &len, 4);
        break;
    case 6: /* longer, by its neighbour */
        if (r->group || !r->after)
            break;
        len = r->len + r->after;
        memcpy(s + r->at - 4, &len, 4);
        break;
    case 7: s[r->at - HEAD] = e[4]; break; /* another one */
    }
}

static void change(uint8_t *s, size_t *len, const uint8_t *e)
{
    size_t at = (size_t)(e[1] | e[2] << 8 | e[3] << 16) % base_len, from;
    uint32_t val;

    if (e[0] >= 128) {
        if (*len == base_len)
            change_record(s, e);
        return;
    }
    memcpy(&val, e + 4, 4);
    from = val % base_len;
    if (at + 16 > *len)
        return;
    switch (e[0] % 6) {
    case 0: s[at] = e[4]; break;
    case 1: memcpy(s + at, &val, 2); break;
    case 2: memcpy(s + at, &val, 4); break;
    case 3: memset(s + at, e[4], 8); break;
    case 4:
        if (from + 16 <= *len)
            memmove(s + at, s + from, 16);
        break;
    case 5: *len = at; break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t *s, *exact;
    size_t n = base_len;
    char msg[VMB_MSG_LEN] = "";

    LLVMFuzzerInitialize(NULL, NULL);
    s = malloc(base_len);
    if (!s)
        return 0;
    memcpy(s, base, base_len);
    for (size_t i = 0; i + EDIT <= len && i < CHANGES_MAX * EDIT; i += EDIT)
        change(s, &n, data + i);
    exact = realloc(s, n ? n : 1); /* so that reading behind it is noticed */
    if (exact)
        s = exact;
    if (exact && restore(s, n, msg, sizeof(msg)) && (!msg[0] || strchr(msg, '\n')))
        __builtin_trap(); /* refused without a line */
    free(s);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *src = getenv("srcdir"), *build = getenv("top_builddir");
    char path[4096], msg[VMB_MSG_LEN] = "";
    FILE *f;

    (void)argc, (void)argv;
    if (base)
        return 0;
    snprintf(path, sizeof(path), "%s/tests/fuzz/state/base.bin", src ? src : ".");
    f = fopen(path, "rb");
    base = malloc(BASE_MAX);
    if (!f || !base || !(base_len = fread(base, 1, BASE_MAX, f))) {
        perror(path);
        exit(1);
    }
    fclose(f);
    find_records(0, (uint32_t)base_len);
    for (unsigned i = 0; i < 2; i++) {
        snprintf(plugins[i], sizeof(plugins[i]), "%.4000s/plugins/core-vdevs/%s/.libs", build ? build : ".",
                 i ? "synthetic" : "emulated");
        dirs[i] = plugins[i];
    }
    /* A saved state is a promise: what was written goes on being read. */
    if (restore(base, base_len, msg, sizeof(msg))) {
        fprintf(stderr, "%s is not taken any more: %s\n(if that is meant, tests/fuzz/state/make makes another)\n", path,
                msg);
        exit(1);
    }
    return 0;
}
