/* SPDX-License-Identifier: BSD-2-Clause */
/* The board with real plug-ins on a fake hv: loading, configuration messages, port and MMIO space,
 * lines, PCI, timers, requests, pause, reset, saved state, inspection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sdk/lib/inspect.h"
#include "vmb/board.h"
#include "vmb/fakehv.h"

enum { MiB = 1 << 20 };

static char plugin_dir[512];
static struct vmb_request last_req;
static char last_from[32], last_text[64], last_dump[64];
static unsigned nreq, nboot, nwritten, room = 1000, nlog[VMB_TRACE + 1];
static char last_line[64]; /* "FROM: LINE" of the last warning */
static bool log_debug;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static const struct vmb_char_sink *chr_sink;
static void *chr_dev;
static char msg[VMB_MSG_LEN];

static void on_log(void *ctx, unsigned level, const char *from, const char *line)
{
    (void)ctx;
    nlog[level]++;
    if (level == MOBO_WARNING)
        snprintf(last_line, sizeof(last_line), "%s: %s", from, line);
}

static void on_request(void *ctx, const struct vmb_request *req)
{
    (void)ctx;
    pthread_mutex_lock(&lock);
    last_req = *req;
    snprintf(last_from, sizeof(last_from), "%s", req->from);
    snprintf(last_text, sizeof(last_text), "%s", req->text);
    snprintf(last_dump, sizeof(last_dump), "%s", req->dump);
    nreq++;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&lock);
}

static int on_boot(void *ctx, struct vmb *v, char *m, size_t len)
{
    (void)v;
    nboot++;
    if (ctx) {
        snprintf(m, len, "cannot boot");
        return -ENOENT;
    }
    return 0;
}

static int on_char_open(void *ctx, struct event_base *base, const char *name, const char *spec,
                        bool check_only, const struct vmb_char_sink *sink, void *dev,
                        struct vmb_backend **ret, char *m, size_t len)
{
    (void)ctx;
    (void)base;
    (void)name;
    if (strcmp(spec, "mem")) {
        snprintf(m, len, "unknown backend '%s'", spec);
        return -EINVAL;
    }
    if (!check_only) {
        chr_sink = sink;
        chr_dev = dev;
        *ret = (struct vmb_backend *)&room;
    }
    return 0;
}

static size_t on_char_write(struct vmb_backend *b, const uint8_t *buf, size_t len)
{
    (void)b;
    (void)buf;
    nwritten += (unsigned)len;
    return len;
}

static void on_char(struct vmb_backend *b)
{
    (void)b;
}

static const struct vmb_ops ops = {
    .log = on_log,
    .request = on_request,
    .boot = on_boot,
    .char_open = on_char_open,
    .char_write = on_char_write,
    .char_ready = on_char,
    .char_close = on_char,
};

/* ---- boards ------------------------------------------------------------------------------------------ */

#define KV(...)             \
    (const struct vmb_kv[]) \
    {                       \
        __VA_ARGS__         \
    }
#define KVS(...) .kv = KV(__VA_ARGS__), .nkv = sizeof(KV(__VA_ARGS__)) / sizeof(struct vmb_kv)

static struct vmb *make(const struct vmb_dev_config *devs, unsigned n, uint64_t memory, void *ctx)
{
    static const char *dirs[2];
    struct vmb_config cfg = {
        .engine = "auto",
        .memory = memory,
        .vps = 2,
        .generation = 1,
        .direct_boot = true,
        .base_dir = "/vm",
        .devs = devs,
        .ndevs = n,
        .plugin_dirs = dirs,
        .ops = &ops,
        .ctx = ctx,
        .log_debug = log_debug,
    };
    struct vmb *v = NULL;

    dirs[0] = plugin_dir;
    nreq = nboot = nwritten = 0;
    memset(nlog, 0, sizeof(nlog));
    chr_dev = NULL;
    msg[0] = 0;
    memset(&last_req, 0, sizeof(last_req));
    return vmb_create(&cfg, &v, msg, sizeof(msg)) ? NULL : v;
}

static const struct vmb_dev_config full[] = {
    { .name = "dev0",
      .type = "testdev",
      .file = "a.ini",
      .line = 10,
      KVS({ "port", "0x100", "a.ini", 11 }, { "irq", "4", "a.ini", 12 },
          { "need", "1", "a.ini", 13 }, { "mmio", "0xd0000000", "a.ini", 14 },
          { "backend", "mem", "a.ini", 15 }) },
    { .name = "dev1",
      .type = "testdev",
      .file = "a.ini",
      .line = 20,
      KVS({ "port", "0x200", "a.ini", 21 }, { "need", "1", "a.ini", 22 },
          { "pci", "yes", "a.ini", 23 }, { "slot", "3", "a.ini", 24 },
          { "vram", "0xd0000", "a.ini", 25 }) },
    { .name = "root", .type = "testroot" },
    { .name = "pic", .type = "testpic" },
};

static struct vmb *start_full(void)
{
    struct vmb *v = make(full, 4, 8 * MiB, NULL);

    assert_string_equal(msg, "");
    assert_non_null(v);
    assert_int_equal(vmb_power_on(v, msg, sizeof(msg)), 0);
    assert_int_equal(nboot, 1);
    return v;
}

static void nap(unsigned ms)
{
    struct timespec ts = { 0, (long)ms * 1000000 };

    nanosleep(&ts, NULL);
}

/* Port @port becomes @want before long. */
static void wait_port(unsigned port, unsigned want)
{
    for (unsigned i = 0; i < 5000 && fakehv_in(port, 1) != want; i++)
        nap(1);
    assert_int_equal(fakehv_in(port, 1), want);
}

static void wait_request(unsigned n)
{
    pthread_mutex_lock(&lock);
    while (nreq < n)
        pthread_cond_wait(&cond, &lock);
    pthread_mutex_unlock(&lock);
}

static uint32_t level(unsigned line)
{
    fakehv_out(0x20, 1, line);
    return fakehv_in(0x21, 1);
}

static uint32_t cfg(unsigned slot, unsigned off, unsigned len)
{
    fakehv_out(0xcf8, 4, 0x80000000u | slot << 11 | (off & 0xfc));
    return fakehv_in(0xcfc + (off & 3), len);
}

