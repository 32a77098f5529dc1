#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Sockets between a stock guest and the host, both ways: transfers with checksums, half-closed ends, many
# connections, refusals, a saved machine whose connections end.
# Usage: tests/guests/vsock.sh BUILDDIR [BYTES]    default: 100 MiB a transfer
# Prints "ok: ..." or "not ok: ..." lines.  Log: BUILDDIR/guests/vsock.log.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:?usage: tests/guests/vsock.sh BUILDDIR [BYTES]}")
bytes=${2:-104857600}
mkdir -p "$build/guests"
if ! kernel=$("$top/scripts/guest/fetch" kernel cloud) || ! busybox=$("$top/scripts/guest/fetch" busybox amd64); then
    echo "skip: vsock: the kernel or busybox package cannot be downloaded"
    exit 0
fi
work=$(mktemp -d "$build/guests/vsock.XXXXXX")
log=$build/guests/vsock.log
vm='' server=''
trap '[ -z "$vm" ] || kill -9 "$vm" 2>/dev/null; [ -z "$server" ] || kill -- "-$server" 2>/dev/null; rm -rf "$work"' EXIT
failed=0
fail() { echo "not ok: vsock: $*"; failed=1; }
die() {
    fail "$*"
    tail -n 5 "$log" | tr -d '\r' | sed 's/^/    /'
    exit 1
}
if ! ${CC:-cc} -std=gnu11 -O2 -static -o "$work/vsock" "$top/tests/guests/vsock.c" 2>"$work/cc"; then
    echo "skip: vsock: a static program cannot be built: $(head -n 1 "$work/cc")"
    exit 0
fi
"$top/scripts/guest/modules" cloud "$work/mods" hv_vmbus hv_sock &&
    GUEST_INIT=$top/tests/guests/vsock-init "$top/scripts/guest/initramfs" "$busybox" "$work/initrd.gz" "$busybox" \
        "$work"/mods/*.ko "$work/vsock" || die "packing the initramfs failed"
cat >"$work/vm.ini" <<INI
[vm]
name = vsock
memory = 256M
processors = 2
[boot]
firmware = linux
kernel = $kernel
initrd = $work/initrd.gz
cmdline = console=ttyS0 quiet loglevel=4 panic=-1 VSOCK_BYTES=$bytes
[vdev vsock]
type = hvsocket
path = vs
timeout = 3
INI
mkfifo "$work/in"
exec 8<>"$work/in"

start() {
    "$build/mobo" run --control "$work/ctl" --timeout 200 --no-reboot "$@" "$work/vm.ini" <&8 >>"$log" 2>&1 &
    vm=$!
}

until_line() {
    local i
    for ((i = 0; i < 900; i++)); do
        grep -qE "$1" "$log" && return 0
        kill -0 "$vm" 2>/dev/null || { sleep 0.3; grep -qE "$1" "$log" && return 0; die "the VM ended before '$1'"; }
        sleep 0.1
    done
    die "no '$1' came"
}

step() {    # NAME ARGS...: the host's side connects
    local name=$1 out
    shift
    if out=$(timeout 60 "$work/vsock" "$@" 2>&1); then echo "ok: vsock: from the host: $name"
    else fail "from the host: $name: $out"; fi
}

: >"$log"
start
until_line VSOCK-READY
set -m
"$work/vsock" serve "$work/vs" 2>>"$log" &
server=$!
set +m
step "$bytes bytes to the guest" push "$work/vs" "$bytes"
step "$bytes bytes from the guest" pull "$work/vs" "$bytes"
step '100 connections at the same time' many "$work/vs" 100
step 'a port where the guest does not listen' refused "$work/vs"

# What is no command is refused; the next client is not harmed.
if out=$(timeout 20 "$work/vsock" garbage "$work/vs" 2>&1); then echo "ok: vsock: from the host: wrong commands"
else fail "wrong commands: $out"; fi
step 'an echo' many "$work/vs" 1

# A machine that is saved in the middle of a transfer: its connections end, on both sides.
printf 'save\n' >&8
sleep 0.5
if "$build/mobo" save --control "$work/ctl" "$work/state" >>"$log" 2>&1; then
    wait "$vm"
    start --restore "$work/state"
    printf 'saved\n' >&8
    until_line VSOCK-RESTORED
    if grep -q 'VSOCK-FAIL push vsock 1000013824' "$log"; then echo "ok: vsock: a restored machine has no connections"
    else fail "the transfer of the saved machine did not end in an error"; fi
    step 'an echo in the restored machine' many "$work/vs" 1
else
    fail "mobo save"
fi

printf 'go\n' >&8
until_line 'VSOCK-(OK|FAIL) .*dmesg'
wait "$vm"
st=$?
vm=
[ $st = 0 ] || fail "the VM ended with status $st"
while read -r verdict what; do
    case $verdict in
    VSOCK-OK) echo "ok: vsock: in the guest: $what" ;;
    VSOCK-FAIL) case $what in *1000013824*) ;; *) fail "in the guest: $what" ;; esac ;;
    esac
done < <(tr -d '\r' <"$log" | grep -oE 'VSOCK-(OK|FAIL).*')
[ "$(grep -c VSOCK-OK "$log")" = 6 ] || fail "the guest reports $(grep -c VSOCK-OK "$log") of 6 successes"
[ ! -e "$work/vs" ] || fail "the socket is left behind"
exit $failed
