#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# In the guest of tests/guests/display.sh: draw a pattern, report keys and movements, run a shell on tty1.
for m in /extra/*.ko; do
    insmod "$m" || echo "DISPLAY-FAIL insmod $m"
done
i=0
while [ ! -e /dev/fb0 ] && [ $i -lt 50 ]; do
    sleep 0.1
    i=$((i + 1))
done
size=$(cat /sys/class/graphics/fb0/virtual_size)
stride=$(cat /sys/class/graphics/fb0/stride)
dmesg | grep -E 'Synthvid|frame buffer device' | sed 's/^/DISPLAY-LOG /'
dmesg | grep -E 'ERROR|hv_vmbus: probe failed' | sed 's/^/DISPLAY-FAIL /'

# Line 500: 64 pixels each of red, green, blue, white; bytes B, G, R, x.
colour() { i=0; while [ $i -lt 64 ]; do printf "$1"; i=$((i + 1)); done; }
{
    colour '\000\000\377\000'
    colour '\000\377\000\000'
    colour '\377\000\000\000'
    colour '\377\377\377\000'
} >/tmp/pattern
dd if=/tmp/pattern of=/dev/fb0 bs=1024 seek=$((500 * stride / 1024)) 2>/dev/null
echo "DISPLAY-READY ${size%,*} ${size#*,} $stride"

setsid sh -c 'exec sh </dev/tty1 >/dev/tty1 2>&1' &
mouse=
for d in /sys/class/input/event*; do
    case $(cat "$d/device/name") in
    *Mouse*) mouse=/dev/input/${d##*/} ;;
    esac
done
echo "DISPLAY-MOUSE ${mouse:-none}"
# struct input_event: two longs of time, u16 type, u16 code, s32 value.  ABS_X, ABS_Y, buttons, wheel.
[ -z "$mouse" ] || while e=$(dd bs=24 count=1 2>/dev/null | od -An -v -t u2); do
    set -- $e
    [ $# = 12 ] || break
    echo "DISPLAY-EVENT $9 ${10} ${11} ${12}"
done <"$mouse" &
i=0
while [ ! -e /tmp/done ] && [ $i -lt 300 ]; do
    sleep 0.1
    i=$((i + 1))
    [ ! -e /tmp/typed ] || { echo "DISPLAY-TYPED $(cat /tmp/typed)"; rm /tmp/typed; }
done
echo "DISPLAY-END"
