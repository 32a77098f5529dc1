/* SPDX-License-Identifier: BSD-2-Clause */
/* mobo vdev list, mobo vdev info TYPE, mobo engines: what can be plugged in and what runs it. */
#include <jansson.h>
#include <mobo/hv.h>
#include <mobo/vdev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cli/cli.h"
#include "core/vmwp/worker.h"
#include "sdk/lib/param.h"
#include "vmb/vmb.h"

enum { OPT_VDEV_PATH = 256, OPT_JSON, OPT_HELP };

static const struct option options[] = {
    { "vdev-path", required_argument, NULL, OPT_VDEV_PATH },
    { "json", no_argument, NULL, OPT_JSON },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

/* A device type, copied: the plug-in may go away. */
struct type {
    char *path, *why; /* why: does not fit */
    json_t *info;     /* all that the descriptor says, or NULL */
    const char *name; /* into info */
};

struct types {
    struct type *list;
    size_t count;
};

static const char *class_name(uint32_t dev_class)
{
    switch (dev_class) {
    case MOBO_CLASS_EMULATED: return "emulated";
    case MOBO_CLASS_SYNTHETIC: return "synthetic";
    case MOBO_CLASS_PLUGIN: return "plug-in";
    }
    return "unknown";
}

static const char *kind_name(uint32_t kind)
{
    static const char *const names[] = {
        [MOBO_STRING] = "text", [MOBO_UINT] = "number",   [MOBO_BOOL] = "yes/no",
        [MOBO_SIZE] = "size",   [MOBO_CHOICE] = "choice", [MOBO_PATH] = "path",
        [MOBO_CHAR] = "backend"
    };

    return kind < COUNT(names) && names[kind] ? names[kind] : "unknown";
}

/* Jansson refuses text that is not UTF-8. */
static json_t *text(const char *s)
{
    json_t *j = json_string(s ? s : "");

    return j ? j : json_string("?");
}

static json_t *describe(const struct vmb_plugin *p)
{
    const struct mobo_vdev_descriptor *d = p->desc;
    json_t *params = json_array();
    char abi[16];

    snprintf(abi, sizeof(abi), "%u.%u", d->abi_major, d->abi_minor);

    for (uint32_t i = 0; i < d->nparams; i++) {
        struct mobo_param m = mobo_param_at(d->params, i, d->param_size);
        json_t *o =
            json_pack("{s:o, s:s, s:b, s:o}", "name", text(m.name), "kind", kind_name(m.kind),
                      "required", (m.flags & MOBO_PARAM_REQUIRED) != 0, "help", text(m.help));

        if (m.def)
            json_object_set_new(o, "default", text(m.def));
        if (m.unit)
            json_object_set_new(o, "unit", text(m.unit));
        if (m.kind == MOBO_CHOICE && m.choices)
            json_object_set_new(o, "choices", text(m.choices));
        if (m.min || m.max) {
            json_object_set_new(o, "min", json_integer((json_int_t)m.min));
            json_object_set_new(o, "max", json_integer((json_int_t)m.max));
        }
        json_array_append_new(params, o);
    }
    return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:i, s:s, s:o, s:b, s:o}", "type",
                     text(d->type), "class", class_name(d->dev_class), "summary", text(d->summary),
                     "vendor", text(d->vendor), "version", text(d->version), "licence",
                     text(d->licence), "max_instances", (int)d->max_instances, "abi", abi, "path",
                     text(p->path), "pci", (d->flags & MOBO_VDEV_PCI) != 0, "params", params);
}

static void found(void *ctx, const struct vmb_plugin *p)
{
    struct types *t = ctx;
    struct type *more = realloc(t->list, (t->count + 1) * sizeof(*more));

    if (!more)
        return;
    t->list = more;
    more[t->count] = (struct type){ .path = strdup(p->path ? p->path : "?") };
    if (p->desc) {
        more[t->count].info = describe(p);
        more[t->count].name = json_string_value(json_object_get(more[t->count].info, "type"));
    } else {
        more[t->count].why = strdup(p->why ? p->why : "");
    }
    t->count++;
}

static int by_name(const void *a, const void *b)
{
    const struct type *x = a, *y = b;

    if (!x->name || !y->name)
        return (x->name == NULL) - (y->name == NULL);
    return strcmp(x->name, y->name);
}

