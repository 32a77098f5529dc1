/* SPDX-License-Identifier: BSD-2-Clause */
/* mobo run and mobo check. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cli/cli.h"
#include "core/config/config.h"
#include "core/log/log.h"
#include "core/vmwp/worker.h"

enum {
    OPT_SET = 256,
    OPT_TIMEOUT,
    OPT_NO_REBOOT,
    OPT_LOG_LEVEL,
    OPT_LOG_FILE,
    OPT_TRACE,
    OPT_VDEV_PATH,
    OPT_ENGINE,
    OPT_CHECK,
    OPT_CONTROL,
    OPT_RESTORE,
    OPT_STATS,
    OPT_JSON,
    OPT_DUMP,
    OPT_DUMP_JIT,
    OPT_SYMBOLS,
    OPT_HELP
};

static const struct option run_options[] = {
    { "set", required_argument, NULL, OPT_SET },
    { "timeout", required_argument, NULL, OPT_TIMEOUT },
    { "no-reboot", no_argument, NULL, OPT_NO_REBOOT },
    { "log-level", required_argument, NULL, OPT_LOG_LEVEL },
    { "log-file", required_argument, NULL, OPT_LOG_FILE },
    { "trace", required_argument, NULL, OPT_TRACE },
    { "vdev-path", required_argument, NULL, OPT_VDEV_PATH },
    { "engine", required_argument, NULL, OPT_ENGINE },
    { "check", required_argument, NULL, OPT_CHECK },
    { "dump", required_argument, NULL, OPT_DUMP_JIT },
    { "symbols", required_argument, NULL, OPT_SYMBOLS },
    { "control", required_argument, NULL, OPT_CONTROL },
    { "restore", required_argument, NULL, OPT_RESTORE },
    { "stats", no_argument, NULL, OPT_STATS },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

static const struct option check_options[] = {
    { "set", required_argument, NULL, OPT_SET },
    { "log-level", required_argument, NULL, OPT_LOG_LEVEL },
    { "vdev-path", required_argument, NULL, OPT_VDEV_PATH },
    { "engine", required_argument, NULL, OPT_ENGINE },
    { "json", no_argument, NULL, OPT_JSON },
    { "dump", no_argument, NULL, OPT_DUMP },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

static const char common_help[] =
    "  --set SECTION.KEY=VALUE  set or override a key; SECTION may be a device's name\n"
    "  --engine NAME            short for --set vm.engine=NAME\n"
    "  --vdev-path DIR          look for plug-ins there first (also MOBO_VDEV_PATH)\n"
    "  --log-level LEVEL        error, warning (default), info or debug\n";

static void run_help(void)
{
    printf("usage: mobo run [OPTIONS] FILE.ini\n\n"
           "Runs the VM in the foreground; Ctrl-A x on the terminal ends it, Ctrl-A h helps.\n\n"
           "%s"
           "  --log-file FILE          append all messages to a file\n"
           "  --trace AREA[,AREA]      trace devices by name, all of them, or jit: the translator\n"
           "  --timeout SEC            end with status 124 after so many seconds\n"
           "  --no-reboot              end with status 4 instead of resetting\n"
           "  --control PATH           JSON-RPC control socket\n"
           "  --check HOW              compare the translator with the interpreter, mobo(1)\n"
           "  --dump jit=FILE[:LO-HI]  write translated blocks (of guest addresses) to a file, mobo(1)\n"
           "  --symbols map|dump|gdb   names of translated blocks for perf and gdb, mobo(1)\n"
           "  --restore STATE          go on from a file that mobo save made\n"
           "  --stats                  print counters at the end\n\n"
           "Exit status: 0 power-off, 1 usage or configuration, 2 host error, 3 guest crash,\n"
           "4 reset with --no-reboot, 5 saved, 124 timeout, 128 + N signal N, others by debug-exit.\n",
           common_help);
}

static void check_help(void)
{
    printf("usage: mobo check [OPTIONS] FILE.ini\n\n"
           "Validates the VM description as mobo run would, and starts nothing.\n\n"
           "%s"
           "  --json                   print the verdict as JSON\n"
           "  --dump                   print the description with preset and overrides applied\n",
           common_help);
}

/* What both commands take from their command line. */
struct args {
    struct string_list sets, dirs, owned;
    const char *file, *trace;
    bool json, dump;
    struct worker_options worker;
};

