#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Random bytes as guest code on the translator: nothing may happen to the host.
set -u
for native in auto always; do
    MOBO_JIT_NATIVE=$native timeout 300 "${top_builddir:-.}/tests/engines/jit_fuzz" jit "${FUZZ_RUNS:-300}" "${FUZZ_SEED:-$(date +%Y%m%d)}" || exit
done