static void cfg_set(unsigned slot, unsigned off, unsigned len, uint32_t val)
{
    fakehv_out(0xcf8, 4, 0x80000000u | slot << 11 | (off & 0xfc));
    fakehv_out(0xcfc + (off & 3), len, val);
}

/* ---- configuration ------------------------------------------------------------------------------------- */

static void expect(const struct vmb_dev_config *devs, unsigned n, const char *want)
{
    struct vmb *v = make(devs, n, 8 * MiB, NULL);

    assert_null(v);
    assert_string_equal(msg, want);
}

#define ONE(...)                                                 \
    (const struct vmb_dev_config[])                              \
    {                                                            \
        {                                                        \
            .name = "a", .file = "x.ini", .line = 3, __VA_ARGS__ \
        }                                                        \
    }

static void messages(void **state)
{
    char want[VMB_MSG_LEN * 2], path[600];

    (void)state;
    expect(ONE(.type = "tesdev"), 1,
           "x.ini:3: [vdev a] unknown type 'tesdev' (did you mean "
           "'testdev'?)");
    expect(ONE(.type = "zzz"), 1, "x.ini:3: [vdev a] unknown type 'zzz'");
    expect(ONE(.type = "testdev"), 1, "x.ini:3: key 'need' is missing in [vdev a]");
    expect(ONE(.type = "testdev", KVS({ "prot", "1", "x.ini", 4 })), 1,
           "x.ini:4: unknown key 'prot' in [vdev a] (did you mean 'port'?)");
    expect(ONE(.type = "testdev", KVS({ "prot", "1", NULL, 0 })), 1,
           "unknown key 'prot' in [vdev a] (did you mean 'port'?)");
    expect(ONE(.type = "testdev", KVS({ "need", "12", "x.ini", 4 })), 1,
           "x.ini:4: need = 12 in [vdev a] is above the largest, 9 (0x9)");
    expect(ONE(.type = "testdev", KVS({ "slot", "32", "x.ini", 4 })), 1,
           "x.ini:4: slot = 32 in [vdev a] is not a PCI slot (0 to 31, or SLOT.FUNCTION)");
    expect(ONE(.type = "testdev", KVS({ "slot", "0000007junk", "x.ini", 4 })), 1,
           "x.ini:4: slot = 0000007junk in [vdev a] is not a PCI slot (0 to 31, or SLOT.FUNCTION)");
    expect(ONE(.type = "testdev", KVS({ "slot", "0000007junk.1", "x.ini", 4 })), 1,
           "x.ini:4: slot = 0000007junk.1 in [vdev a] is not a PCI slot (0 to 31, or SLOT.FUNCTION)");
    expect(ONE(.type = "testpic", KVS({ "slot", "3", "x.ini", 4 })), 1,
           "x.ini:4: unknown key 'slot' in [vdev a]");
    expect(ONE(.type = "testdev", KVS({ "isolation", "process", "x.ini", 4 })), 1,
           "x.ini:4: isolation = process in [vdev a] is not available yet (only none)");
    expect(ONE(.type = "testdev", KVS({ "need", "1", NULL, 0 }, { "pci", "yes", "x.ini", 5 })), 1,
           "x.ini:3: [vdev a] there is no PCI bus on this board (no host bridge)");
    expect(ONE(.type = "testdev", KVS({ "need", "1", NULL, 0 }, { "backend", "tty", "x.ini", 5 })),
           1, "x.ini:5: [vdev a] backend: unknown backend 'tty'");
    expect(
        ONE(.type = "testdev", KVS({ "need", "1", NULL, 0 }, { "mmio", "0x200000", "x.ini", 5 })),
        1, "x.ini:5: [vdev a] mmio: 0x200000-0x200fff is RAM");
    snprintf(path, sizeof(path), "%s/badabi.so", plugin_dir);
    snprintf(want, sizeof(want),
             "x.ini:3: [vdev a] plug-in %s does not fit: it is built for ABI "
             "2.0, this program has %d.%d",
             path, MOBO_ABI_MAJOR, MOBO_ABI_MINOR);
    expect(ONE(.type = "bad", .plugin = path), 1, want);
    snprintf(path, sizeof(path), "%s/badmagic.so", plugin_dir);
    snprintf(want, sizeof(want),
             "x.ini:3: [vdev a] plug-in %s does not fit: its descriptor has a "
             "wrong magic number",
             path);
    expect(ONE(.type = "bad", .plugin = path), 1, want);
    snprintf(path, sizeof(path), "%s/badops.so", plugin_dir);
    snprintf(want, sizeof(want),
             "x.ini:3: [vdev a] plug-in %s does not fit: it lacks the required "
             "operation 'save'",
             path);
    expect(ONE(.type = "bad", .plugin = path), 1, want);
    snprintf(path, sizeof(path), "%s/nosymbol.so", plugin_dir);
    snprintf(want, sizeof(want),
             "x.ini:3: [vdev a] plug-in %s does not fit: it exports 'something_else'; "
             "mobo_vdev_descriptor is the only symbol that it may",
             path);
    expect(ONE(.type = "bad", .plugin = path), 1, want);
    expect(ONE(.type = "bad", .plugin = "/nonexistent/x.so"), 1,
           "x.ini:3: [vdev a] plug-in /nonexistent/x.so: No such file or directory");
    snprintf(path, sizeof(path), "%s/testpic.so", plugin_dir);
    snprintf(want, sizeof(want), "x.ini:3: [vdev a] plug-in %s is of type 'testpic', not 'testdev'",
             path);
    expect(ONE(.type = "testdev", .plugin = path), 1, want);
}