static void args_free(struct args *a)
{
    for (size_t i = 0; i < a->owned.count; i++)
        free((void *)a->owned.items[i]);
    string_list_free(&a->owned);
    string_list_free(&a->sets);
    string_list_free(&a->dirs);
}

/* @return -1 to go on, else the exit status. */
static int args_parse(struct args *a, int argc, char **argv, const struct option *options)
{
    const char *cmd = argv[0];
    struct diag diag = { "" };
    enum log_level level;
    int c;

    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        char *text, *end;

        switch (c) {
        case OPT_SET: string_list_add(&a->sets, optarg); break;
        case OPT_ENGINE:
            if (asprintf(&text, "vm.engine=%s", optarg) < 0)
                return STATUS_HOST;
            string_list_add(&a->owned, text);
            string_list_add(&a->sets, text);
            break;
        case OPT_CHECK: a->worker.check = optarg; break;
        case OPT_DUMP_JIT:
            if (strncmp(optarg, "jit=", 4) || !optarg[4])
                return usage_error("%s: --dump: '%s' is not jit=FILE or jit=FILE:ADDRESS-ADDRESS", cmd, DIAG_Q(optarg));
            a->worker.jit_dump = optarg + 4;
            break;
        case OPT_SYMBOLS: a->worker.symbols = optarg; break;
        case OPT_VDEV_PATH: string_list_add(&a->dirs, optarg); break;
        case OPT_TIMEOUT:
            errno = 0;
            a->worker.timeout_s = strtod(optarg, &end);
            if (end == optarg || *end || errno || !(a->worker.timeout_s > 0) ||
                a->worker.timeout_s > 1e8)
                return usage_error("%s: --timeout: '%s' is not a number of seconds", cmd,
                                   DIAG_Q(optarg));
            break;
        case OPT_NO_REBOOT: a->worker.no_reboot = true; break;
        case OPT_LOG_LEVEL:
            if (log_level_parse(optarg, &level))
                return usage_error("%s: --log-level: unknown level '%s' (known: error, warning, "
                                   "info, debug)",
                                   cmd, DIAG_Q(optarg));
            log_level_set(level);
            break;
        case OPT_LOG_FILE:
            if (log_file_open(optarg, &diag)) {
                usage_error("%s", diag.text);
                return STATUS_HOST;
            }
            break;
        case OPT_TRACE:
            if (log_trace_set(optarg, &diag))
                return usage_error("%s: %s", cmd, diag.text);
            a->trace = optarg;
            a->worker.jit_trace = log_trace_names("jit");
            break;
        case OPT_CONTROL: a->worker.control = optarg; break;
        case OPT_RESTORE: a->worker.restore = optarg; break;
        case OPT_STATS: a->worker.stats = true; break;
        case OPT_JSON: a->json = true; break;
        case OPT_DUMP: a->dump = true; break;
        case OPT_HELP:
        case 'h': options == run_options ? run_help() : check_help(); return 0;
        default: return option_error(cmd, argv, options, c);
        }
    }
    if (optind == argc)
        return usage_error("%s: no FILE.ini (see mobo %s --help)", cmd, cmd);
    if (optind + 1 < argc)
        return usage_error("%s: one FILE.ini at a time, '%s' is too much", cmd,
                           DIAG_Q(argv[optind + 1]));
    a->file = argv[optind];
    return -1;
}

/* The status of a file that could not be read as a description. */
static int load(struct args *a, struct config **ret, struct diag *diag)
{
    int err = config_load(a->file, a->sets.items, a->sets.count, NULL, ret, diag);

    return err == 0 ? STATUS_OK : err == -ENOMEM ? STATUS_HOST : STATUS_CONFIG;
}

