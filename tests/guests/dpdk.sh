#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# A second VMBus client that shares no code with the Linux drivers: DPDK's, in the guest's user space.  It has its own
# rings, its own NVSP and RNDIS, signals by the monitor page, and answers ARP and ICMP here.
# Usage: tests/guests/dpdk.sh BUILDDIR      Prints "ok: ..." or "not ok: ..." lines.  Log: BUILDDIR/guests/dpdk.log.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:?usage: tests/guests/dpdk.sh BUILDDIR}")
mkdir -p "$build/guests"
packages=(=libdpdk-dev =libbsd-dev librte-net-netvsc23 librte-mempool-ring23)
if ! kernel=$("$top/scripts/guest/fetch" kernel cloud) || ! busybox=$("$top/scripts/guest/fetch" busybox amd64) ||
    ! tree=$("$top/scripts/guest/fetch" tree dpdk "${packages[@]}"); then
    echo "skip: dpdk: the kernel, busybox or DPDK packages cannot be downloaded"
    exit 0
fi
work=$(mktemp -d "$build/guests/dpdk.XXXXXX")
log=$build/guests/dpdk.log
vm=''
trap '[ -z "$vm" ] || kill -9 "$vm" 2>/dev/null; rm -rf "$work"' EXIT
failed=0
fail() { echo "not ok: dpdk: $*"; failed=1; }
die() {
    fail "$*"
    tail -n 5 "$log" | tr -d '\r' | sed 's/^/    /'
    exit 1
}
"$top/scripts/guest/modules" cloud "$work/mods" hv_vmbus uio_hv_generic &&
    GUEST_INIT=$top/tests/guests/dpdk-init "$top/scripts/guest/initramfs" "$busybox" "$work/base.gz" "$busybox" \
        "$work"/mods/*.ko || die 'packing the initramfs failed'
# A second archive: the program with the libraries that it names, and three drivers.
libs=$tree/usr/lib/x86_64-linux-gnu
drivers=$libs/dpdk/pmds-23.0
mkdir -p "$work/root/dpdk/lib"
if ! ${CC:-cc} -O2 -march=corei7 -o "$work/root/dpdk/echo" -I"$tree/usr/include/dpdk" \
    -I"$tree/usr/include/x86_64-linux-gnu/dpdk" -idirafter "$tree/usr/include" "$top/tests/guests/dpdk-echo.c" -Wl,--allow-shlib-undefined \
    "$libs"/librte_{eal,ethdev,mbuf,mempool,ring}.so.23 2>"$work/cc"; then
    echo "skip: dpdk: its program cannot be built: $(head -n 1 "$work/cc")"
    exit 0
fi
cp -L "$libs/ld-linux-x86-64.so.2" "$work/root/dpdk/ld.so"
for f in "$work/root/dpdk/echo" "$drivers"/librte_{mempool_ring,net_netvsc}.so.23; do
    echo "x => $f"
    "$libs/ld-linux-x86-64.so.2" --library-path "$libs:$drivers" --list "$f"
done | awk '$2 == "=>" && $3 ~ "^/" { print $3 }' | sort -u | xargs -r cp -L -t "$work/root/dpdk/lib" || die 'libraries'
{ cat "$work/base.gz"; (cd "$work/root" && find . | cpio -o -H newc --quiet -R 0:0 | gzip -1); } >"$work/initrd"
cat >"$work/vm.ini" <<INI
[vm]
name = dpdk
memory = 640M
processors = 2
[boot]
firmware = linux
kernel = $kernel
initrd = initrd
cmdline = console=ttyS0 quiet loglevel=4 panic=-1 hugepages=96
[vdev net0]
type = netvsp
backend = switch:net
mac = 02:00:00:00:00:11
monitored = yes
INI
mkfifo "$work/in"
exec 8<>"$work/in"
: >"$log"
"$build/mobo" run --control "$work/ctl" --timeout 150 --no-reboot "$work/vm.ini" <&8 >>"$log" 2>&1 &
vm=$!
for ((i = 0; i < 600; i++)); do
    grep -qE 'DPDK-(READY|FAIL|END)' "$log" && break
    kill -0 "$vm" 2>/dev/null || die 'the VM ended'
    sleep 0.1
done
grep -q DPDK-READY "$log" || die 'DPDK does not start'
if grep -q 'DPDK-READY 02:00:00:00:00:11' "$log"; then echo 'ok: dpdk: its driver finds the adapter and its address'
else fail "its driver does not say the adapter's address"; fi
# The host is another station of the switch.
out=$(timeout 60 perl "$top/tests/guests/dpdk-peer" "$work/net" 02:00:00:00:00:11 2>&1)
st=$?
if [ $st = 0 ]; then echo "ok: dpdk: $out"
else fail "$out; $("$top/scripts/guest/control" "$work/ctl" inspect '{"device":"net0"}')"; fi
printf '\n' >&8
for ((i = 0; i < 200; i++)); do
    kill -0 "$vm" 2>/dev/null || break
    sleep 0.1
done
kill -0 "$vm" 2>/dev/null && die 'DPDK does not end'
wait "$vm"
st=$?
vm=''
rx=$(tr -d '\r' <"$log" | sed -n 's/.*DPDK-COUNT \([0-9]*\).*/\1/p')
if [ $st = 0 ] && grep -q 'DPDK-END 0' "$log" && [ "${rx:-0}" -ge 2001 ] && ! grep -q DPDK-FAIL "$log"; then
    echo "ok: dpdk: it counted $rx packets and let go of the adapter"
else
    fail "status $st, ${rx:-no} packets; $(grep -a -E 'DPDK-|EAL: Err' "$log" | tail -n 1 | tr -d '\r')"
fi
exit $failed