static void conflicts(void **state)
{
    const struct vmb_kv a[] = { { "port", "0x100", "x.ini", 4 },
                                { "need", "1", NULL, 0 },
                                { "irq", "5", "x.ini", 5 } };
    const struct vmb_kv b[] = { { "port", "0x108", "x.ini", 8 }, { "need", "1", NULL, 0 } };
    const struct vmb_kv c[] = { { "port", "0x300", NULL, 0 },
                                { "need", "1", NULL, 0 },
                                { "irq", "5", "x.ini", 9 } };
    struct vmb_dev_config two[4] = {
        { .name = "one", .type = "testdev", .file = "x.ini", .line = 3, .kv = a, .nkv = 3 },
        { .name = "two", .type = "testdev", .file = "x.ini", .line = 7, .kv = b, .nkv = 2 },
    };
    struct vmb *v;

    (void)state;
    expect(two, 2, "x.ini:8: [vdev two] port: 0x108-0x117 is taken by 'one' (port 0x100-0x10f)");
    two[1].kv = c;
    two[1].nkv = 3;
    expect(two, 2, "x.ini:9: [vdev two] irq: line 5 is taken by 'one'");

    /* level-triggered and shared by both: fine */
    const struct vmb_kv d[] = { { "port", "0x100", NULL, 0 },
                                { "need", "1", NULL, 0 },
                                { "irq", "5", NULL, 0 },
                                { "shared", "yes", NULL, 0 } };
    const struct vmb_kv e[] = { { "port", "0x200", NULL, 0 },
                                { "need", "1", NULL, 0 },
                                { "irq", "5", NULL, 0 },
                                { "shared", "yes", NULL, 0 } };
    two[0].kv = d;
    two[1].kv = e;
    two[0].nkv = two[1].nkv = 4;
    two[2] = (struct vmb_dev_config){ .name = "pic", .type = "testpic" };
    v = make(two, 3, 8 * MiB, NULL);
    assert_non_null(v);
    fakehv_out(0x101, 1, 1);
    fakehv_out(0x201, 1, 1);
    assert_int_equal(level(5), 1);
    fakehv_out(0x101, 1, 0);
    assert_int_equal(level(5), 1);
    fakehv_out(0x201, 1, 0);
    assert_int_equal(level(5), 0);
    assert_int_equal(fakehv_in(0x22, 1), 1); /* one edge */
    vmb_destroy(v);

    two[3] =
        (struct vmb_dev_config){ .name = "pic2", .type = "testpic", .file = "x.ini", .line = 12 };
    expect(two, 4, "x.ini:12: [vdev pic2] is one too many of type 'testpic' (at most 1)");
}

static void board_limits(void **state)
{
    struct vmb_config c = { .engine = "auto", .vps = 1, .ops = &ops };
    struct vmb *v = NULL;

    (void)state;
    c.memory = 0;
    assert_int_equal(vmb_create(&c, &v, msg, sizeof(msg)), -EINVAL);
    c.memory = MiB + 1;
    assert_int_equal(vmb_create(&c, &v, msg, sizeof(msg)), -EINVAL);
    c.memory = MiB;
    c.vps = 65;
    assert_int_equal(vmb_create(&c, &v, msg, sizeof(msg)), -EINVAL);
    c.vps = 1;
    c.check_only = true;
    assert_int_equal(vmb_create(&c, &v, msg, sizeof(msg)), 0);
    assert_int_equal(vmb_power_on(v, msg, sizeof(msg)), -EINVAL);
    vmb_destroy(v);
    vmb_destroy(NULL);
}

static unsigned good, bad;

static void listed(void *ctx, const struct vmb_plugin *p)
{
    (void)ctx;
    good += p->desc != NULL;
    bad += p->desc == NULL && p->why && strlen(p->why) > 10;
}

static void listing(void **state)
{
    const char *dirs[] = { plugin_dir, plugin_dir, "/nonexistent", NULL };

    (void)state;
    good = bad = 0;
    vmb_vdev_list(dirs, listed, NULL);
    assert_int_equal(good, 3); /* the second folder's are shadowed */
    assert_int_equal(bad, 8);
}

/* ---- spaces --------------------------------------------------------------------------------------------- */

static void ports_and_mmio(void **state)
{
    struct vmb *v = start_full();
    struct vmb_ram_range map[8];

    (void)state;
    assert_int_equal(fakehv_in(0x80, 1), 0xff);
    assert_int_equal(fakehv_in(0x80, 4), 0xffffffff);
    fakehv_out(0x100, 1, 0x5a);
    assert_int_equal(fakehv_in(0x100, 1), 0x5a);
    assert_int_equal(fakehv_in(0x10f, 2), 0xffff); /* runs over the end */
    assert_int_equal(fakehv_in(0xff, 2), 0x5aff);  /* and over the start */
    assert_int_equal(fakehv_in(0xffff, 4), 0xffffffff);
    assert_int_equal(fakehv_in(0xcf8, 1), 0xff); /* an exact region takes dwords only */
    fakehv_out(0xcf8, 4, 0x80000000);
    assert_int_equal(fakehv_in(0xcf8, 4), 0x80000000);

    assert_int_equal(fakehv_read(0xd0000010, 1), 0xb0);
    assert_int_equal(fakehv_read(0xd0000000, 2), 0xa1a0);
    assert_int_equal(fakehv_read(0xcfffffff, 2), 0xa0ff);
    fakehv_out(0x106, 1, 2);
    assert_int_equal(fakehv_read(0xd0000010, 1), 0xff);
    assert_int_equal(fakehv_read(0xd0002010, 1), 0xb0);
    fakehv_out(0x106, 1, 0xff);
    assert_int_equal(fakehv_read(0xd0002010, 1), 0xff);

    /* RAM: the display hole, device memory below 1 MiB and what comes back under it */
    fakehv_write(0x9fffe, 2, 0x1234);
    assert_int_equal(fakehv_read(0x9fffe, 2), 0x1234);
    fakehv_write(0xa0000, 2, 0x1234);
    assert_int_equal(fakehv_read(0xa0000, 2), 0xffff);
    fakehv_write(0xd0000, 4, 0xabcd);
    assert_int_equal(fakehv_read(0xd0000, 4), 0xabcd);
    fakehv_out(0x208, 1, 0);
    assert_int_equal(fakehv_read(0xd0000, 4), 0);
    assert_int_equal(fakehv_read(8 * MiB, 4), 0xffffffff);

    assert_int_equal(vmb_ram_map(v, map, 8), 4);
    assert_int_equal(map[3].base, MiB);
    assert_int_equal(map[3].len, 7 * MiB);
    assert_int_equal(vmb_acpi_rsdp(v), 0); /* nobody described anything */
    vmb_destroy(v);
}

