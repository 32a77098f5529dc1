#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Every version of the VMBus protocol with the distribution's own drivers: they are loaded, do work on disk and network,
# and are unloaded with the bus itself, eight times in one guest.
# Usage: tests/guests/vmbus.sh BUILDDIR [CASE...]     CASE: amd64-1, cloud-2, ...; default cloud-2
# Prints "ok: ..." or "not ok: ..." lines.  Logs: BUILDDIR/guests/vmbus-CASE.log.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:?usage: tests/guests/vmbus.sh BUILDDIR [CASE...]}")
shift
cases=("$@")
[ $# -gt 0 ] || cases=(cloud-2)
mkdir -p "$build/guests"
if ! "$build/mobo" vdev list | grep -q '^netvsp'; then
    echo "skip: vmbus: netvsp is not built"
    exit 0
fi
work=$(mktemp -d "$build/guests/vmbus.XXXXXX")
trap 'rm -rf "$work"' EXIT
failed=0
fail() { echo "not ok: vmbus: $*"; failed=1; }
for c in "${cases[@]}"; do
    flavour=${c%-*} log=$build/guests/vmbus-$c.log
    if ! kernel=$("$top/scripts/guest/fetch" kernel "$flavour") || ! busybox=$("$top/scripts/guest/fetch" busybox amd64); then
        echo "skip: vmbus: $c: the kernel or busybox package cannot be downloaded"
        continue
    fi
    "$top/scripts/guest/modules" "$flavour" "$work/mods" sd_mod hv_vmbus hv_storvsc hv_netvsc hv_utils &&
        GUEST_INIT=$top/tests/guests/vmbus-init "$top/scripts/guest/initramfs" "$busybox" "$work/$c.gz" "$busybox" \
            "$work"/mods/*.ko || { fail "$c: packing the initramfs failed"; continue; }
    truncate -s 8M "$work/disk.img"
    # Linux cannot unload hv_vmbus while direct timers are its clock: see mobo.ini(5)
    cat >"$work/vm.ini" <<INI
[vm]
name = vmbus
memory = 256M
processors = ${c##*-}
[enlightenments]
direct_stimers = no
[boot]
firmware = linux
kernel = $kernel
initrd = $c.gz
cmdline = console=ttyS0 quiet loglevel=4 panic=-1
[vdev disk0]
type = storvsp
image = disk.img
[vdev net0]
type = netvsp
INI
    "$build/mobo" run --timeout 120 --no-reboot "$work/vm.ini" </dev/null >"$log" 2>&1
    st=$?
    while read -r verdict what; do
        if [ "$verdict" = VMBUS-OK ]; then echo "ok: vmbus: $c: $what"; else fail "$c: $what"; fi
    done < <(tr -d '\r' <"$log" | grep -oE 'VMBUS-(OK|FAIL).*')
    [ $st = 0 ] && [ "$(grep -c 'VMBUS-\(OK\|FAIL\)' "$log")" = 8 ] ||
        fail "$c: status $st, $(grep -c VMBUS-OK "$log") of 8 versions; $(tail -n 1 "$log" | tr -d '\r')"
done
exit $failed
