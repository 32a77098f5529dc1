#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The translator against the host CPU: random instruction sequences, all modes that it runs.  MOBO_JIT_EXACT keeps the
# arithmetic flags exact even where nobody reads them, as a sequence that faults shows them.
# ORACLE_COUNT and ORACLE_SEED as in oracle.sh.
set -u
oracle=${top_builddir:-.}/tests/engines/oracle
seed=${ORACLE_SEED:-$(date +%Y%m%d)}
if ! "${MOBO:-${top_builddir:-.}/mobo}" engines | awk '$1 == "jit" && $2 == "yes" { ok = 1 } END { exit !ok }'; then
    echo "the translator does not work on this host"
    exit 77
fi
count=${ORACLE_COUNT:-3000000}
status=0
# As said, as blocks are made at first; with slots at each site; with few of them, and checks that keep flags.
MOBO_JIT_EXACT=1 "$oracle" -n $((count / 2)) -s "$seed" -e jit || status=1
MOBO_JIT_EXACT=slots "$oracle" -n $((count / 3)) -s "$((seed + 1))" -e jit || status=1
MOBO_JIT_SMALL=1 MOBO_JIT_EXACT=1 "$oracle" -n $((count / 6)) -s "$((seed + 2))" -e jit || status=1
# Programs in executors.
MOBO_JIT_NATIVE=always MOBO_JIT_EXACT=1 "$oracle" -n $((count / 30)) -s "$((seed + 3))" -e jit || status=1
exit $status