/* Areas of --trace are devices and the translator. */
static int check_trace(const char *areas, const struct config *c, struct diag *diag)
{
    const char **names = calloc(c->nsections + 2, sizeof(*names));
    int status = STATUS_OK;
    size_t n = 0;

    if (!names)
        return STATUS_HOST;
    names[n++] = "all";
    names[n++] = "jit";
    for (size_t i = 0; i < c->nsections; i++)
        if (c->sections[i].kind == CONFIG_VDEV)
            names[n++] = c->sections[i].name;
    while (areas && *areas && status == STATUS_OK) {
        size_t len = strcspn(areas, ","), i = 0;
        char word[64];

        snprintf(word, sizeof(word), "%.*s", (int)(len < 63 ? len : 63), areas);
        while (i < n && strcmp(names[i], word) != 0)
            i++;
        if (i == n) {
            diag_set(diag, -ENOENT, "--trace %s: no device '%s'%s", DIAG_Q(word), DIAG_Q(word),
                     DID_YOU_MEAN(nearest(word, names, n)));
            status = STATUS_CONFIG;
        }
        areas += len + (areas[len] == ',');
    }
    free(names);
    return status;
}

int cmd_run(int argc, char **argv)
{
    struct args a = { 0 };
    struct config *config = NULL;
    struct diag diag = { "" };
    char **dirs = NULL;
    int status = args_parse(&a, argc, argv, run_options);

    if (status < 0) {
        status = load(&a, &config, &diag);
        if (status == STATUS_OK)
            status = check_trace(a.trace, config, &diag);
        if (status != STATUS_OK) {
            usage_error("%s", diag.text);
        } else {
            dirs = worker_vdev_dirs(a.dirs.items, a.dirs.count);
            a.worker.config = config;
            a.worker.vdev_dirs = (const char *const *)dirs;
            status = worker_run(&a.worker);
        }
    }
    worker_vdev_dirs_free(dirs);
    config_destroy(config);
    args_free(&a);
    log_close();
    return status;
}

/* The description as the board gets it. */
static void dump(const struct config *c)
{
    for (size_t i = 0; i < c->nsections; i++) {
        const struct config_section *s = &c->sections[i];

        printf("%s[%s%s]\n", i ? "\n" : "", s->kind == CONFIG_VDEV ? "vdev " : "", s->name);
        for (size_t k = 0; k < s->nkeys; k++) {
            const struct config_key *key = &s->keys[k];
            printf("%s = %s", key->name, key->value);
            if (key->pos.line && !s->preset && strncmp(key->pos.file, "preset ", 7) != 0)
                printf(" ; %s:%u\n", key->pos.file, key->pos.line);
            else
                printf(" ; %s\n", key->pos.file);
        }
    }
}

int cmd_check(int argc, char **argv)
{
    struct args a = { 0 };
    struct config *config = NULL;
    struct diag diag = { "" };
    char **dirs = NULL;
    int status = args_parse(&a, argc, argv, check_options);

    if (status < 0) {
        status = load(&a, &config, &diag);
        if (status == STATUS_OK) {
            if (a.dump)
                dump(config);
            dirs = worker_vdev_dirs(a.dirs.items, a.dirs.count);
            a.worker.config = config;
            a.worker.vdev_dirs = (const char *const *)dirs;
            status = worker_check(&a.worker, &diag);
        }
        if (a.json) {
            json_t *o = json_pack("{s:s, s:b, s:i, s:s*}", "file", a.file, "ok", status == 0,
                                  "status", status, "message", status ? diag.text : NULL);
            json_dumpf(o, stdout, JSON_INDENT(2));
            putchar('\n');
            json_decref(o);
        } else if (status != STATUS_OK) {
            usage_error("%s", diag.text);
        } else if (!a.dump) {
            printf("%s: ok\n", a.file);
        }
    }
    worker_vdev_dirs_free(dirs);
    config_destroy(config);
    args_free(&a);
    log_close();
    return status;
}
