/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line: what the commands share. */
#ifndef CORE_CLI_CLI_H
#define CORE_CLI_CLI_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/util/diag.h"

/* A command; argv[0] is its name.  @return exit status. */
int cmd_run(int argc, char **argv);
int cmd_save(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_vdev(int argc, char **argv);
int cmd_engines(int argc, char **argv);
int cmd_disk(int argc, char **argv);
int cmd_screenshot(int argc, char **argv);
int cmd_type(int argc, char **argv);
int cmd_pointer(int argc, char **argv);
int cmd_stats(int argc, char **argv);

/** "mobo: text" on standard error.  @return 1, the status of bad usage. */
int usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** What getopt_long() answered '?' or ':' to, as one line with the nearest option.  @return 1. */
int option_error(const char *command, char **argv, const struct option *options, int answer);

struct string_list {
    const char **items;
    size_t count;
};
void string_list_add(struct string_list *l, const char *item);
void string_list_free(struct string_list *l);

#endif