static void types_free(struct types *t)
{
    for (size_t i = 0; i < t->count; i++) {
        free(t->list[i].path);
        free(t->list[i].why);
        json_decref(t->list[i].info);
    }
    free(t->list);
}

static void print_json(json_t *o)
{
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

static const char *field(const struct type *t, const char *key)
{
    const char *s = json_string_value(json_object_get(t->info, key));

    return s ? s : "";
}

static int list(struct types *t, bool json)
{
    json_t *types = json_array(), *bad = json_array();
    size_t good = 0;

    for (size_t i = 0; i < t->count; i++) {
        if (t->list[i].name) {
            json_array_append(types, t->list[i].info);
            good++;
        } else {
            json_array_append_new(bad, json_pack("{s:o, s:o}", "path", text(t->list[i].path), "why",
                                                 text(t->list[i].why)));
        }
    }
    if (json) {
        print_json(json_pack("{s:o, s:o}", "vdevs", types, "unusable", bad));
        return 0;
    }
    json_decref(types);
    json_decref(bad);
    if (good)
        printf("%-14s %-10s %-8s %s\n", "TYPE", "CLASS", "VERSION", "SUMMARY");
    for (size_t i = 0; i < t->count; i++)
        if (t->list[i].name)
            printf("%-14s %-10s %-8s %s\n", t->list[i].name, field(&t->list[i], "class"),
                   field(&t->list[i], "version"), field(&t->list[i], "summary"));
    for (size_t i = 0; i < t->count; i++)
        if (!t->list[i].name)
            printf("unusable: %s\n", t->list[i].why);
    if (t->count == 0)
        puts("no plug-ins found");
    return 0;
}

static void print_param(json_t *o)
{
    const char *def = json_string_value(json_object_get(o, "default"));
    const char *unit = json_string_value(json_object_get(o, "unit"));
    const char *choices = json_string_value(json_object_get(o, "choices"));
    json_t *min = json_object_get(o, "min"), *max = json_object_get(o, "max");

    printf("  %-12s %-8s %s", json_string_value(json_object_get(o, "name")),
           json_string_value(json_object_get(o, "kind")),
           json_string_value(json_object_get(o, "help")));
    if (choices)
        printf(", one of %s", choices);
    if (min)
        printf(", %lld to %lld", json_integer_value(min), json_integer_value(max));
    if (unit)
        printf(" %s", unit);
    if (def)
        printf(" (default %s)", def);
    else if (json_is_true(json_object_get(o, "required")))
        printf(" (required)");
    putchar('\n');
}

static int info(struct types *t, const char *name, bool json)
{
    const char **names = calloc(t->count + 1, sizeof(*names));
    const struct type *x = NULL;
    json_t *params, *o;
    long long max;
    size_t i;

    for (i = 0; i < t->count; i++) {
        if (names)
            names[i] = t->list[i].name;
        if (!x && t->list[i].name && strcmp(t->list[i].name, name) == 0)
            x = &t->list[i];
    }
    if (!x) {
        const char *near = names ? nearest(name, names, t->count) : NULL;
        usage_error("vdev info: unknown type '%s'%s", DIAG_Q(name),
                    near ? DID_YOU_MEAN(near) : " (see mobo vdev list)");
        free(names);
        return STATUS_CONFIG;
    }
    free(names);
    if (json) {
        print_json(json_incref(x->info));
        return 0;
    }
    printf("type       %s\nsummary    %s\nclass      %s\nvendor     %s\nversion    %s\n"
           "licence    %s\nfile       %s\n",
           x->name, field(x, "summary"), field(x, "class"), field(x, "vendor"), field(x, "version"),
           field(x, "licence"), x->path);
    max = json_integer_value(json_object_get(x->info, "max_instances"));
    if (max)
        printf("instances  at most %lld\n", max);
    params = json_object_get(x->info, "params");
    puts(json_array_size(params) ? "keys" : "keys       none");
    json_array_foreach(params, i, o) print_param(o);
    if (json_is_true(json_object_get(x->info, "pci")))
        printf("  %-12s %-8s %s\n", "slot", "text", "PCI slot, SLOT or SLOT.FUNCTION");
    return 0;
}

static void vdev_help(void)
{
    puts("usage: mobo vdev list [--json] [--vdev-path DIR]\n"
         "       mobo vdev info TYPE [--json] [--vdev-path DIR]\n\n"
         "Lists the devices that can be plugged in, or describes one with its keys.\n\n"
         "  --vdev-path DIR  look for plug-ins there first (also MOBO_VDEV_PATH)\n"
         "  --json           print JSON");
}

int cmd_vdev(int argc, char **argv)
{
    struct string_list dirs = { 0 };
    struct types t = { 0 };
    static const char *const subs[] = { "list", "info" };
    bool json = false;
    char **path;
    int c, status = 0;
    const char *sub;
    bool is_list;

    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        switch (c) {
        case OPT_VDEV_PATH: string_list_add(&dirs, optarg); break;
        case OPT_JSON: json = true; break;
        case OPT_HELP:
        case 'h':
            vdev_help();
            string_list_free(&dirs);
            return 0;
        default: string_list_free(&dirs); return option_error("vdev", argv, options, c);
        }
    }
    sub = optind < argc ? argv[optind] : "";
    is_list = strcmp(sub, "list") == 0;
    if (!*sub)
        status = usage_error("vdev: 'list' or 'info TYPE' is missing");
    else if (!is_list && strcmp(sub, "info") != 0)
        status = usage_error("vdev: unknown command '%s'%s", DIAG_Q(sub),
                             DID_YOU_MEAN(nearest(sub, subs, COUNT(subs))));
    else if (argc - optind != (is_list ? 1 : 2))
        status = usage_error(is_list              ? "vdev list: takes no argument"
                             : argc - optind == 1 ? "vdev info: no TYPE (see mobo vdev list)"
                                                  : "vdev info: one TYPE at a time");
    if (status == 0) {
        path = worker_vdev_dirs(dirs.items, dirs.count);
        vmb_vdev_list((const char *const *)path, found, &t);
        if (t.count)
            qsort(t.list, t.count, sizeof(*t.list), by_name);
        status = is_list ? list(&t, json) : info(&t, argv[optind + 1], json);
        types_free(&t);
        worker_vdev_dirs_free(path);
    }
    string_list_free(&dirs);
    return status;
}