static int load_none(void *ctx, char *text, size_t len)
{
    (void)ctx, (void)text, (void)len;
    fail();
    return -EIO;
}

static int load_nothing(void *ctx, char *text, size_t len)
{
    (void)ctx, (void)text, (void)len;
    return 0;
}

/* Memory that is added: at 4 GiB on this board, zero when it comes and again after it went. */
static void memory_added(void **state)
{
    const struct vmb_dev_config devs[] = {
        { .name = "dev0", .type = "testdev", KVS({ "port", "0x100", "a.ini", 1 }, { "need", "1", "a.ini", 2 }, { "hot", "128", "a.ini", 3 }) },
        { .name = "dev1", .type = "testdev", KVS({ "port", "0x200", "a.ini", 5 }, { "need", "1", "a.ini", 6 }) },
        { .name = "root", .type = "testroot" },
        { .name = "pic", .type = "testpic" },
    };
    const struct vmb_dev_config wrong[] = {
        { .name = "dev0", .type = "testdev", KVS({ "port", "0x100", "a.ini", 1 }, { "need", "1", "a.ini", 2 }, { "hot", "100", "a.ini", 3 }) },
        { .name = "root", .type = "testroot" },
        { .name = "pic", .type = "testpic" },
    };
    const struct vmb_dev_config without[] = {
        { .name = "dev0", .type = "testdev", KVS({ "port", "0x100", "a.ini", 1 }, { "need", "1", "a.ini", 2 }) }, devs[1], devs[2], devs[3],
    };
    struct vmb *v = make(devs, 4, 8 * MiB, NULL);
    struct vmb_ram_block block[4];
    size_t len;
    void *buf;

    (void)state;
    assert_non_null(v);
    assert_int_equal(vmb_power_on(v, msg, sizeof(msg)), 0);
    assert_int_equal(vmb_ram_blocks(v, block, 4), 2); /* its contents are saved */
    assert_int_equal(block[1].len, 128 * MiB);
    assert_int_equal(fakehv_read((1ull << 32), 4), 0xffffffff);
    fakehv_out(0x109, 1, 2);
    assert_int_equal(fakehv_in(0x10a, 1), 0);
    fakehv_write((1ull << 32) + MiB, 4, 0x1234);
    fakehv_write((1ull << 32), 4, 0x5678);
    assert_int_equal(fakehv_read((1ull << 32) + MiB, 4), 0x1234);
    assert_int_equal(fakehv_read((1ull << 32) + 2 * MiB, 4), 0xffffffff);
    fakehv_out(0x109, 1, 129); /* more than there is room for */
    assert_int_equal(fakehv_in(0x10a, 1), 1);
    fakehv_out(0x209, 1, 1); /* another's */
    assert_int_equal(fakehv_in(0x20a, 1), 1);
    fakehv_out(0x109, 1, 1);
    assert_int_equal(fakehv_read((1ull << 32) + MiB, 4), 0xffffffff);
    fakehv_out(0x109, 1, 128);
    assert_int_equal(fakehv_read((1ull << 32) + MiB, 4), 0);
    assert_int_equal(fakehv_read((1ull << 32), 4), 0x5678);
    vmb_pause(v);
    assert_int_equal(vmb_save(v, &buf, &len, msg, sizeof(msg)), 0);
    vmb_destroy(v);
    v = make(without, 4, 8 * MiB, NULL);
    assert_int_equal(vmb_restore(v, buf, len, load_none, NULL, msg, sizeof(msg)), -EINVAL); /* before memory is looked at */
    assert_string_equal(msg, "the state is of a VM to which 128 MiB can be added while it runs, to this one 0 MiB "
                             "('maximum' of type balloon)");
    vmb_destroy(v);
    v = make(devs, 4, 8 * MiB, NULL);
    /* it is there before devices are restored: this one does not plug it again */
    assert_int_equal(vmb_restore(v, buf, len, load_nothing, NULL, msg, sizeof(msg)), 0);
    assert_int_equal(fakehv_read((1ull << 32) + MiB, 4), 0);
    assert_int_equal(fakehv_read((1ull << 32) + 128 * MiB, 4), 0xffffffff);
    vmb_destroy(v);
    free(buf);
    assert_null(make(wrong, 3, 8 * MiB, NULL));
    assert_non_null(strstr(msg, "is not a length for memory that is added"));
}

static void a20(void **state)
{
    struct vmb *v = start_full();
    char m[64];

    (void)state;
    assert_true(fakehv.a20);
    fakehv_out(0x107, 1, 0);
    assert_false(fakehv.a20);
    fakehv_out(0x207, 1, 1);
    assert_true(fakehv.a20);
    fakehv_out(0x207, 1, 0);
    assert_false(fakehv.a20);
    vmb_reset(v, m, sizeof(m));
    assert_true(fakehv.a20);
    vmb_destroy(v);
}

/* ---- interrupts and PCI ------------------------------------------------------------------------------------ */

static void lines(void **state)
{
    struct vmb *v = start_full();

    (void)state;
    assert_int_equal(fakehv_ack(), -1);
    fakehv_out(0x101, 1, 1);
    assert_true(fakehv.intr);
    assert_int_equal(level(4), 1);
    assert_int_equal(fakehv_ack(), 0x44);
    fakehv_out(0x101, 1, 0);
    assert_false(fakehv.intr);
    fakehv_out(0x101, 1, 2);
    assert_int_equal(level(4), 0);
    assert_int_equal(fakehv_in(0x22, 1), 2);
    fakehv_eoi(0x44);
    assert_int_equal(fakehv_in(0x23, 1), 0x44);
    vmb_destroy(v);
}

