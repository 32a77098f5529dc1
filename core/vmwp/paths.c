/* SPDX-License-Identifier: BSD-2-Clause */
/* Where plug-ins are. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/vmwp/worker.h"

/* Folders of the build tree in which libtool leaves modules. */
static const char *const tree_dirs[] = { "plugins/core-vdevs/emulated/.libs",
                                         "plugins/core-vdevs/synthetic/.libs",
                                         "plugins/extra-vdevs/.libs" };

static char **add(char **dirs, size_t *n, const char *dir, size_t len)
{
    char **more;

    if (!dirs || len == 0)
        return dirs;
    more = realloc(dirs, (*n + 2) * sizeof(*more));
    if (!more)
        return dirs;
    more[*n] = strndup(dir, len);
    if (more[*n])
        (*n)++;
    more[*n] = NULL;
    return more;
}

static char **add_list(char **dirs, size_t *n, const char *list)
{
    while (list && *list) {
        size_t len = strcspn(list, ":");
        dirs = add(dirs, n, list, len);
        list += len + (list[len] == ':');
    }
    return dirs;
}

/* The build tree, when the program runs from it: libtool keeps the real one in .libs. */
static bool build_tree(char *ret, size_t len)
{
    char exe[PATH_MAX], file[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    char *slash;

    if (n <= 0)
        return false;
    exe[n] = '\0';
    slash = strrchr(exe, '/');
    if (!slash)
        return false;
    *slash = '\0';
    slash = strrchr(exe, '/');
    if (slash && strcmp(slash, "/.libs") == 0)
        *slash = '\0';
    snprintf(file, sizeof(file), "%s/config.status", exe);
    if (access(file, F_OK))
        return false;
    snprintf(file, sizeof(file), "%s/plugins", exe);
    if (access(file, F_OK) || strlen(exe) >= len)
        return false;
    strcpy(ret, exe);
    return true;
}

char **worker_vdev_dirs(const char *const *given, size_t ngiven)
{
    char **dirs = calloc(1, sizeof(*dirs)), tree[PATH_MAX], dir[PATH_MAX + 64];
    size_t n = 0;

    for (size_t i = 0; i < ngiven; i++)
        dirs = add_list(dirs, &n, given[i]);
    dirs = add_list(dirs, &n, getenv("MOBO_VDEV_PATH"));
    if (build_tree(tree, sizeof(tree))) {
        for (size_t i = 0; i < COUNT(tree_dirs); i++) {
            int len = snprintf(dir, sizeof(dir), "%s/%s", tree, tree_dirs[i]);
            dirs = add(dirs, &n, dir, (size_t)len);
        }
    } else {
        dirs = add(dirs, &n, MOBO_VDEVDIR, strlen(MOBO_VDEVDIR));
    }
    return dirs;
}

void worker_vdev_dirs_free(char **dirs)
{
    for (size_t i = 0; dirs && dirs[i]; i++)
        free(dirs[i]);
    free(dirs);
}
