#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Save a guest in the middle of its work and go on elsewhere: the distribution's kernel on synthetic
# devices, two processors, saved under one engine and restored under the next.
# Usage: tests/guests/save.sh BUILDDIR [ENGINE...]    default: jit interp jit
# Prints "ok: ..." or "not ok: ..." lines.  Logs: BUILDDIR/guests/save-N.log.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:?usage: tests/guests/save.sh BUILDDIR [ENGINE...]}")
shift
engines=("$@")
[ $# -gt 0 ] || engines=(jit interp jit)
mkdir -p "$build/guests"
if ! kernel=$("$top/scripts/guest/fetch" kernel cloud) || ! modules=$("$top/scripts/guest/fetch" modules cloud) ||
    ! busybox=$("$top/scripts/guest/fetch" busybox amd64); then
    echo "skip: save: the kernel or busybox package cannot be downloaded"
    exit 0
fi
if ! "$build/mobo" vdev list | grep -q '^netvsp'; then
    echo "skip: save: netvsp is not built"
    exit 0
fi
work=$(mktemp -d "$build/guests/save.XXXXXX")
vm=
trap '[ -z "$vm" ] || kill -9 "$vm" 2>/dev/null; rm -rf "$work"' EXIT
failed=0
fail() { echo "not ok: save: $*"; failed=1; }
die() {
    fail "$*"
    tail -n 5 "$log" | tr -d '\r' | sed 's/^/    /'
    exit 1
}

list=(scsi/scsi_common scsi/scsi_mod scsi/sd_mod scsi/scsi_transport_fc hv/hv_vmbus scsi/hv_storvsc net/net_failover net/hyperv/hv_netvsc
    hv/hv_utils hv/hv_balloon hid/hid hid/hid-generic hid/hid-hyperv input/serio/hyperv-keyboard)
files=("$modules/kernel/net/core/failover.ko")
for m in "${list[@]}"; do files+=("$modules/kernel/drivers/$m.ko"); done
initrd=$build/guests/initrd-save.gz
GUEST_INIT=$top/tests/guests/save-init "$top/scripts/guest/initramfs" "$busybox" "$initrd" "$busybox" "${files[@]}" || {
    echo "not ok: save: packing the initramfs failed"
    exit 1
}
truncate -s 64M "$work/disk.img"
cat >"$work/vm.ini" <<INI
[vm]
name = save
memory = 256M
processors = 2
[boot]
firmware = linux
kernel = $kernel
initrd = $initrd
cmdline = console=ttyS0 quiet loglevel=4 panic=-1 memhp_default_state=online
[vdev disk0]
type = storvsp
image = disk.img
[vdev net0]
type = netvsp
[vdev synthmouse]
type = synthmouse
[vdev vss]
type = vss
[vdev fcopy]
type = fcopy
[vdev balloon]
type = balloon
maximum = 512M
INI
mkfifo "$work/in"

# start N ENGINE [--restore FILE]: runs the VM, its console in save-N.log with the host's time on each line.
start() {
    local n=$1 engine=$2
    shift 2
    log=$build/guests/save-$n.log
    : >"$log"
    "$build/mobo" run --engine "$engine" --control "$work/ctl" --timeout 200 --log-level info --no-reboot "$@" \
        "$work/vm.ini" <"$work/in" > >(while IFS= read -r l; do
            printf '%s %s\n' "$EPOCHREALTIME" "${l%$'\r'}"
        done >>"$log") 2>>"$build/guests/save-$n.err" &
    vm=$!
    exec 8>"$work/in"
}

# until PATTERN [FROM-LINE]: waits for a line; the VM must live.
until_line() {
    local i
    for ((i = 0; i < 1800; i++)); do
        grep -qE "$1" "$log" && return 0
        kill -0 "$vm" 2>/dev/null || { sleep 0.3; grep -qE "$1" "$log" && return 0; die "the VM ended before '$1'"; }
        sleep 0.1
    done
    die "no '$1' came"
}

save() {   # N: mobo save, and what is to follow
    "$build/mobo" save --control "$work/ctl" "$work/state" || die "mobo save failed"
    wait "$vm"
    local st=$?
    vm=
    exec 8>&-
    [ $st = 5 ] || die "after mobo save the VM ended with status $st"
}

rm -f "$build"/guests/save-*.err
last=$((${#engines[@]} - 1))
for n in "${!engines[@]}"; do
    engine=${engines[$n]}
    if [ "$n" = 0 ]; then
        start "$n" "$engine"
        until_line 'SAVE-(READY|FAIL)'
        grep -q SAVE-READY "$log" || die "the guest did not get ready"
        until_line 'SAVE-TICK 3 '
        # Memory for the guest beyond what it started with goes with it.
        "$top/scripts/guest/control" "$work/ctl" command \
            '{"device":"balloon","command":"target","argument":"384M"}' >>"$build/guests/save-$n.err" || fail 'balloon target'
        printf 'hot\n' >&8
        until_line 'SAVE-HOT'
        memory=$(grep -o 'SAVE-HOT [0-9]*' "$log")
        if [ "${memory#* }" -gt 330000 ]; then echo "ok: save: memory added to 256 MiB: the guest has ${memory#* } kB"
        else fail "memory added to 256 MiB: the guest has ${memory#* } kB"; fi
        until_line "SAVE-TICK $(($(grep -o 'SAVE-TICK [0-9]*' "$log" | tail -n 1 | cut -d ' ' -f 2) + 1)) "
    else
        start "$n" "$engine" --restore "$work/state"
        until_line 'SAVE-TICK'
        first=$(grep -m 1 -o 'SAVE-TICK [0-9]*' "$log")
        want=$((ticks + 1))
        if [ "${first#* }" -ge $want ] && [ "${first#* }" -le $((want + 1)) ] && ! grep -q SAVE-READY "$log"; then
            echo "ok: save: the guest goes on under $engine where it was under ${engines[$((n - 1))]}"
        else
            fail "restored under $engine the guest says '$first', after tick $ticks"
        fi
        until_line "SAVE-TICK $((ticks + 3)) "
        [ "$n" = "$last" ] || until_line "SAVE-TICK $((ticks + 4)) "
    fi
    if [ "$n" != "$last" ]; then
        save
        ticks=$(grep -o 'SAVE-TICK [0-9]*' "$log" | tail -n 1 | cut -d ' ' -f 2)
        sleep 4    # the guest's calendar falls behind by that
    fi
done
printf 'finish\n' >&8
until_line 'SAVE-VERDICT'
wait "$vm"
st=$?
vm=
if grep -q 'SAVE-VERDICT pass' "$log" && [ $st = 0 ]; then
    echo "ok: save: processors, disk, network and clock of the guest went on, ${engines[*]}"
else
    fail "$(grep -o 'SAVE-VERDICT.*' "$log"), status $st"
fi
# The guest's three seconds by the host's clock, and its calendar, which time synchronization has set.
begin=$(grep -m 1 'SAVE-NAP begin' "$log" | cut -d ' ' -f 1)
end=$(grep -m 1 'SAVE-NAP end' "$log" | cut -d ' ' -f 1)
date=$(grep -m 1 -o 'SAVE-NAP end [0-9]*' "$log" | cut -d ' ' -f 3)
if awk -v b="$begin" -v e="$end" -v d="$date" 'BEGIN { n = e - b; o = e - d; exit !(n > 2.8 && n < 9 && o > -2 && o < 4) }'; then
    echo "ok: save: the clock keeps its pace and the calendar is right"
else
    fail "3 s of the guest took from $begin to $end, and then its calendar said $date"
fi

# A guest that knows nothing of Hyper-V: the demonstration's workload, taken to another engine and back.
legacy() {
    local kernel initrd n=legacy st
    kernel=$("$top/scripts/guest/fetch" kernel amd64) || { echo "skip: save: the amd64 kernel cannot be downloaded"; return; }
    initrd=$build/guests/initrd-amd64.gz
    "$top/scripts/guest/initramfs" "$busybox" "$initrd" || { fail "packing the initramfs failed"; return; }
    cat >"$work/vm.ini" <<INI
[vm]
name = legacy
memory = 256M
processors = 2
enlightened = no
[boot]
firmware = linux
kernel = $kernel
initrd = $initrd
cmdline = console=ttyS0 quiet panic=-1 MOBO_MODE=check MOBO_TOKEN=x MOBO_CPUS=2
INI
    rm -f "$work/state"
    start $n jit
    until_line 'MOBO-STEP forks'
    save
    start $n-interp interp --restore "$work/state"
    sleep 2    # in the middle of the next step, whichever that is
    save
    start $n-jit jit --restore "$work/state"
    until_line 'MOBO-VERDICT'
    wait "$vm"
    st=$?
    vm=
    if [ $st = 0 ] && grep -q 'MOBO-VERDICT pass' "$log"; then
        echo "ok: save: a guest without Hyper-V interface went on, jit interp jit"
    else
        fail "legacy guest: status $st, $(grep -E 'MOBO-(VERDICT|STEP.*bad)' "$log" | cut -d ' ' -f 2-)"
    fi
}

# A state that another VM has, or that is damaged, does not start.
refused() {    # WHAT PATTERN ARGS...
    local what=$1 pattern=$2 out st
    shift 2
    out=$("$build/mobo" run --timeout 20 --set com1.backend=null --restore "$work/state" "$@" "$work/vm.ini" 2>&1 </dev/null)
    st=$?
    if [ $st = 2 ] && grep -qE "$pattern" <<<"$out" && [ "$(wc -l <<<"$out")" = 1 ]; then
        echo "ok: save: $what is refused"
    else
        fail "$what: status $st: $out"
    fi
}
refused 'a VM with more memory' 'of a VM with .* 256 MiB, this one has .* 512 MiB' --set vm.memory=512M
refused 'a VM with another device' 'saved devices are not those' --set fcopy.type=none
refused 'another interrupt line' "another 'irq'" --set com1.irq=3
cp "$work/state" "$work/good"
printf 'x' | dd of="$work/state" bs=1 seek=$(($(stat -c %s "$work/state") - 5000)) conv=notrunc 2>/dev/null
refused 'a damaged file' 'damaged'
head -c 100000 "$work/good" >"$work/state"
refused 'a file that is cut off' 'damaged'
rm -f "$work/state" "$work/good"
legacy
exit $failed