static void pci(void **state)
{
    struct vmb *v = start_full();
    uint64_t bar;
    char m[64];

    (void)state;
    assert_int_equal(cfg(0, 0, 4), 0x12378086);
    assert_int_equal(cfg(3, 0, 4), 0x56781234);
    assert_int_equal(cfg(3, 2, 2), 0x5678);
    assert_int_equal(cfg(4, 0, 4), 0xffffffff);
    fakehv_out(0xcf8, 4, 0x80010000); /* bus 1 */
    assert_int_equal(fakehv_in(0xcfc, 4), 0xffffffff);
    fakehv_out(0xcf8, 4, 0);
    assert_int_equal(fakehv_in(0xcfc, 4), 0xffffffff);

    /* placed as firmware would, decoding */
    bar = cfg(3, 0x10, 4);
    assert_int_equal(bar, 0xe0000000);
    assert_int_equal(cfg(3, 4, 2), 2);
    fakehv_write(bar, 4, 0x11223344);
    assert_int_equal(fakehv_read(bar, 4), 0x11223344);
    assert_int_equal(cfg(3, 0x3c, 1), 18); /* no router: slot 3 INTA is PIRQ C, line 18 */

    /* sizing and moving */
    cfg_set(3, 0x10, 4, 0xffffffff);
    assert_int_equal(cfg(3, 0x10, 4), 0xfffff000);
    assert_int_equal(fakehv_read(bar, 4), 0xffffffff);
    cfg_set(3, 0x10, 4, 0xe1000000);
    assert_int_equal(fakehv_read(0xe1000000, 4), 0x11223344);
    cfg_set(3, 0x10, 4, 0xd0000000); /* onto dev0's page, which was there first */
    assert_int_equal(fakehv_read(0xd0000000, 1), 0xa0);
    cfg_set(3, 0x10, 4, (uint32_t)bar);
    cfg_set(3, 4, 2, 0);
    assert_int_equal(fakehv_read(bar, 4), 0xffffffff);
    cfg_set(3, 4, 2, 2);

    /* INTx: status bit, disable bit, routing */
    fakehv_write(bar + 4, 4, 1);
    assert_int_equal(level(18), 1);
    assert_int_equal(cfg(3, 6, 2) & 8, 8);
    cfg_set(3, 4, 2, 0x402);
    assert_int_equal(level(18), 0);
    cfg_set(3, 4, 2, 2);
    assert_int_equal(level(18), 1);
    cfg_set(0, 0x60, 1, 11); /* a router appears: PIRQ A to 11, others nowhere */
    assert_int_equal(level(18), 0);
    fakehv_write(bar + 4, 4, 0);
    assert_int_equal(cfg(3, 6, 2) & 8, 0);

    /* bus mastering and MSI */
    fakehv_write(bar + 12, 4, 0x3000);
    assert_int_equal(fakehv_in(0x209, 1), 1);
    assert_int_equal(fakehv_read(0x3000, 4), 0);
    cfg_set(3, 4, 2, 6);
    fakehv_write(bar + 12, 4, 0x3000);
    assert_int_equal(fakehv_in(0x209, 1), 0);
    assert_int_equal(fakehv_read(0x3000, 4), 0x3000);
    fakehv_write(bar + 12, 4, 0xb0000000); /* no RAM there */
    assert_int_equal(fakehv_in(0x209, 1), 1);
    fakehv_write(bar + 8, 4, 0);
    assert_int_equal(fakehv_in(0x209, 1), 1);
    assert_int_equal(cfg(3, 0x34, 1), 0x40);
    cfg_set(3, 0x44, 4, 0xfee02000);
    cfg_set(3, 0x4c, 2, 0x4031);
    cfg_set(3, 0x42, 2, 1);
    fakehv_write(bar + 8, 4, 0);
    assert_int_equal(fakehv.msis, 1);
    assert_int_equal(fakehv.msi_addr, 0xfee02000);
    assert_int_equal(fakehv.msi_data, 0x4031);

    vmb_reset(v, m, sizeof(m));
    assert_int_equal(cfg(3, 0x42, 2) & 1, 0);
    assert_int_equal(cfg(3, 4, 2), 2);
    assert_int_equal(nlog[MOBO_ERROR], 0);
    vmb_destroy(v);
}

/* ---- time, threads, requests ---------------------------------------------------------------------------------- */

static void timers_and_work(void **state)
{
    struct vmb *v = start_full();

    (void)state;
    fakehv_out(0x102, 1, 5);
    wait_port(0x102, 1);
    fakehv_out(0x102, 1, 5);
    fakehv_out(0x102, 1, 0xff); /* cancelled */
    nap(20);
    assert_int_equal(fakehv_in(0x102, 1), 1);
    fakehv_out(0x104, 1, 0);
    fakehv_out(0x104, 1, 0);
    wait_port(0x104, 2);

    /* neither runs during a pause, both after it */
    fakehv_out(0x102, 1, 250);
    assert_int_equal(vmb_pause(v), 0);
    fakehv_out(0x104, 1, 0);
    nap(300);
    assert_int_equal(fakehv_in(0x102, 1), 1);
    assert_int_equal(fakehv_in(0x104, 1), 2);
    assert_int_equal(chr_sink->can_read(chr_dev), 0);
    chr_sink->event(chr_dev, MOBO_CHAR_WRITABLE);
    assert_int_equal(fakehv_in(0x106, 1), 0);
    assert_int_equal(vmb_resume(v), 0);
    wait_port(0x102, 2);
    wait_port(0x104, 3);
    wait_port(0x106, 1);
    vmb_destroy(v);
}

static void characters(void **state)
{
    struct vmb *v = start_full();

    (void)state;
    fakehv_out(0x105, 1, 'x');
    assert_int_equal(nwritten, 1);
    assert_int_equal(chr_sink->can_read(chr_dev), 1);
    chr_sink->read(chr_dev, (const uint8_t *)"q", 1);
    assert_int_equal(fakehv_in(0x105, 1), 'q');
    /* of a peer that goes and one that comes during a pause the last one counts */
    for (unsigned last = MOBO_CHAR_OPENED; last <= MOBO_CHAR_CLOSED; last++) {
        assert_int_equal(vmb_pause(v), 0);
        chr_sink->event(chr_dev, MOBO_CHAR_OPENED + MOBO_CHAR_CLOSED - last);
        chr_sink->event(chr_dev, last);
        assert_int_equal(vmb_resume(v), 0);
        assert_int_equal(fakehv_in(0x10b, 1), last);
    }
    vmb_destroy(v);
}

static void count(void *ctx)
{
    atomic_fetch_add((atomic_uint *)ctx, 1);
}

static bool counted(atomic_uint *n, unsigned want)
{
    for (unsigned i = 0; i < 20000 && atomic_load(n) < want; i++)
        nap(1);
    return atomic_load(n) == want;
}

