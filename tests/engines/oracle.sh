#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Random instruction sequences on the host CPU and on the interpreter: all modes that the host runs, a new seed
# each day.
# ORACLE_COUNT, ORACLE_SEED and ORACLE_ENGINE say otherwise.
set -u
seed=${ORACLE_SEED:-$(date +%Y%m%d)}
exec "${top_builddir:-.}/tests/engines/oracle" ${ORACLE_COUNT:+-n "$ORACLE_COUNT"} -s "$seed" \
    -e "${ORACLE_ENGINE:-interp}"
