#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The translator in lock-step with the interpreter: the random programs of jit_fuzz, every block compared, as blocks are
# made at first, with slots at each site, with flags kept exact, with free runs in between, each block before it is used,
# and from an address on.  A difference ends the program with status 2.
set -euo pipefail
fuzz=${top_builddir:-.}/tests/engines/jit_fuzz
if ! "${MOBO:-${top_builddir:-.}/mobo}" engines | awk '$1 == "jit" && $2 == "yes" { ok = 1 } END { exit !ok }'; then
    echo "the translator does not work on this host"
    exit 77
fi
seed=${FUZZ_SEED:-$(date +%Y%m%d)}
for how in X=1 MOBO_JIT_SMALL=1 MOBO_JIT_EXACT=1 MOBO_JIT_EXACT=slots MOBO_JIT_CHECK=interp:5 MOBO_JIT_CHECK=interp:blocks:1 MOBO_JIT_CHECK=interp:from:1; do
    seed=$((seed + 1000))
    out=$(env MOBO_JIT_CHECK=interp "$how" timeout 200 "$fuzz" jit "${FUZZ_RUNS:-120}" "$seed" 2>&1) || {
        printf '%s, seed %s:\n%s\n' "$how" "$seed" "$(printf '%s\n' "$out" | tail -n 40 | cut -c 1-400)"
        exit 1
    }
    equal=$(printf '%s\n' "$out" | sed -n 's/^translator: VP 0: \([0-9]*\) blocks equal.*/\1/p')
    # Not a test if little was compared.
    [ "${equal:-0}" -ge 1000 ] || { echo "$how, seed $seed: only ${equal:-0} blocks were compared"; exit 1; }
    echo "ok: $how, seed $seed: $equal blocks equal"
    case $how in *blocks*)
        made=$(printf '%s\n' "$out" | sed -n 's/^translator: VP 0: \([0-9]*\) blocks made after.*/\1/p' | awk '{ n += $1 } END { print n + 0 }')
        [ "$made" -ge 60 ] || { echo "$how, seed $seed: only $made blocks were made after a comparison"; exit 1; }
        echo "ok: $how, seed $seed: $made blocks made after they were equal" ;;
    esac
done
# What cannot be meant is refused.
for how in interp:0 interp:x interp: interp:blocks:0 interp:blocks:1:0 interp:blocks:1:2:3 interp:blockss interp:from interp:from:-1 kvm; do
    if out=$(MOBO_JIT_CHECK=$how timeout 60 "$fuzz" jit 1 1 2>&1); then
        echo "MOBO_JIT_CHECK=$how was taken: $out"
        exit 1
    fi
done
echo "ok: nonsense is refused"
