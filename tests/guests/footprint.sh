#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# How much memory the program takes beyond the guest's: after a boot to the shell, one processor, 512 MB.  What the
# translator keeps of its code counts in each view where it is resident.
# Usage: tests/guests/footprint.sh BUILDDIR
# Prints "ok: ..." or "not ok: ..." lines.  Log: BUILDDIR/guests/footprint.log.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:?usage: tests/guests/footprint.sh BUILDDIR}")
limit=40  # MB
log=$build/guests/footprint.log
skip() { echo "skip: footprint: $*"; exit 0; }
mkdir -p "$build/guests"
"$build/mobo" engines | awk '$1 == "jit" && $2 == "yes" { ok = 1 } END { exit !ok }' ||
    skip 'the translator does not work on this host'
! ldd "$build/mobo" | grep -q 'lib[at]san' || skip 'sanitizers need memory of their own'
{ kernel=$("$top/scripts/guest/fetch" kernel amd64) && busybox=$("$top/scripts/guest/fetch" busybox amd64); } ||
    skip 'the kernel or busybox package cannot be downloaded'
work=$(mktemp -d "${TMPDIR:-/tmp}/mobo-footprint.XXXXXX")
vm=''
trap '[ -z "$vm" ] || kill $vm 2>/dev/null; rm -rf "$work"' EXIT
"$top/scripts/guest/initramfs" "$busybox" "$work/initrd" || { echo 'not ok: footprint: packing the initramfs failed'; exit 1; }
mkfifo "$work/stdin"
"$build/mobo" run "$top/conf/linux.ini" --set boot.kernel="$kernel" --set boot.initrd="$work/initrd" \
    --set vm.memory=512M --set vm.processors=1 --set vm.engine=jit --timeout 200 <"$work/stdin" >"$log" 2>&1 &
vm=$!
exec 3>"$work/stdin"
for _ in {1..180}; do
    if grep -q 'list of built-in commands' "$log"; then break; fi
    kill -0 $vm 2>/dev/null || break
    sleep 1
done
grep -q 'list of built-in commands' "$log" || { echo "not ok: footprint: the guest did not come to its shell, see $log"; exit 1; }
sleep 2
kb=$(awk '/^Rss(Anon|File):/ { kb += $2 } END { print kb + 0 }' /proc/$vm/status)
jit=$(awk '/^[0-9a-f]+-[0-9a-f]+ / { on = /memfd:mobo-jit/ } on && /^Rss:/ { kb += $2 } END { print kb + 0 }' /proc/$vm/smaps)
echo "anonymous memory and files $kb KB, code $jit KB" >>"$log"
if [ "$jit" -gt 0 ] && [ $((kb + jit)) -lt $((limit * 1024)) ]; then
    echo "ok: footprint: $(((kb + jit + 1023) / 1024)) MB beyond the guest's, less than $limit"
else
    echo "not ok: footprint: $(((kb + jit + 1023) / 1024)) MB beyond the guest's (code: $jit KB), see $log"
    exit 1
fi
