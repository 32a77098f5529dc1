#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# A file system of the host that fills up under a running guest: the VM is paused with an event, goes on when there is
# space and it is resumed, and the guest has noticed nothing; twice, the first time resumed while there is no space yet.
# If somebody pauses it meanwhile it does not go on by itself.
# Usage: tests/disk/full.sh BUILDDIR         Prints "ok: ..." or "not ok: ..." lines.  Log: BUILDDIR/guests/full.log.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:?usage: tests/disk/full.sh BUILDDIR}")
# The small file system is a tmpfs in a mount namespace of its own.
if [ -z "${MOBO_FULL_INSIDE-}" ]; then
    own=(unshare -m)
    [ "$(id -u)" = 0 ] || own=(unshare -U -r -m)
    "${own[@]}" mount -t tmpfs tmpfs /mnt 2>/dev/null || {
        echo 'skip: full disk: no mount namespace of its own can be had here'
        exit 0
    }
    MOBO_FULL_INSIDE=1 exec "${own[@]}" "$0" "$build"
fi
mkdir -p "$build/guests"
if ! kernel=$("$top/scripts/guest/fetch" kernel cloud) || ! busybox=$("$top/scripts/guest/fetch" busybox amd64); then
    echo "skip: full disk: the kernel or busybox package cannot be downloaded"
    exit 0
fi
work=$(mktemp -d "$build/guests/full.XXXXXX")
log=$build/guests/full.log
vm=''
trap '[ -z "$vm" ] || { kill -9 "$vm"; wait "$vm"; } 2>/dev/null; umount "$work/small" 2>/dev/null; rm -rf "$work"' EXIT
failed=0
ok() { echo "ok: full disk: $*"; }
fail() { echo "not ok: full disk: $*"; failed=1; }
die() {
    fail "$*"
    tail -n 5 "$log" | tr -d '\r' | sed 's/^/    /'
    exit 1
}
"$top/scripts/guest/modules" cloud "$work/mods" sd_mod hv_vmbus hv_storvsc &&
    GUEST_INIT=$top/tests/disk/full-init "$top/scripts/guest/initramfs" "$busybox" "$work/initrd.gz" "$busybox" \
        "$work"/mods/*.ko || die 'packing the initramfs failed'
mkdir "$work/small"
mount -t tmpfs -o size=60M tmpfs "$work/small" || die 'mount'
# 60 MB: 40 files of 1 MB do not fit beside the ballast.
"$build/mobo" disk create --type dynamic --block-size 1M "$work/small/disk.vhdx" 128M >/dev/null || die 'mobo disk create'
head -c 12M /dev/zero >"$work/small/ballast1"
head -c 28M /dev/zero >"$work/small/ballast2"
cat >"$work/vm.ini" <<INI
[vm]
name = full
memory = 192M
processors = 1
[boot]
firmware = linux
kernel = $kernel
initrd = $work/initrd.gz
cmdline = console=ttyS0 quiet loglevel=4 panic=-1
[vdev disk0]
type = storvsp
image = $work/small/disk.vhdx
INI
"$build/mobo" run --control "$work/ctl" --timeout 150 --no-reboot "$work/vm.ini" </dev/null >"$log" 2>&1 &
vm=$!
ctl() { "$top/scripts/guest/control" "$work/ctl" "$@"; }
for ((i = 0; i < 100; i++)); do
    [ -S "$work/ctl" ] && break
    sleep 0.1
done
# An event is heard by whoever listens then: the next one's listener is there before the VM goes on.
listen() { ctl --wait-event "${1-no-space}" 120 >"$work/event" 2>&1 & listener=$!; sleep 0.3; }
wrote() { tr -d '\r' <"$log" | grep -c FULL-WROTE; }
paused() {  # for a moment now and then the VM tries by itself
    local i
    for ((i = 0; i < 20; i++)); do
        ctl status | grep -q '"paused"' && return 0
        sleep 0.1
    done
    return 1
}
stands_still() {
    local n
    n=$(wrote)
    sleep 1
    [ "$(wrote)" = "$n" ]
}
filled() { # WHAT
    wait "$listener" || die "$1: no event: $(cat "$work/event")"
    if paused && stands_still; then ok "$1: the event came, the VM is paused, after $(wrote) files"
    else fail "$1: the VM is not paused: $(ctl status)"; fi
}
listen
filled 'no space'
listen
ctl resume >/dev/null || fail 'resume'
filled 'resumed without space'
listen
rm "$work/small/ballast1"
ctl resume >/dev/null || fail 'resume'
filled 'resumed with too little space'
listen paused
ctl pause >/dev/null || fail 'pause'
wait "$listener" || fail "no event of the pause: $(cat "$work/event")"
rm "$work/small/ballast2"
sleep 6 # by itself it would go on after 5 seconds
if ctl status | grep -q '"paused"' && stands_still; then ok 'paused without space: with space it stays so'
else fail 'paused without space: it went on'; fi
ctl resume >/dev/null || fail 'resume'
wait "$vm"
st=$?
vm=''
problems=$(tr -d '\r' <"$log" | grep -o 'FULL-FAIL.*')
if [ $st = 0 ] && [ -z "$problems" ] && grep -q FULL-END "$log"; then ok 'resumed with space: every file is whole, no error in the guest'
else fail "resumed with space: status $st, $(wrote) files; ${problems:-$(tail -n 1 "$log")}"; fi
if out=$("$build/mobo" disk check "$work/small/disk.vhdx" 2>&1); then ok 'the image is clean'
else fail "the image: $out"; fi
exit $failed