/* The I/O thread has looked at all that was posted and sleeps. */
static bool slept(struct vmb *v)
{
    bool awake = true;

    for (unsigned i = 0; i < 20000 && awake; i++) {
        pthread_mutex_lock(&v->io.lock);
        awake = v->io.awake;
        pthread_mutex_unlock(&v->io.lock);
        if (awake)
            nap(1);
    }
    return !awake;
}

/* Work that is put off runs when its time has come, when a VP has nothing to do, and along with other work. */
static void work_put_off(void **state)
{
    enum { LONG = 999999999 };
    struct vmb *v = start_full();
    struct timespec a, b;
    atomic_uint n = 0;

    (void)state;
    assert_true(slept(v)); /* else it is along with what power-on left to do */
    clock_gettime(CLOCK_MONOTONIC, &a);
    assert_int_equal(io_post_soon(v, NULL, count, &n, LONG), 0);
    assert_int_equal(io_post_soon(v, NULL, count, &n, LONG), 0);
    nap(1);
    clock_gettime(CLOCK_MONOTONIC, &b);
    if (b.tv_sec == a.tv_sec) /* else the host was away */
        assert_int_equal(atomic_load(&n), 0);
    io_idle(v, 0);
    assert_true(counted(&n, 2));
    io_idle(v, 0);
    assert_int_equal(io_post_soon(v, NULL, count, &n, 1000000), 0);
    assert_true(counted(&n, 3));
    assert_int_equal(io_post_soon(v, NULL, count, &n, LONG), 0);
    assert_int_equal(io_post(v, NULL, count, &n), 0);
    assert_true(counted(&n, 5));
    assert_int_equal(io_post_soon(v, NULL, count, &n, LONG), 0); /* whether or not it runs */
    vmb_destroy(v);
}

static atomic_int unruly;

static void again(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    if (atomic_load(&unruly))
        event_active(*(struct event **)arg, 0, 0);
}

/* An event that is always active, as a fast writer's is, does not keep the others of the I/O thread from running. */
static void busy_event(void **state)
{
    struct vmb *v = start_full();
    atomic_uint n = 0;
    struct event *e;
    bool ran;

    (void)state;
    e = event_new(v->io.base, -1, 0, again, &e);
    assert_non_null(e);
    atomic_store(&unruly, 1);
    event_active(e, 0, 0);
    nap(5);
    assert_int_equal(io_post(v, NULL, count, &n), 0);
    ran = counted(&n, 1);
    atomic_store(&unruly, 0);
    assert_true(ran);
    event_free(e);
    vmb_destroy(v);
}

static void requests(void **state)
{
    struct vmb *v = start_full();
    unsigned resets = fakehv.resets;

    (void)state;
    fakehv_out(0x103, 1, MOBO_SYS_RESET);
    fakehv_out(0x103, 1, MOBO_SYS_RESET); /* only the first counts */
    wait_request(1);
    assert_int_equal(last_req.kind, VMB_REQ_RESET);
    assert_string_equal(last_from, "dev0");
    assert_string_equal(last_text, "as told");
    assert_int_equal(nreq, 1);
    assert_int_equal(vmb_reset(v, msg, sizeof(msg)), 0);
    assert_int_equal(fakehv.resets, resets + 1);
    assert_int_equal(nboot, 2);
    assert_int_equal(fakehv_in(0x107, 1), 2);

    fakehv_exit(HV_EXIT_TRIPLE_FAULT, "triple fault at 0x1000");
    wait_request(2);
    assert_int_equal(last_req.kind, VMB_REQ_TRIPLE_FAULT);
    assert_string_equal(last_from, "vp 0");
    assert_string_equal(last_dump, "registers of 0");
    assert_int_equal(vmb_reset(v, msg, sizeof(msg)), 0);

    fakehv_out(0x103, 1, MOBO_SYS_EXIT);
    wait_request(3);
    assert_int_equal(last_req.kind, VMB_REQ_EXIT);
    assert_int_equal(last_req.code, 7);
    vmb_event(v, MOBO_EVENT_POWER_BUTTON);
    assert_int_equal(fakehv_in(0x108, 1), 1);
    vmb_power_off(v);
    vmb_power_off(v);
    assert_int_equal(fakehv_in(0x107, 1), 3); /* still there to look at */
    vmb_destroy(v);
}

static void boot_failure(void **state)
{
    struct vmb *v = make(full, 4, 8 * MiB, &room);

    (void)state;
    assert_non_null(v);
    assert_int_equal(vmb_power_on(v, msg, sizeof(msg)), -ENOENT);
    assert_string_equal(msg, "cannot boot");
    vmb_destroy(v);
}

static atomic_int stop;

static void *hammer(void *arg)
{
    unsigned base = *(unsigned *)arg;

    for (unsigned i = 0; !stop; i++) {
        fakehv_out(base + 1, 1, i & 1);
        fakehv_out(base, 1, i & 0xff);
        fakehv_in(base, 4);
        fakehv_read(0xd0000000, 8);
        fakehv_out(base + 4, 1, 0);
        if (base == 0x100) {
            fakehv_out(base + 2, 1, i & 3);
            fakehv_out(base + 6, 1, i & 7);
        }
        fakehv_ack();
    }
    return NULL;
}

/* Accesses from two threads while the board pauses, resumes and resets: for TSan and deadlocks. */
static void threads(void **state)
{
    const struct vmb_kv a[] = { { "port", "0x100", NULL, 0 },
                                { "need", "1", NULL, 0 },
                                { "irq", "5", NULL, 0 },
                                { "shared", "yes", NULL, 0 },
                                { "mmio", "0xd0000000", NULL, 0 } };
    const struct vmb_kv b[] = { { "port", "0x200", NULL, 0 },
                                { "need", "1", NULL, 0 },
                                { "irq", "5", NULL, 0 },
                                { "shared", "yes", NULL, 0 } };
    const struct vmb_dev_config devs[] = {
        { .name = "one", .type = "testdev", .kv = a, .nkv = 5 },
        { .name = "two", .type = "testdev", .kv = b, .nkv = 4 },
        { .name = "pic", .type = "testpic" },
    };
    struct vmb *v = make(devs, 3, 8 * MiB, NULL);
    unsigned base[2] = { 0x100, 0x200 };
    pthread_t t[2];

    (void)state;
    assert_non_null(v);
    assert_int_equal(vmb_power_on(v, msg, sizeof(msg)), 0);
    stop = 0;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, hammer, &base[i]), 0);
    for (unsigned i = 0; i < 20; i++) {
        nap(5);
        assert_int_equal(vmb_pause(v), 0);
        assert_int_equal(vmb_resume(v), 0);
        if (i % 4 == 0)
            assert_int_equal(vmb_reset(v, msg, sizeof(msg)), 0);
    }
    stop = 1;
    for (unsigned i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    vmb_destroy(v);
}