static void add_difference(void *ctx, const char *line) { json_array_append_new(ctx, text(line)); }

static json_t *differences(const char *engine)
{
    json_t *list = json_array();

    hv_engine_differences(engine, add_difference, list);
    return list;
}

static void print_difference(void *ctx, const char *line)
{
    (void)ctx;
    printf("%-16s - %s\n", "", line);
}

int cmd_engines(int argc, char **argv)
{
    static const struct option none[] = { { "json", no_argument, NULL, OPT_JSON },
                                          { "help", no_argument, NULL, OPT_HELP },
                                          { NULL, 0, NULL, 0 } };
    struct hv_engine_info e[8];
    const char *best = hv_engine_auto();
    bool json = false;
    unsigned n;
    int c;

    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":h", none, NULL)) != -1) {
        switch (c) {
        case OPT_JSON: json = true; break;
        case OPT_HELP:
        case 'h':
            puts("usage: mobo engines [--json]\n\n"
                 "Lists the engines, fastest first, whether they work on this host, and what a guest sees\n"
                 "differently under them.");
            return 0;
        default: return option_error("engines", argv, none, c);
        }
    }
    if (optind < argc)
        return usage_error("engines: takes no argument");
    n = hv_engines(e, COUNT(e));
    if (n > COUNT(e))
        n = COUNT(e);
    if (json) {
        json_t *list = json_array();
        for (unsigned i = 0; i < n; i++)
            json_array_append_new(
                list, json_pack("{s:o, s:o, s:b, s:o, s:b, s:o}", "name", text(e[i].name), "summary",
                                text(e[i].summary), "usable", (int)e[i].usable, "reason",
                                text(e[i].reason), "auto", best && strcmp(best, e[i].name) == 0, "differences",
                                differences(e[i].name)));
        print_json(list);
        return 0;
    }
    printf("%-8s %-7s %s\n", "ENGINE", "USABLE", "");
    for (unsigned i = 0; i < n; i++) {
        printf("%-8s %-7s %s%s%s\n", e[i].name, e[i].usable ? "yes" : "no", e[i].summary,
               e[i].reason[0] ? ": " : "", e[i].reason);
        hv_engine_differences(e[i].name, print_difference, NULL);
    }
    printf("auto takes %s\n", best ? best : "none");
    return 0;
}
