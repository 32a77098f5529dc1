/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs a bare-metal guest on libmobohv alone: bare_run [-e ENGINE] [-p VPS] [-t SEC] FILE.elf
 *
 * Multiboot ELF32 loader, 128 MB of RAM, COM1 output at 0x3f8 to stdout, debug exit at 0xf4.  Exit status: 0 the
 * guest wrote 0 to the port, 1 it wrote something else, 2 usage or host error, 3 triple fault, 124 time ran out. */
#include <elf.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <mobo/hv.h>

enum { RAM = 128 << 20 };

static struct hv_partition *part;
static unsigned nvps = 1;
static _Atomic int verdict = -1;

static void finish(int v)
{
    int none = -1;

    atomic_compare_exchange_strong(&verdict, &none, v);
    for (unsigned i = 0; i < nvps; i++)
        hv_vp_cancel(part, i);
}

static uint32_t pio_read(void *ctx, unsigned vp, uint16_t port, unsigned len)
{
    (void)ctx, (void)vp;
    return port == 0x3fd ? 0x60 : len == 1 ? 0xff : len == 2 ? 0xffff : 0xffffffff;
}

static void pio_write(void *ctx, unsigned vp, uint16_t port, unsigned len, uint32_t val)
{
    (void)ctx, (void)vp, (void)len;
    if (port == 0x3f8)
        putchar((int)(val & 0xff));
    else if (port == 0xf4)
        finish(val ? 1 : 0);
}

static uint64_t mmio_read(void *ctx, unsigned vp, uint64_t gpa, unsigned len)
{
    (void)ctx, (void)vp, (void)gpa, (void)len;
    return ~0ull;
}

static void mmio_write(void *ctx, unsigned vp, uint64_t gpa, unsigned len, uint64_t val)
{
    (void)ctx, (void)vp, (void)gpa, (void)len, (void)val;
}

static int extint_ack(void *ctx, unsigned vp)
{
    (void)ctx, (void)vp;
    return -1;
}

static void eoi(void *ctx, unsigned vp, unsigned vector) { (void)ctx, (void)vp, (void)vector; }

static void log_line(void *ctx, int level, const char *line)
{
    (void)ctx;
    if (level < 2)
        fprintf(stderr, "hv: %s\n", line);
}

static void *run_vp(void *arg)
{
    unsigned vp = (unsigned)(uintptr_t)arg;
    struct hv_exit e;

    while (atomic_load(&verdict) < 0) {
        if (hv_vp_run(part, vp, &e)) {
            fprintf(stderr, "bare_run: %s\n", hv_last_error());
            finish(2);
        } else if (e.reason != HV_EXIT_CANCELED) {
            fprintf(stderr, "bare_run: %s\n", e.text);
            finish(e.reason == HV_EXIT_ERROR ? 2 : 3);
        }
    }
    return NULL;
}

static uint32_t load(const char *file, uint8_t *ram)
{
    static uint8_t img[1 << 20];
    FILE *f = fopen(file, "rb");
    size_t n = f ? fread(img, 1, sizeof(img), f) : 0;
    Elf32_Ehdr eh;
    Elf32_Phdr ph;

    if (f)
        fclose(f);
    if (n < sizeof(eh) || memcmp(img, ELFMAG, SELFMAG) || img[EI_CLASS] != ELFCLASS32) {
        fprintf(stderr, "bare_run: %s: not an ELF32 file\n", file);
        exit(2);
    }
    memcpy(&eh, img, sizeof(eh));
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        size_t at = eh.e_phoff + i * sizeof(ph);

        if (at > n || n - at < sizeof(ph))
            break;
        memcpy(&ph, img + at, sizeof(ph));
        if (ph.p_type != PT_LOAD || !ph.p_filesz)
            continue;
        if (ph.p_offset > n || ph.p_filesz > n - ph.p_offset || ph.p_paddr > RAM || ph.p_filesz > RAM - ph.p_paddr) {
            fprintf(stderr, "bare_run: %s: bad segment\n", file);
            exit(2);
        }
        memcpy(ram + ph.p_paddr, img + ph.p_offset, ph.p_filesz);
    }
    return eh.e_entry;
}

int main(int argc, char **argv)
{
    static const struct hv_ops ops = { .size = sizeof(ops), .pio_read = pio_read, .pio_write = pio_write,
                                       .mmio_read = mmio_read, .mmio_write = mmio_write,
                                       .extint_ack = extint_ack, .eoi = eoi, .log = log_line };
    struct hv_config cfg = { .size = sizeof(cfg), .engine = "interp", .ops = &ops };
    unsigned timeout = 60;
    struct hv_vp_state s;
    pthread_t th[HV_MAX_VPS];
    uint64_t off;
    int c;

    while ((c = getopt(argc, argv, "e:p:t:")) != -1) {
        if (c == 'e')
            cfg.engine = optarg;
        else if (c == 'p')
            nvps = (unsigned)atoi(optarg);
        else if (c == 't')
            timeout = (unsigned)atoi(optarg);
        else
            return 2;
    }
    if (optind != argc - 1 || nvps < 1 || nvps > HV_MAX_VPS) {
        fprintf(stderr, "usage: bare_run [-e ENGINE] [-p VPS] [-t SEC] FILE.elf\n");
        return 2;
    }
    cfg.vps = nvps;
    if (hv_partition_create(&cfg, &part) || hv_ram_alloc(part, RAM, &off) ||
        hv_gpa_map(part, 0, RAM, off, HV_MAP_RWX)) {
        fprintf(stderr, "bare_run: %s\n", hv_last_error());
        return 2;
    }
    if (hv_vp_get_state(part, 0, &s))
        return 2;
    s.rip = load(argv[optind], hv_ram_hva(part, off, RAM));
    s.gpr[0] = 0x2badb002;
    s.gpr[3] = 0;
    s.cr0 = 0x11;
    s.cs = (struct hv_segment){ .limit = 0xffffffff, .selector = 8, .attr = 0xc09b };
    s.ds = (struct hv_segment){ .limit = 0xffffffff, .selector = 16, .attr = 0xc093 };
    s.es = s.fs = s.gs = s.ss = s.ds;
    if (hv_vp_set_state(part, 0, &s)) {
        fprintf(stderr, "bare_run: %s\n", hv_last_error());
        return 2;
    }
    hv_time_pause(part, false);
    for (unsigned i = 0; i < nvps; i++)
        pthread_create(&th[i], NULL, run_vp, (void *)(uintptr_t)i);
    for (unsigned ms = 0; atomic_load(&verdict) < 0; ms += 10) {
        struct timespec ts = { 0, 10000000 };

        nanosleep(&ts, NULL);
        if (ms >= timeout * 1000) {
            fflush(stdout);
            for (unsigned i = 0; i < nvps; i++)
                hv_vp_cancel(part, i);
            fprintf(stderr, "bare_run: time ran out\n");
            finish(124);
        }
    }
    for (unsigned i = 0; i < nvps; i++)
        pthread_join(th[i], NULL);
    if (verdict == 124 || verdict == 3)
        for (unsigned i = 0; i < nvps; i++) {
            char dump[4096];

            if (hv_vp_dump(part, i, dump, sizeof(dump)) > 0)
                fputs(dump, stderr);
        }
    fflush(stdout);
    hv_partition_destroy(part);
    return verdict;
}
