#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The screen, the keyboard and the mouse of a guest: the stock kernel with hyperv_drm draws, `mobo screenshot`
# has the very pixels, what `mobo type` types reaches a shell on tty1, and what `mobo pointer` does reaches
# the guest's input layer.
# Usage: tests/guests/display.sh BUILDDIR       Prints "ok ..." or "not ok ..." lines.  Logs: BUILDDIR/guests/.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:?usage: tests/guests/display.sh BUILDDIR}")
dir=$build/guests
log=$dir/display.log
mkdir -p "$dir"
failed=0
ok() { echo "ok: display: $1"; }
bad() {
    echo "not ok: display: $1"
    failed=1
}

if ! grep -q '^#define HAVE_LIBPNG 1' "$build/config.h"; then
    echo "skip: display: built without libpng"
    exit 0
fi
if ! kernel=$("$top/scripts/guest/fetch" kernel amd64) ||
    ! busybox=$("$top/scripts/guest/fetch" busybox amd64) ||
    ! "$top/scripts/guest/modules" amd64 "$dir/display-modules" hv_vmbus hyperv_drm hyperv_keyboard \
        hid_hyperv evdev; then
    echo "skip: display: the kernel, its modules or busybox cannot be downloaded"
    exit 0
fi
make -s -C "$build" tests/display/png_pixel >"$dir/display-make.log" 2>&1 || { bad "png_pixel does not build"; exit 1; }
"$top/scripts/guest/initramfs" "$busybox" "$dir/display.gz" "$top/tests/guests/display-init.sh" \
    "$dir"/display-modules/*.ko || { bad "packing the initramfs"; exit 1; }

tmp=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null; rm -rf "$tmp"' EXIT
: >"$log"
"$build/mobo" run "$top/conf/linux.ini" --set "boot.kernel=$kernel" --set "boot.initrd=$dir/display.gz" \
    --set 'boot.cmdline=console=ttyS0 MOBO_MODE=bench' --control "$tmp/vm" --timeout 120 --no-reboot \
    </dev/null >"$log" 2>"$log.err" &
pid=$!

# Wait for a line of the guest, up to 60 s or to its end.
await() {
    local i
    for ((i = 0; i < 600; i++)); do
        line=$(tr -d '\r' <"$log" | grep -m 1 -E "^DISPLAY-$1") && return 0
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

if await READY; then
    read -r _ width height stride <<<"$line"
    ok "a frame buffer of ${width}x$height"
    # the guest's fbdev emulation draws some time after the write
    want="$width $height ff0000 00ff00 0000ff ffffff"
    for ((i = 0; i < 50; i++)); do
        "$build/mobo" screenshot "$tmp/vm" "$dir/display.png" &&
            has=$("$build/tests/display/png_pixel" "$dir/display.png" 10 500 70 500 180 500 255 500)
        [ "$has" = "$want" ] && break
        sleep 0.1
    done
    [ "$has" = "$want" ] && ok "the screenshot has the pattern" || bad "the screenshot has $has, not $want"
    # the pixel after the pattern, and the lines around it, are the console's
    has=$("$build/tests/display/png_pixel" "$dir/display.png" 256 500 10 499 10 501)
    [ "$has" = "$width $height 000000 000000 000000" ] && ok "and nothing else" || bad "around the pattern: $has"
    await MOUSE
    "$build/mobo" type --enter "$tmp/vm" 'A=~!@#$%^_+; echo "[$A]" $((6*7)) "<{|}>?" >/tmp/typed' ||
        bad "mobo type"
    await TYPED && [ "$line" = 'DISPLAY-TYPED [~!@#$%^_+] 42 <{|}>?' ] && ok "typed text arrives on tty1" ||
        bad "typed text: '$line'"
    "$build/mobo" pointer --click left "$tmp/vm" 512 300 || bad "mobo pointer"
    "$build/mobo" pointer --wheel -1 "$tmp/vm" || bad "mobo pointer --wheel"
    # (2 * 512 + 1) * 32768 / 2048, (2 * 300 + 1) * 32768 / 1536; EV_ABS, EV_KEY, EV_REL
    for e in '3 0 16400 0' '3 1 12821 0' '1 272 1 0' '1 272 0 0' '2 8 65535 65535'; do
        await "EVENT $e\$" && ok "mouse event $e" || bad "no mouse event $e"
    done
    "$build/mobo" pointer "$tmp/vm" 5000 1 2>/dev/null && bad "a pixel outside is taken"
    "$build/mobo" type --enter "$tmp/vm" 'echo >/tmp/done' || bad "mobo type"
    await END && ok "all of it" || bad "the guest did not end"
else
    bad "no frame buffer"
fi
line=$(grep -m 1 'DISPLAY-FAIL' "$log") && bad "$line"
if [ $failed = 0 ]; then
    wait "$pid"
    status=$?
    [ $status = 0 ] && ok "power-off" || bad "status $status"
fi
[ $failed = 0 ] || { tail -n 5 "$log.err"; tail -n 12 "$log"; } | sed 's/^/    | /'
exit $failed
