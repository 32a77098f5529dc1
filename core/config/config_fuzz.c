/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz target: any bytes as a VM description, and as what the command line sets in one.
 *
 * Input: a description; or a byte from 1 to 7, as many lines SECTION.KEY=VALUE, and a description. */
#include "core/config/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { SETS_MAX = 7 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const struct config_limits limits = { .host_memory = 8ULL << 30 };
    char *text = malloc(len + 1), *at = text, *line;
    const char *sets[SETS_MAX];
    struct diag diag = { "" };
    struct config *c = NULL;
    size_t n = 0, want = 0;

    if (!text)
        return 0;
    if (len)
        memcpy(text, data, len);
    text[len] = '\0';
    if (len && *at >= 1 && *at <= SETS_MAX)
        want = (size_t)*at++;
    while (n < want && (line = memchr(at, '\n', len - (size_t)(at - text)))) {
        *line = '\0';
        sets[n++] = at;
        at = line + 1;
    }
    if (config_parse("fuzz.ini", at, len - (size_t)(at - text), sets, n, &limits, &c, &diag) == 0) {
        for (size_t i = 0; i < c->nsections; i++)
            for (size_t k = 0; k < c->sections[i].nkeys; k++)
                if (config_find(&c->sections[i], c->sections[i].keys[k].name) != &c->sections[i].keys[k])
                    abort(); /* a key that is there twice */
        config_destroy(c);
    } else if (!diag.text[0] || strchr(diag.text, '\n')) {
        abort(); /* an error without a line */
    }
    free(text);
    return 0;
}
