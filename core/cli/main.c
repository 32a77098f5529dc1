/* SPDX-License-Identifier: BSD-2-Clause */
/* mobo: the command line. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cli/cli.h"

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* NULL: not available yet */
    const char *help;
} commands[] = {
    { "run", cmd_run, "run a VM in the foreground" },
    { "check", cmd_check, "validate a VM description" },
    { "vdev", cmd_vdev, "list the devices that can be plugged in, or describe one" },
    { "engines", cmd_engines, "which engines work here" },
    { "create", NULL, NULL },
    { "delete", NULL, NULL },
    { "list", NULL, NULL },
    { "info", NULL, NULL },
    { "start", NULL, NULL },
    { "shutdown", NULL, NULL },
    { "turn-off", NULL, NULL },
    { "pause", NULL, NULL },
    { "resume", NULL, NULL },
    { "reset", NULL, NULL },
    { "save", cmd_save, "write a running VM to a file and end it" },
    { "checkpoint", NULL, NULL },
    { "console", NULL, NULL },
    { "events", NULL, NULL },
    { "inspect", NULL, NULL },
    { "stats", cmd_stats, "show the counters of a running VM" },
    { "device", NULL, NULL },
    { "disk", cmd_disk, "make, describe, check and convert disk images" },
    { "screenshot", cmd_screenshot, "what is on the screen of a VM, as a PNG file" },
    { "type", cmd_type, "press keys on the keyboard of a VM" },
    { "pointer", cmd_pointer, "move the mouse of a VM" },
};

int usage_error(const char *fmt, ...)
{
    va_list ap;

    fputs("mobo: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return 1;
}

int option_error(const char *command, char **argv, const struct option *options, int answer)
{
    const char *arg = argv[optind - 1], *names[32];
    size_t n = 0;
    char word[64];

    if (answer == ':')
        return usage_error("%s: %s needs a value", command, arg);
    if (strncmp(arg, "--", 2) != 0)
        return usage_error("%s: unknown option '-%c' (see mobo %s --help)", command, optopt,
                           command);
    snprintf(word, sizeof(word), "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
    for (; n < COUNT(names) && options[n].name; n++) {
        names[n] = options[n].name;
        if (strcmp(word, names[n]) == 0)
            return usage_error("%s: --%s takes no value", command, word);
    }
    if (nearest(word, names, n))
        return usage_error("%s: unknown option '--%s' (did you mean '--%s'?)", command,
                           DIAG_Q(word), nearest(word, names, n));
    return usage_error("%s: unknown option '--%s' (see mobo %s --help)", command, DIAG_Q(word),
                       command);
}

void string_list_add(struct string_list *l, const char *item)
{
    const char **more = realloc(l->items, (l->count + 1) * sizeof(*more));

    if (!more) {
        fputs("mobo: no memory\n", stderr);
        exit(2);
    }
    l->items = more;
    l->items[l->count++] = item;
}

void string_list_free(struct string_list *l)
{
    free(l->items);
    *l = (struct string_list){ 0 };
}

static void print_help(void)
{
    puts("usage: mobo COMMAND [ARGUMENTS]\n");
    for (size_t i = 0; i < COUNT(commands); i++)
        if (commands[i].run)
            printf("  %-10s %s\n", commands[i].name, commands[i].help);
    puts("\nmobo COMMAND --help describes a command; mobo(1) and mobo.ini(5) have the rest.");
}

int main(int argc, char **argv)
{
    const char *names[COUNT(commands)], *name;

    if (argc < 2) {
        fputs("mobo: no command (see mobo --help)\n", stderr);
        return 1;
    }
    name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help();
        return 0;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        puts("mobo " MOBO_VERSION_STRING);
        return 0;
    }
    for (size_t i = 0; i < COUNT(commands); i++) {
        names[i] = commands[i].name;
        if (strcmp(name, commands[i].name) != 0)
            continue;
        if (!commands[i].run)
            return usage_error("'%s' is not available yet", name);
        return commands[i].run(argc - 1, argv + 1);
    }
    if (name[0] == '-')
        return usage_error("unknown option '%s' (see mobo --help)", DIAG_Q(name));
    if (nearest(name, names, COUNT(names)))
        return usage_error("unknown command '%s'%s", DIAG_Q(name),
                           DID_YOU_MEAN(nearest(name, names, COUNT(names))));
    return usage_error("unknown command '%s' (see mobo --help)", DIAG_Q(name));
}
