#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Runs the bare-metal guests: on each engine that works here by bare_run (the hypervisor library
# alone), then one by `mobo run` (multiboot loader, serial port and debug-exit as plug-ins).
# Prints TAP: one case for each check of a guest.
set -uo pipefail
here=${top_builddir:-.}/tests/engines
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cases=0
result() { # ok|not ok, NAME
    cases=$((cases + 1))
    printf '%s %d - %s\n' "$1" $cases "$2"
}

# The lines of a guest as TAP; its exit status must agree with them.
judge() { # NAME STATUS OUTPUT EXPECTED-STATUS
    local line any=no failed=no
    while IFS= read -r line; do
        line=${line%$'\r'}
        case $line in
        'PASS '*) result ok "$1: ${line#PASS }"; any=yes ;;
        'FAIL '*) result 'not ok' "$1: ${line#FAIL }"; any=yes failed=yes ;;
        'SKIP '*) result ok "$1: ${line#SKIP } # SKIP" ;;
        esac
    done <"$3"
    [ $failed = yes ] || [ "$2" = "$4" ] || result 'not ok' "$1: ended with status $2 instead of $4"
    [ $any = yes ] || result 'not ok' "$1: reported nothing"
}

engines=${BARE_ENGINES:-$("$MOBO" engines | awk '$2 == "yes" { print $1 }')}
for engine in ${engines:-interp}; do
    for guest in "$here"/bare/*.elf; do
        name=$(basename "$guest" .elf)
        timeout 120 "$here/bare_run" -e "$engine" -t 100 "$guest" >"$work/out" 2>"$work/err"
        status=$?
        sed 's/^/# /' "$work/err"
        judge "$engine $name" $status "$work/out" 0
    done
    # Small tables, so that blocks are given up all the time, and all 64-bit code floats.
    [ "$engine" = jit ] && for guest in "$here"/bare/*64.elf; do
        name=$(basename "$guest" .elf)
        MOBO_JIT_SMALL=1 timeout 120 "$here/bare_run" -e jit -t 100 "$guest" >"$work/out" 2>"$work/err"
        status=$?
        sed 's/^/# /' "$work/err"
        judge "small jit $name" $status "$work/out" 0
    done
    for name in apic64 remap64 smc64; do # what they check of a second processor
        timeout 120 "$here/bare_run" -e "$engine" -p 2 -t 100 "$here/bare/$name.elf" >"$work/out" 2>"$work/err"
        status=$?
        sed 's/^/# /' "$work/err"
        judge "$engine $name, 2 processors" $status "$work/out" 0
    done
done

cat >"$work/bare.ini" <<INI
[vm]
name = bare
memory = 128M
processors = 1

[boot]
firmware = multiboot
kernel = $here/bare/except64.elf

[vdev exit]
type = debug-exit
INI
timeout 120 "$MOBO" run "$work/bare.ini" --timeout 100 >"$work/out" 2>"$work/err" </dev/null
status=$?
sed 's/^/# /' "$work/err"
judge 'mobo run except64' $status "$work/out" 1
echo "1..$cases"