/* ---- state ------------------------------------------------------------------------------------------------------ */

static void save_restore(void **state)
{
    struct vmb *v = start_full();
    void *buf = NULL, *buf2 = NULL;
    size_t len = 0, len2 = 0;
    uint8_t *copy;

    (void)state;
    assert_int_equal(vmb_save(v, &buf, &len, msg, sizeof(msg)), -EINVAL);
    fakehv_out(0x100, 1, 0x77);
    fakehv_out(0x101, 1, 1); /* line 4 */
    cfg_set(0, 0x60, 1, 11);
    cfg_set(3, 0x10, 4, 0xe4000000);
    fakehv_write(0xe4000000, 4, 0xcafe);
    fakehv_write(0xd0000, 4, 0xd00d);
    fakehv_out(0x102, 1, 250);
    assert_int_equal(vmb_pause(v), 0);
    assert_int_equal(vmb_save(v, &buf, &len, msg, sizeof(msg)), 0);
    vmb_destroy(v);

    v = make(full, 4, 8 * MiB, NULL);
    assert_int_equal(vmb_restore(v, buf, len, NULL, NULL, msg, sizeof(msg)), 0);
    assert_int_equal(nboot, 0);
    assert_int_equal(vmb_save(v, &buf2, &len2, msg, sizeof(msg)), 0);
    assert_int_equal(len, len2);
    assert_memory_equal(buf, buf2, len);
    assert_int_equal(fakehv_in(0x100, 1), 0x77);
    assert_int_equal(level(4), 1);
    assert_int_equal(fakehv_read(0xe4000000, 4), 0xcafe);
    assert_int_equal(fakehv_read(0xd0000, 4), 0xd00d);
    assert_int_equal(fakehv_in(0x102, 1), 0);
    assert_int_equal(vmb_resume(v), 0);
    wait_port(0x102, 1);
    fakehv_out(0x101, 1, 0);
    assert_int_equal(level(4), 0);
    assert_int_equal(fakehv_in(0x22, 1), 1); /* restoring made no edges */
    vmb_destroy(v);

    /* another board, cut and changed states: refused with a line */
    v = make(full, 3, 8 * MiB, NULL);
    assert_int_equal(vmb_restore(v, buf, len, NULL, NULL, msg, sizeof(msg)), -EINVAL);
    vmb_destroy(v);
    v = make(full, 4, 16 * MiB, NULL);
    assert_int_equal(vmb_restore(v, buf, len, NULL, NULL, msg, sizeof(msg)), -EINVAL);
    assert_string_equal(msg, "the state is of a VM with 2 processors and 8 MiB, this one has 2 and "
                             "16 MiB");
    vmb_destroy(v);
    for (size_t cut = 0; cut < len; cut += len / 23 + 1) {
        copy = malloc(cut + 1);
        memcpy(copy, buf, cut);
        v = make(full, 4, 8 * MiB, NULL);
        msg[0] = 0;
        assert_true(vmb_restore(v, copy, cut, NULL, NULL, msg, sizeof(msg)) < 0);
        assert_true(strlen(msg) > 5);
        vmb_destroy(v);
        free(copy);
    }
    for (size_t i = 0; i + 1 < len; i++) { /* dev0's reg: 1, 0, 0, 0, 1, 0, 0, 0, 0x77 */
        static const uint8_t pat[] = { 1, 0, 0, 0, 1, 0, 0, 0, 0x77 };

        if (len - i >= sizeof(pat) && !memcmp((uint8_t *)buf + i, pat, sizeof(pat)))
            ((uint8_t *)buf)[i + 8] = 0xee;
    }
    v = make(full, 4, 8 * MiB, NULL);
    assert_true(vmb_restore(v, buf, len, NULL, NULL, msg, sizeof(msg)) < 0);
    assert_string_equal(msg, "[vdev dev0] cannot be restored: saved reg is 0xee");
    vmb_destroy(v);
    free(buf);
    free(buf2);
}

/* The contents of the record that is @path in a state; the groups on the way become @more bytes longer. */
static uint8_t *record(uint8_t *s, size_t len, const uint16_t *path, unsigned n, uint32_t more)
{
    uint8_t *end = s + len;

    for (unsigned i = 0; i < n; i++, s += 8) {
        uint32_t own = 0;
        uint16_t tag;

        for (; s < end; s += 8 + own) {
            memcpy(&tag, s, 2);
            memcpy(&own, s + 4, 4);
            if (tag == path[i])
                break;
        }
        assert_true(s < end);
        end = s + 8 + own;
        own += more;
        memcpy(s + 4, &own, 4);
    }
    return s;
}

/* Memory that was added to a board to which none can be. */
static void memory_from_nowhere(void **state)
{
    static const uint16_t hot[] = { 1, 2, 7 }, plugged[] = { 1, 2, 8 };
    static const uint64_t wrong[] = { 4096, 1, 128 * MiB, UINT64_MAX };
    struct vmb *v = start_full();
    uint8_t *buf;
    size_t len;

    (void)state;
    assert_int_equal(vmb_pause(v), 0);
    assert_int_equal(vmb_save(v, (void **)&buf, &len, msg, sizeof(msg)), 0);
    vmb_destroy(v);
    for (unsigned i = 0; i < 8; i++) {
        if (i == 4) /* nothing said of what can be: another tag, which is overlooked */
            record(buf, len, hot, 3, 0)[-8] = 99;
        memcpy(record(buf, len, plugged, 3, 0), &wrong[i % 4], 8);
        v = make(full, 4, 8 * MiB, NULL);
        assert_int_equal(vmb_restore_check(v, buf, len, msg, sizeof(msg)), -EINVAL);
        msg[0] = 0;
        assert_int_equal(vmb_restore(v, buf, len, load_none, NULL, msg, sizeof(msg)), -EINVAL);
        assert_string_equal(msg, "saved board: the memory that was added makes no sense");
        vmb_destroy(v);
    }
    free(buf);
}

