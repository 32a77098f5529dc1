/* SPDX-License-Identifier: BSD-2-Clause */
/* mobo disk create, info, check, convert: VHDX, VHD and raw images.  Grammar: mobo-disk(1). */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/block/block.h"
#include "core/block/nbd.h"
#include "core/cli/cli.h"
#include "core/config/config.h"

enum { STATUS_OK = 0, STATUS_USAGE = 1, STATUS_HOST = 2, STATUS_DAMAGED = 3 };

enum {
    OPT_FORMAT = 256,
    OPT_FROM,
    OPT_TYPE,
    OPT_PARENT,
    OPT_BLOCK,
    OPT_SECTOR,
    OPT_PHYSICAL,
    OPT_REPAIR,
    OPT_QUIET,
    OPT_JSON,
    OPT_HELP,
};

static const struct option options[] = {
    { "format", required_argument, NULL, OPT_FORMAT },
    { "from", required_argument, NULL, OPT_FROM },
    { "type", required_argument, NULL, OPT_TYPE },
    { "parent", required_argument, NULL, OPT_PARENT },
    { "block-size", required_argument, NULL, OPT_BLOCK },
    { "sector-size", required_argument, NULL, OPT_SECTOR },
    { "physical-sector-size", required_argument, NULL, OPT_PHYSICAL },
    { "repair", no_argument, NULL, OPT_REPAIR },
    { "quiet", no_argument, NULL, OPT_QUIET },
    { "json", no_argument, NULL, OPT_JSON },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

struct args {
    const char *sub;
    struct block_create_options create;
    enum block_format from;
    bool have_type, repair, quiet, json;
    unsigned given; /* OPT_ - OPT_FORMAT as bits */
};

/* Which options a subcommand takes, and how many arguments. */
#define BIT(opt) (1u << ((opt) - OPT_FORMAT))
static const struct sub {
    const char *name;
    unsigned options;
    int min, max;
    const char *arguments;
} subs[] = {
    { "create",
      BIT(OPT_FORMAT) | BIT(OPT_TYPE) | BIT(OPT_PARENT) | BIT(OPT_BLOCK) | BIT(OPT_SECTOR) |
          BIT(OPT_PHYSICAL),
      1, 2, "FILE SIZE" },
    { "info", BIT(OPT_FORMAT) | BIT(OPT_JSON), 1, 1, "FILE" },
    { "check", BIT(OPT_FORMAT) | BIT(OPT_REPAIR) | BIT(OPT_JSON), 1, 1, "FILE" },
    { "convert",
      BIT(OPT_FORMAT) | BIT(OPT_FROM) | BIT(OPT_TYPE) | BIT(OPT_BLOCK) | BIT(OPT_SECTOR) |
          BIT(OPT_PHYSICAL) | BIT(OPT_QUIET),
      2, 2, "IN OUT" },
};

static void disk_help(void)
{
    puts("usage: mobo disk create FILE SIZE [--format F] [--type T] [--parent FILE]\n"
         "                 [--block-size N] [--sector-size N] [--physical-sector-size N]\n"
         "       mobo disk info FILE [--format F] [--json]\n"
         "       mobo disk check FILE [--repair] [--format F] [--json]\n"
         "       mobo disk convert IN OUT [--from F] [--format F] [--type T] [--block-size N]\n"
         "                 [--sector-size N] [--physical-sector-size N] [--quiet]\n\n"
         "Makes, describes, checks and converts disk images.\n\n"
         "FILE, IN and OUT may be network block devices: nbd://HOST[:PORT]/EXPORT or\n"
         "nbd+unix:///EXPORT?socket=PATH (OUT is overwritten then).\n\n"
         "  --format F        vhdx, vhd or raw; else by content, for a new file by its name\n"
         "  --from F          format of IN\n"
         "  --type T          dynamic (the default), fixed or differencing\n"
         "  --parent FILE     what a differencing image is based on; SIZE may be left out\n"
         "  --block-size N    unit of allocation (VHDX 1M to 256M, VHD 64K to 256M)\n"
         "  --sector-size N   512 or 4096\n"
         "  --physical-sector-size N\n"
         "                    512 or 4096\n"
         "  --repair          apply the log, restore damaged copies, free unused space\n"
         "  --quiet           no progress\n"
         "  --json            print JSON");
}

static int host_error(const struct diag *diag)
{
    fprintf(stderr, "mobo: %s\n", diag->text);
    return STATUS_HOST;
}

/* What the user asked for is at fault, or the host is. */
static int fail(int err, const struct diag *diag)
{
    host_error(diag);
    return err == -EINVAL || err == -EFBIG ? STATUS_USAGE : STATUS_HOST;
}

static int take_size(const struct args *a, const char *name, const char *text, uint32_t *ret)
{
    uint64_t n;

    if (config_size(text, &n) != 0 || n == 0 || n > UINT32_MAX)
        return usage_error("disk %s: %s: '%s' is not a size", a->sub, name, DIAG_Q(text));
    *ret = (uint32_t)n;
    return 0;
}

static int take_format(const struct args *a, const char *name, const char *text,
                       enum block_format *ret)
{
    if (block_format_parse(text, ret) == 0)
        return 0;
    return usage_error("disk %s: %s: unknown format '%s' (known: vhdx, vhd, raw)", a->sub, name,
                       DIAG_Q(text));
}

static int take_type(struct args *a, const char *text)
{
    static const char *const names[] = { "fixed", "dynamic", "differencing" };

    for (size_t i = 0; i < COUNT(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            a->create.type = (enum block_type)i;
            a->have_type = true;
            return 0;
        }
    }
    return usage_error("disk %s: --type: unknown type '%s'%s", a->sub, DIAG_Q(text),
                       nearest(text, names, COUNT(names))
                           ? DID_YOU_MEAN(nearest(text, names, COUNT(names)))
                           : " (known: dynamic, fixed, differencing)");
}

static int take_option(struct args *a, int c)
{
    switch (c) {
    case OPT_FORMAT: return take_format(a, "--format", optarg, &a->create.format);
    case OPT_FROM: return take_format(a, "--from", optarg, &a->from);
    case OPT_TYPE: return take_type(a, optarg);
    case OPT_PARENT: a->create.parent = optarg; return 0;
    case OPT_BLOCK: return take_size(a, "--block-size", optarg, &a->create.block_size);
    case OPT_SECTOR: return take_size(a, "--sector-size", optarg, &a->create.logical_sector_size);
    case OPT_PHYSICAL:
        return take_size(a, "--physical-sector-size", optarg, &a->create.physical_sector_size);
    case OPT_REPAIR: a->repair = true; return 0;
    case OPT_QUIET: a->quiet = true; return 0;
    case OPT_JSON: a->json = true; return 0;
    }
    return 0;
}

/* ---- create ------------------------------------------------------------------------------------------ */

static int create(struct args *a, char **argv, int argc)
{
    struct diag diag = { "" };
    int err;

    if (a->create.parent && !a->have_type)
        a->create.type = BLOCK_TYPE_DIFFERENCING;
    if (a->create.type == BLOCK_TYPE_DIFFERENCING && !a->create.parent)
        return usage_error("disk create: --type differencing needs --parent");
    if (a->create.parent && a->create.type != BLOCK_TYPE_DIFFERENCING)
        return usage_error("disk create: --parent is for --type differencing");
    if (argc < 2 && !a->create.parent)
        return usage_error("disk create: no SIZE (see mobo disk --help)");
    if (argc == 2 && (config_size(argv[1], &a->create.size) != 0 || a->create.size == 0))
        return usage_error("disk create: '%s' is not a size", DIAG_Q(argv[1]));
    err = block_create(argv[0], &a->create, &diag);
    return err ? fail(err, &diag) : STATUS_OK;
}

/* ---- info -------------------------------------------------------------------------------------------- */

static void id_text(const struct block_info *i, char text[40])
{
    const uint8_t *d = i->disk_id;
    static const uint8_t little[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
    bool vhdx = strcmp(i->format, "vhdx") == 0; /* a GUID in the order of its fields */
    char *t = text;

    for (unsigned k = 0; k < 16; k++)
        t += sprintf(t, "%s%02x", k == 4 || k == 6 || k == 8 || k == 10 ? "-" : "",
                     d[vhdx ? little[k] : k]);
}

static json_t *text(const char *s)
{
    json_t *j = json_string(s);

    return j ? j : json_string("?");
}

static void print_json(json_t *o)
{
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

static void info_json(const char *path, const struct block_info *i, const char *id)
{
    json_t *o = json_pack("{s:o, s:s, s:s, s:I, s:i, s:i, s:I, s:I, s:b}", "file", text(path),
                          "format", i->format, "type", i->type, "size", (json_int_t)i->size,
                          "sector_size", (int)i->logical_sector_size, "physical_sector_size",
                          (int)i->physical_sector_size, "file_size", (json_int_t)i->file_size,
                          "host_bytes", (json_int_t)i->host_bytes, "log_pending",
                          (int)i->log_pending);

    if (i->block_size) {
        json_object_set_new(o, "block_size", json_integer((json_int_t)i->block_size));
        json_object_set_new(o, "blocks", json_integer((json_int_t)i->blocks));
        json_object_set_new(o, "blocks_allocated", json_integer((json_int_t)i->blocks_allocated));
    }
    json_object_set_new(o, "geometry", json_pack("{s:i, s:i, s:i}", "cylinders", (int)i->cylinders,
                                                 "heads", (int)i->heads, "sectors",
                                                 (int)i->sectors));
    if (id)
        json_object_set_new(o, "id", text(id));
    if (i->parent)
        json_object_set_new(o, "parent", text(i->parent));
    print_json(o);
}

static int info(struct args *a, char **argv)
{
    struct block_options opt = { .format = a->create.format, .read_only = true, .no_lock = true,
                                 .no_parent = true };
    static const uint8_t none[16];
    struct diag diag = { "" };
    struct block_info i;
    struct block *b;
    char id[40];
    int err = block_open(argv[0], &opt, &b, &diag);

    if (err)
        return host_error(&diag);
    block_get_info(b, &i);
    id_text(&i, id);
    if (a->json) {
        info_json(argv[0], &i, memcmp(i.disk_id, none, 16) ? id : NULL);
        block_close(b);
        return STATUS_OK;
    }
    printf("file       %s\nformat     %s, %s\nsize       %s (%llu bytes)\n", argv[0], i.format,
           i.type, DIAG_SIZE(i.size), (unsigned long long)i.size);
    printf("sectors    %u bytes, physical %u\n", i.logical_sector_size, i.physical_sector_size);
    if (i.block_size)
        printf("blocks     %s, %llu of %llu allocated\n", DIAG_SIZE(i.block_size),
               (unsigned long long)i.blocks_allocated, (unsigned long long)i.blocks);
    printf("geometry   %u/%u/%u\n", i.cylinders, i.heads, i.sectors);
    printf("on host    %s, file of %s\n", DIAG_SIZE(i.host_bytes), DIAG_SIZE(i.file_size));
    if (memcmp(i.disk_id, none, 16) != 0)
        printf("id         %s\n", id);
    if (i.parent)
        printf("parent     %s\n", i.parent);
    if (i.log_pending)
        puts("log        holds changes; they are applied when the image is opened for writing");
    block_close(b);
    return STATUS_OK;
}

/* ---- check --------------------------------------------------------------------------------------------- */

static const char *const kinds[] = { [BLOCK_NOTE] = "note", [BLOCK_LEAK] = "leak",
                                     [BLOCK_ERROR] = "error" };

static void say(void *ctx, enum block_problem kind, const char *line)
{
    json_t *list = ctx;

    if (list)
        json_array_append_new(list, json_pack("{s:s, s:o}", "kind", kinds[kind], "text",
                                              text(line)));
    else
        printf("%s: %s\n", kinds[kind], line);
}

static int check(struct args *a, char **argv)
{
    struct block_options opt = { .format = a->create.format };
    json_t *findings = a->json ? json_array() : NULL;
    struct block_check c = { .report = say, .ctx = findings, .repair = a->repair };
    struct diag diag = { "" };
    int err = block_check(argv[0], &opt, &c, &diag);
    bool damaged = err == -EUCLEAN || (!err && c.errors);
    const char *verdict;

    if (err && err != -EUCLEAN) {
        json_decref(findings);
        return fail(err == -EINVAL ? -EIO : err, &diag);
    }
    verdict = damaged ? "damaged" : c.fixed ? "repaired" : "clean";
    if (a->json) {
        if (err)
            say(findings, BLOCK_ERROR, diag.text);
        print_json(json_pack("{s:o, s:s, s:i, s:i, s:I, s:b, s:I, s:I, s:o}", "file",
                             text(argv[0]), "verdict", verdict, "errors",
                             (int)c.errors + (err != 0), "fixed", (int)c.fixed, "leaked",
                             (json_int_t)c.leaked, "log_pending", (int)(c.log_pending && !a->repair),
                             "blocks", (json_int_t)c.blocks, "blocks_allocated",
                             (json_int_t)c.blocks_allocated, "findings", findings));
    } else if (err) {
        fprintf(stderr, "mobo: %s\n", diag.text);
    } else {
        printf("%s: %s", argv[0], verdict);
        if (c.blocks)
            printf(", %llu of %llu blocks allocated", (unsigned long long)c.blocks_allocated,
                   (unsigned long long)c.blocks);
        if (c.leaked)
            printf(", %s not in use", DIAG_SIZE(c.leaked));
        putchar('\n');
    }
    return damaged ? STATUS_DAMAGED : STATUS_OK;
}

/* ---- convert ------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t stopped;

static void stop(int sig)
{
    stopped = sig;
}

static int progress(void *ctx, uint64_t done, uint64_t total)
{
    int *last = ctx;
    int percent = (int)((double)done * 100 / (double)total);

    if (last && percent != *last) {
        fprintf(stderr, "\r%3d %%%s", percent, done == total ? "\n" : "");
        *last = percent;
    }
    return stopped;
}

/* An export is there already: it is overwritten. */
static int prepare_export(struct args *a, const char *name, uint64_t size, struct block **ret,
                          struct diag *diag)
{
    struct block_options opt = { .format = BLOCK_RAW };
    int err;

    if (a->create.format != BLOCK_AUTO && a->create.format != BLOCK_RAW)
        return diag_set(diag, -EINVAL, "%s: an export of a server takes raw images only", name);
    err = block_open(name, &opt, ret, diag);
    if (err)
        return err;
    if (block_size(*ret) < size)
        err = diag_set(diag, -EINVAL, "%s: has %s, the disk %s", name, DIAG_SIZE(block_size(*ret)),
                       DIAG_SIZE(size));
    else if ((err = block_write_zeroes(*ret, 0, block_size(*ret), true)) != 0)
        diag_set(diag, err, "%s: %s", name, strerror(-err));
    if (err) {
        block_close(*ret);
        *ret = NULL;
    }
    return err;
}

static int convert(struct args *a, char **argv)
{
    struct block_options in_opt = { .format = a->from, .read_only = true }, out_opt = { 0 };
    struct sigaction sa = { .sa_handler = stop }, old[2];
    struct block *in = NULL, *out = NULL;
    struct diag diag = { "" };
    int err, close_err, percent = -1;
    bool export = block_is_uri(argv[1]);
    bool show = !a->quiet && isatty(STDERR_FILENO);
    struct block_info i;

    if (a->create.type == BLOCK_TYPE_DIFFERENCING)
        return usage_error("disk convert: makes fixed and dynamic images");
    if (a->create.format == BLOCK_AUTO && !export)
        a->create.format = block_format_of_name(argv[1]);
    err = block_open(argv[0], &in_opt, &in, &diag);
    if (err)
        return host_error(&diag);
    block_get_info(in, &i);
    if (!a->create.logical_sector_size)
        a->create.logical_sector_size =
            a->create.format == BLOCK_VHDX && i.logical_sector_size == 4096 ? 4096 : 512;
    a->create.size = i.size;
    if (a->create.logical_sector_size == 4096) /* the last sector may be filled up */
        a->create.size = (i.size + 4095) & ~4095ULL;
    err = export ? prepare_export(a, argv[1], i.size, &out, &diag)
                 : block_create(argv[1], &a->create, &diag);
    if (err) {
        block_close(in);
        return fail(err, &diag);
    }
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, &old[0]);
    sigaction(SIGTERM, &sa, &old[1]);
    out_opt.format = a->create.format;
    err = export ? 0 : block_open(argv[1], &out_opt, &out, &diag);
    if (!err)
        err = block_copy(in, out, progress, show ? &percent : NULL, &diag);
    if (err && show && percent >= 0)
        fputc('\n', stderr);
    close_err = block_close(out);
    if (!err && close_err)
        err = diag_set(&diag, close_err, "%s: %s", argv[1], strerror(-close_err));
    block_close(in);
    if (err && !export)
        unlink(argv[1]);
    sigaction(SIGINT, &old[0], NULL);
    sigaction(SIGTERM, &old[1], NULL);
    if (err && stopped) {
        raise(stopped);
        return 128 + stopped;
    }
    return err ? host_error(&diag) : STATUS_OK;
}

int cmd_disk(int argc, char **argv)
{
    struct args a = { .create.type = BLOCK_TYPE_DYNAMIC };
    const char *names[COUNT(subs)], *last = "";
    const struct sub *s = NULL;
    int c, n, err;

    for (size_t i = 0; i < COUNT(subs); i++) {
        names[i] = subs[i].name;
        if (argc > 1 && strcmp(argv[1], subs[i].name) == 0)
            s = &subs[i];
    }
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        disk_help();
        return 0;
    }
    if (argc < 2)
        return usage_error("disk: 'create', 'info', 'check' or 'convert' is missing");
    if (!s)
        return usage_error("disk: unknown command '%s'%s", DIAG_Q(argv[1]),
                           nearest(argv[1], names, COUNT(names))
                               ? DID_YOU_MEAN(nearest(argv[1], names, COUNT(names)))
                               : " (see mobo disk --help)");
    a.sub = s->name;
    argc--;
    argv++;
    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (c == 'h' || c == OPT_HELP) {
            disk_help();
            return 0;
        }
        if (c < OPT_FORMAT)
            return option_error("disk", argv, options, c);
        for (size_t i = 0; options[i].name; i++)
            if (options[i].val == c)
                last = options[i].name;
        if (!(s->options & BIT(c)))
            return usage_error("disk %s: takes no --%s", s->name, last);
        err = take_option(&a, c);
        if (err)
            return err;
    }
    n = argc - optind;
    if (n < s->min)
        return usage_error("disk %s: no %s (see mobo disk --help)", s->name,
                           s->max == 2 && n == 1 ? "OUT" : s->min == 2 ? "IN" : "FILE");
    if (n > s->max)
        return usage_error("disk %s: takes %s, '%s' is too much", s->name, s->arguments,
                           DIAG_Q(argv[optind + s->max]));
    argv += optind;
    switch (s - subs) {
    case 0: return create(&a, argv, n);
    case 1: return info(&a, argv);
    case 2: return check(&a, argv);
    default: return convert(&a, argv);
    }
}
