/* SPDX-License-Identifier: BSD-2-Clause */
/* mobo stats: the counters of a running VM, from its control socket. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/cli/cli.h"
#include "core/cli/client.h"

enum { OPT_CONTROL = 256, OPT_INTERVAL, OPT_COUNT, OPT_JSON, OPT_HELP, ANSWER_S = 10, ROWS_MAX = 256 };

static const struct option options[] = {
    { "control", required_argument, NULL, OPT_CONTROL },
    { "interval", required_argument, NULL, OPT_INTERVAL },
    { "count", required_argument, NULL, OPT_COUNT },
    { "json", no_argument, NULL, OPT_JSON },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

static void help(void)
{
    puts("usage: mobo stats --control SOCKET [OPTIONS]\n\n"
         "Shows the counters of the VM whose mobo run listens on SOCKET: totals, and how many a second.\n\n"
         "  --control SOCKET what mobo run was given as --control\n"
         "  --interval SEC   show what changes in that time, again and again\n"
         "  --count N        so many times (with --interval)\n"
         "  --json           the answer of the VM as it is\n");
}

/* @return the result, owned; NULL with a message. */
static json_t *ask(struct client *c, const char *path)
{
    json_t *error, *result = client_call(c, "stats", NULL, &error);
    const char *why = json_string_value(json_object_get(error, "message"));

    if (!result)
        fprintf(stderr, "mobo: stats: --control %s: %s\n", DIAG_Q(path), why ? diag_quote(why, (char[1024]){ 0 }, 1024) : "the VM does not answer");
    json_decref(error);
    return result;
}

/* ---- rows ---- */

struct row { char name[80]; unsigned group; double sum; }; /* group 1: what only the engine counts, named after who does */
struct table { struct row r[ROWS_MAX]; unsigned n; double uptime; };

static void row_add(struct table *t, unsigned group, const char *name, double val)
{
    unsigned i = 0;

    while (i < t->n && (t->r[i].group != group || strcmp(t->r[i].name, name)))
        i++;
    if (i == ROWS_MAX)
        return;
    if (i == t->n) {
        snprintf(t->r[i].name, sizeof(t->r[i].name), "%s", name);
        t->r[i].group = group;
        t->r[i].sum = 0;
        t->n++;
    }
    t->r[i].sum += val;
}

static void table_read(struct table *t, json_t *result)
{
    json_t *vp, *val, *inner;
    const char *name, *name2;
    size_t i;

    t->n = 0;
    t->uptime = json_number_value(json_object_get(result, "uptime"));
    json_array_foreach(json_object_get(result, "processors"), i, vp)
        json_object_foreach(vp, name, val) {
            if (json_is_number(val))
                row_add(t, 0, name, json_number_value(val));
            json_object_foreach(val, name2, inner) {
                char both[80];

                snprintf(both, sizeof(both), "%s: %s", name, name2);
                row_add(t, 1, both, json_number_value(inner));
            }
        }
}

/* What came since @old (NULL: since the start); nothing is said of what stood still. */
static void table_print(const struct table *now, const struct table *old)
{
    double seconds = now->uptime - (old ? old->uptime : 0);

    printf("%-32s %16s %12s\n", old ? "" : "COUNTER", "TOTAL", "PER SECOND");
    for (unsigned group = 0; group < 2; group++)
        for (unsigned i = 0; i < now->n; i++) {
            double before = 0;

            if (now->r[i].group != group)
                continue;
            for (unsigned k = 0; old && k < old->n; k++)
                if (old->r[k].group == group && !strcmp(old->r[k].name, now->r[i].name))
                    before = old->r[k].sum;
            if (now->r[i].sum > before)
                printf("%-32s %16.0f %12.1f\n", now->r[i].name,
                       now->r[i].sum - before, seconds > 0 ? (now->r[i].sum - before) / seconds : 0);
        }
    fflush(stdout);
}

static int number(const char *what, const char *text, double min, double max, double *ret)
{
    char *end;

    *ret = strtod(text, &end);
    if (end == text || *end || !(*ret >= min && *ret <= max))
        return usage_error("stats: %s '%s' is not a number from %g to %g", what, DIAG_Q(text), min, max);
    return 0;
}

int cmd_stats(int argc, char **argv)
{
    const char *path = NULL;
    double interval = 0, count = 0;
    struct table *t;
    bool json = false;
    int c, status = 2;
    json_t *o;
    struct client vm = { 0 };
    int err;

    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        switch (c) {
        case OPT_CONTROL: path = optarg; break;
        case OPT_INTERVAL:
            if (number("--interval", optarg, 0.01, 86400, &interval))
                return 1;
            break;
        case OPT_COUNT:
            if (number("--count", optarg, 1, 1e9, &count))
                return 1;
            break;
        case OPT_JSON: json = true; break;
        case OPT_HELP:
        case 'h': help(); return 0;
        default: return option_error("stats", argv, options, c);
        }
    }
    if (optind < argc)
        return usage_error("stats: takes no argument but options (see mobo stats --help)");
    if (!path)
        return usage_error("stats: no --control SOCKET (see mobo stats --help)");
    if (count && !interval)
        return usage_error("stats: --count needs --interval");
    t = calloc(2, sizeof(*t));
    err = t ? client_open(&vm, path) : -ENOMEM;
    if (err)
        fprintf(stderr, "mobo: stats: --control %s: %s\n", DIAG_Q(path), strerror(-err));
    else
        client_patience(&vm, ANSWER_S);
    o = err ? NULL : ask(&vm, path);
    if (o && json) {
        json_dumpf(o, stdout, JSON_INDENT(2));
        putchar('\n');
        status = 0;
    } else if (o) {
        table_read(&t[0], o);
        if (!interval)
            table_print(&t[0], NULL);
        for (unsigned n = 0; interval && o && (!count || n < count); n++) {
            struct timespec ts = { (time_t)interval, (long)((interval - (double)(time_t)interval) * 1e9) };

            nanosleep(&ts, NULL);
            json_decref(o);
            o = ask(&vm, path);
            if (!o)
                break;
            table_read(&t[1], o);
            table_print(&t[1], &t[0]);
            t[0] = t[1];
        }
        status = o ? 0 : 2;
    }
    json_decref(o);
    client_close(&vm);
    free(t);
    return status;
}
