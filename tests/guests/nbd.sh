#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# A guest whose disk is a network block device: it makes a file system and verifies what it writes while the server
# is killed and started again, is away for so long that the VM stands still, and does not answer while the VM is
# saved; it goes on from the saved state.
# Usage: tests/guests/nbd.sh BUILDDIR
# Prints "ok: ..." or "not ok: ..." lines.  Logs: BUILDDIR/guests/nbd-*.log.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:?usage: tests/guests/nbd.sh BUILDDIR}")
skip() { echo "skip: nbd: $*"; exit 0; }
mkdir -p "$build/guests"
command -v nbdkit >/dev/null || skip 'there is no nbdkit'
! "$build/mobo" disk info nbd://localhost:1/ 2>&1 | grep -q 'need a build with libnbd' || skip 'built without libnbd'
{ kernel=$("$top/scripts/guest/fetch" kernel cloud) && busybox=$("$top/scripts/guest/fetch" busybox amd64); } ||
    skip 'the kernel or busybox package cannot be downloaded'
work=$(mktemp -d "${TMPDIR:-/tmp}/mobo-nbd.XXXXXX")  # short: the path of a socket
server='' vm=''
trap 'kill -CONT $server 2>/dev/null; kill -KILL $server $vm 2>/dev/null; rm -rf "$work"' EXIT
"$top/scripts/guest/modules" cloud "$work/mods" sd_mod hv_vmbus hv_storvsc &&
    GUEST_INIT=$top/tests/guests/nbd-init "$top/scripts/guest/initramfs" "$busybox" "$work/initrd" "$busybox" \
        "$work"/mods/*.ko || { echo 'not ok: nbd: packing the initramfs failed'; exit 1; }
truncate -s 64M "$work/disk.raw"
cat >"$work/vm.ini" <<INI
[vm]
name = nbd
memory = 256M
[boot]
firmware = linux
kernel = $kernel
initrd = initrd
cmdline = console=ttyS0 quiet loglevel=1 panic=-1
[vdev disk0]
type = storvsp
image = nbd+unix:///?socket=$work/nbd
[vdev com1]
type = uart16550
port = 0x3f8
irq = 4
backend = unix:com1
INI
failed=0
ok() { echo "ok: nbd: $*"; }
fail() { echo "not ok: nbd: $*"; failed=1; }
serve() {
    rm -f "$work/nbd"
    nbdkit -f -U "$work/nbd" file "$work/disk.raw" 2>>"$build/guests/nbd-server.log" &
    server=$!
    for _ in {1..100}; do [ ! -S "$work/nbd" ] || return 0; sleep 0.1; done
    fail 'nbdkit does not start'
}
start() {   # LOG ARGUMENTS: the VM, its console in LOG
    local log=$1; shift
    rm -f "$work/com1" "$work/control"
    "$build/mobo" run --no-reboot --control "$work/control" --timeout 200 "$@" </dev/null >"$log.mobo" 2>&1 &
    vm=$!
    for _ in {1..100}; do [ ! -S "$work/com1" ] || break; sleep 0.1; done
    python3 -u - "$work/com1" "$work/say" >"$log" 2>&1 <<'PYTHON' &
import os, select, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
if not os.path.exists(sys.argv[2]):
    os.mkfifo(sys.argv[2])
f = os.open(sys.argv[2], os.O_RDWR)
while True:
    r = select.select([s, f], [], [])[0]
    if s in r:
        d = s.recv(4096)
        if not d:
            break
        os.write(1, d)
    if f in r:
        s.send(os.read(f, 100))
PYTHON
}
rounds() { grep -c NBD-ROUND "$1"; }
progress() {    # LOG: four more rounds within 60 s
    local from; from=$(rounds "$1")
    for _ in {1..600}; do
        [ "$(rounds "$1")" -lt $((from + 4)) ] || return 0
        kill -0 $vm 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}
command -v python3 >/dev/null || skip 'there is no python3'
a=$build/guests/nbd-1.log b=$build/guests/nbd-2.log
serve
start "$a" "$work/vm.ini"
progress "$a" && ok 'a file system is made and verified' || fail "no progress: $(tail -n 1 "$a.mobo")"
kill -KILL $server; wait $server 2>/dev/null
sleep 1
serve
progress "$a" && ok 'it goes on when the server was killed and started' || fail 'no progress after a restart'
kill -KILL $server; wait $server 2>/dev/null
for _ in {1..200}; do ! grep -q 'the VM is paused' "$a.mobo" || break; sleep 0.1; done
grep -q 'the VM is paused' "$a.mobo" && ok 'it stands still when the server stays away' || fail 'it is not paused'
serve
progress "$a" && ok 'it goes on when the server is back' || fail 'no progress after a pause'
kill -STOP $server
sleep 0.5
start_s=$SECONDS
if timeout 60 "$build/mobo" save --control "$work/control" "$work/saved" >"$build/guests/nbd-save.log" 2>&1; then
    ok "it is saved while the server does not answer"
else
    fail "not saved: $(tail -n 1 "$build/guests/nbd-save.log")"
fi
[ $((SECONDS - start_s)) -lt 45 ] || fail "the save took $((SECONDS - start_s)) s"
wait $vm
kill -CONT $server; kill -KILL $server; wait $server 2>/dev/null
if [ -e "$work/saved" ]; then
    serve
    start "$b" --restore "$work/saved" "$work/vm.ini"
    progress "$b" && ok 'it goes on from the saved state' || fail "no progress after a restore: $(tail -n 1 "$b.mobo")"
    echo finish >"$work/say"
    for _ in {1..600}; do kill -0 $vm 2>/dev/null || break; sleep 0.1; done
    grep -q NBD-OK "$b" && ok "$(grep -o 'NBD-OK.*' "$b" | tr -d '\r')" || fail "$(tail -n 3 "$b" | tr -d '\r' | tr '\n' ' ')"
    kill -KILL $server; wait $server 2>/dev/null
    PATH=$PATH:/sbin:/usr/sbin
    e2fsck -fn "$work/disk.raw" >"$build/guests/nbd-fsck.log" 2>&1 && ok 'fsck finds no fault' || fail 'fsck finds faults'
fi
# an end by signal while the server does not answer
serve
start "$a" "$work/vm.ini"
progress "$a" || fail 'no progress at the third start'
kill -STOP $server
sleep 0.5
start_s=$SECONDS
kill -TERM $vm
wait $vm
[ $((SECONDS - start_s)) -lt 30 ] && ok 'it ends while the server does not answer' || fail "the end took $((SECONDS - start_s)) s"
exit $failed