/* A device with more settings than any has is refused, and soon. */
static void settings_without_end(void **state)
{
    enum { DEVICES = 4, LAST = 0x7fff };
    uint16_t path[] = { DEVICES, 1, 0x1000 };
    struct vmb *v = start_full();
    struct timespec a, b;
    uint8_t *buf, *at;
    uint16_t tag = 1;
    uint32_t own, more;
    size_t len;

    (void)state;
    assert_int_equal(vmb_pause(v), 0);
    assert_int_equal(vmb_save(v, (void **)&buf, &len, msg, sizeof(msg)), 0);
    for (struct mobo_vdev *d = v->devs; strcmp(d->name, "dev0"); d = d->next)
        path[1]++;
    vmb_destroy(v);
    at = record(buf, len, path, 3, 0);
    memcpy(&own, at - 4, 4);
    for (uint32_t i = 0, n; i < own; i += 8 + n, tag++)
        memcpy(&n, at + i + 4, 4);
    more = (LAST + 1u - tag) * 8;
    buf = realloc(buf, len + more);
    assert_non_null(buf);
    at = record(buf, len, path, 3, more) + own;
    memmove(at + more, at, len - (size_t)(at - buf));
    memset(at, 0, more);
    for (; tag <= LAST; tag++, at += 8)
        memcpy(at, &tag, 2);
    v = make(full, 4, 8 * MiB, NULL);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    assert_int_equal(vmb_restore(v, buf, len + more, NULL, NULL, msg, sizeof(msg)), -EINVAL);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    assert_string_equal(msg, "saved settings of [vdev dev0] make no sense");
    assert_true(b.tv_sec - a.tv_sec < 2);
    vmb_destroy(v);
    free(buf);
}

static char report[4096];

static void i_str(void *ctx, const char *name, const char *text)
{
    (void)ctx;
    snprintf(report + strlen(report), sizeof(report) - strlen(report), "%s=%s;", name, text);
}

static void i_uint(void *ctx, const char *name, uint64_t val, unsigned width)
{
    (void)ctx;
    (void)width;
    snprintf(report + strlen(report), sizeof(report) - strlen(report), "%s=%llu;", name,
             (unsigned long long)val);
}

static void inspecting(void **state)
{
    struct vmb *v = start_full();
    struct mobo_inspect out = { .str = i_str, .uint = i_uint };

    (void)state;
    report[0] = 0;
    assert_int_equal(vmb_inspect(v, "dev0", &out), 0);
    assert_non_null(strstr(report, "type=testdev;"));
    assert_non_null(strstr(report, "port=port 0x100-0x10f;"));
    assert_non_null(strstr(report, "irq 4=edge, idle;"));
    assert_non_null(strstr(report, "reg=0;"));
    assert_int_equal(vmb_inspect(v, "nobody", &out), -ENOENT);
    report[0] = 0;
    assert_int_equal(vmb_inspect(v, NULL, &out), 0);
    assert_non_null(strstr(report, "pci 3.0=1234:5678 command 0x0002;"));
    vmb_destroy(v);
}

/* What a guest has a device say is limited, by device and level; debug lines are not when they are asked for. */
static void log_limit(void **state)
{
    struct mobo_vdev *d;
    struct vmb *v;

    (void)state;
    for (int debug = 0; debug < 2; debug++) {
        log_debug = debug;
        v = start_full();
        for (int i = 0; i < 120; i++)
            fakehv_out(0x10a, 1, 2);
        assert_in_range(nlog[MOBO_WARNING], 100, 105); /* should it take long */
        assert_in_range(nlog[MOBO_DEBUG], debug ? 120 : 100, debug ? 120 : 105);
        nlog[MOBO_WARNING] = 0;
        fakehv_out(0x20a, 1, 1); /* another device */
        assert_int_equal(nlog[MOBO_WARNING], 1);
        assert_string_equal(last_line, "dev1: line 0");
        for (d = v->devs; strcmp(d->name, "dev0"); d = d->next)
            ;
        d->limits[MOBO_WARNING].left_out = 140;
        d->limits[MOBO_WARNING].used = 100;
        d->limits[MOBO_WARNING].at_s -= 10;
        nlog[MOBO_WARNING] = 0;
        fakehv_out(0x10a, 1, 1); /* 10 s later: the number, and one line */
        assert_int_equal(nlog[MOBO_WARNING], 2);
        assert_string_equal(last_line, "dev0: line 0");
        d->limits[MOBO_WARNING].left_out = 7;
        vmb_destroy(v);
        assert_string_equal(last_line, "dev0: lines left out: 7");
    }
    log_debug = false;
}

int main(void)
{
    const char *build = getenv("top_builddir"), *dir = getenv("VMB_TEST_PLUGINS");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages),        cmocka_unit_test(conflicts),
        cmocka_unit_test(board_limits),    cmocka_unit_test(listing),
        cmocka_unit_test(ports_and_mmio),  cmocka_unit_test(memory_added), cmocka_unit_test(a20),
        cmocka_unit_test(lines),           cmocka_unit_test(pci),
        cmocka_unit_test(timers_and_work), cmocka_unit_test(characters), cmocka_unit_test(work_put_off),
        cmocka_unit_test(busy_event),
        cmocka_unit_test(requests),        cmocka_unit_test(boot_failure),
        cmocka_unit_test(threads),         cmocka_unit_test(save_restore),
        cmocka_unit_test(memory_from_nowhere), cmocka_unit_test(settings_without_end),
        cmocka_unit_test(inspecting),      cmocka_unit_test(log_limit),
    };

    if (dir)
        snprintf(plugin_dir, sizeof(plugin_dir), "%s", dir);
    else
        snprintf(plugin_dir, sizeof(plugin_dir), "%s/vmb/tests/.libs", build ? build : ".");
    return cmocka_run_group_tests_name("board", tests, NULL, NULL);
}
