/* SPDX-License-Identifier: BSD-2-Clause */
/* libFuzzer target: any bytes as a VM description. */
#include "core/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const struct config_limits limits = { .host_memory = 8ULL << 30 };
    struct diag diag = { "" };
    struct config *c = NULL;

    if (config_parse("fuzz.ini", (const char *)data, len, NULL, 0, &limits, &c, &diag) == 0)
        config_destroy(c);
    else if (!diag.text[0])
        __builtin_trap(); /* an error without a message */
    return 0;
}
