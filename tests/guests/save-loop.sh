#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# A guest with two busy processors is saved and goes on, again and again: whatever is on its way at that moment (an
# interrupt, an IPI, a timer, a packet) has to arrive.  After each time everything that the guest does has to move.
# Usage: tests/guests/save-loop.sh BUILDDIR [ROUNDS [ENGINE...]]    default: 10 rounds, jit
# Engines take turns.  Prints "ok: ..." or "not ok: ..." lines.  LIMIT: seconds after which a guest is lost (120).
# KEEP=yes leaves a lost guest running, for a debugger.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:?usage: tests/guests/save-loop.sh BUILDDIR [ROUNDS [ENGINE...]]}")
rounds=${2:-10}
shift $(($# > 2 ? 2 : $#))
engines=("${@:-jit}")
mkdir -p "$build/guests"
if ! kernel=$("$top/scripts/guest/fetch" kernel cloud) || ! busybox=$("$top/scripts/guest/fetch" busybox amd64); then
    echo "skip: save-loop: the kernel or busybox package cannot be downloaded"
    exit 0
fi
work=$(mktemp -d "$build/guests/save-loop.XXXXXX")
vm=
trap '[ -z "$vm" ] || kill -9 "$vm" 2>/dev/null; rm -rf "$work"' EXIT
"$top/scripts/guest/modules" cloud "$work/mods" sd_mod hv_vmbus hv_storvsc hv_netvsc hv_utils &&
    GUEST_INIT=$top/tests/guests/save-loop-init "$top/scripts/guest/initramfs" "$busybox" "$work/initrd.gz" "$busybox" \
        "$work"/mods/*.ko || { echo "not ok: save-loop: packing the initramfs failed"; exit 1; }
truncate -s 64M "$work/disk.img"
cat >"$work/vm.ini" <<INI
[vm]
name = save-loop
memory = 112M
processors = 2
[boot]
firmware = linux
kernel = $kernel
initrd = $work/initrd.gz
cmdline = console=ttyS0 quiet loglevel=4 panic=-1
[vdev disk0]
type = storvsp
image = disk.img
[vdev net0]
type = netvsp
INI

lost() { # WHAT
    echo "not ok: save-loop: round $n under $engine: $1"
    tail -n 15 "$work/out" | tr -d '\r' | sed 's/^/    console: /'
    tail -n 15 "$work/err" | sed 's/^/    mobo: /'
    kill -0 "$vm" 2>/dev/null && timeout 60 "$build/mobo" stats --control "$work/ctl" 2>&1 | sed 's/^/    stats: /'
    if [ "${KEEP:-no}" = yes ] && kill -0 "$vm" 2>/dev/null; then
        echo "    left running: process $vm, $work"
        vm=
        trap - EXIT
    fi
    exit 1
}

# The numbers of the first and the last whole line of the console.
lines() { grep -a -E '^LOOP [0-9]+ pipe .* end' "$work/out" | tr -d '\r'; }
first() { lines | head -n 1; }
last() { lines | tail -n 1; }

# Everything has moved since the first line.
moves() {
    local a b i
    read -ra a <<<"$(first)"
    read -ra b <<<"$(last)"
    [ ${#a[@]} = 10 ] && [ ${#b[@]} = 10 ] || return 1
    for i in 3 5 6 8; do [ "${a[i]}" != "${b[i]}" ] || return 1; done
}

restore=()
for ((n = 0; n < rounds; n++)); do
    engine=${engines[n % ${#engines[@]}]}
    : >"$work/out" # at once: the background process opens it some time later
    : >"$work/err"
    "$build/mobo" run --engine "$engine" --control "$work/ctl" --timeout 3000 --log-level info --no-reboot \
        "${restore[@]}" "$work/vm.ini" </dev/null >>"$work/out" 2>>"$work/err" &
    vm=$!
    for ((i = 0; i < ${LIMIT:-120} * 20; i++)); do
        moves && break
        kill -0 $vm 2>/dev/null || lost 'it ended'
        sleep 0.05
    done
    moves || lost "lost: $(first) ... $(last)"
    sleep 0.0$((RANDOM % 90 + 10))
    "$build/mobo" save --control "$work/ctl" "$work/state" >"$work/answer" 2>&1 || lost "save: $(cat "$work/answer")"
    wait $vm
    st=$?
    vm=
    [ $st = 5 ] || { echo "not ok: save-loop: round $n under $engine: ended with status $st after mobo save"; exit 1; }
    restore=(--restore "$work/state")
done
echo "ok: save-loop: $rounds times saved and gone on, ${engines[*]}: $(last)"
