#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# A real Debian on synthetic devices only: boot from VHDX over storvsc, ssh over netvsc, the daemons of
# hyperv-daemons, shutdown and reboot from the host, clock, balloon.
# Usage: tests/guests/debian.sh BUILDDIR IMAGEDIR [PROCESSORS...]      (IMAGEDIR: scripts/guest/debian-image)
# The disk is a differencing image that is thrown away: IMAGEDIR stays as it is.
# Prints "ok: ..." or "not ok: ..." lines; logs: BUILDDIR/guests/debian-N*.  MOBO_ENGINE chooses the engine,
# LIFECYCLE the number of times that the network driver is loaded again (default 10).
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${1:?usage: debian.sh BUILDDIR IMAGEDIR [PROCESSORS...]}")
image=$(realpath "${2:?usage: debian.sh BUILDDIR IMAGEDIR [PROCESSORS...]}")
shift 2
[ $# -gt 0 ] || set -- 2
mkdir -p "$build/guests"
work=$(mktemp -d "${TMPDIR:-/tmp}/mobo-debian.XXXXXX")
status=0 pid=''
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT

ok() { printf 'ok: debian %s: %s\n' "$vps" "$*"; }
bad() { printf 'not ok: debian %s: %s\n' "$vps" "$*"; status=1; }
check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@"; then ok "$name"; else bad "$name"; fi
}
ctl() { "$top/scripts/guest/control" "$work/ctl" "$@"; }
guest() {
    timeout "${T:-60}" ssh -q -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o ConnectTimeout=10 -o ServerAliveInterval=5 -i "$work/key" -p "$port" root@127.0.0.1 "$@"
}
# Try until it works.
eventually() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.5
    done
}
command_of() { # DEVICE COMMAND [ARGUMENT]
    ctl command "{\"device\":\"$1\",\"command\":\"$2\",\"argument\":\"${3-}\"}" >/dev/null
}
shows() { ctl inspect "{\"device\":\"$1\"}" | grep -q -F -- "$2"; }
kvp_address() { command_of kvp refresh && sleep 1 && shows kvp '"NetworkAddressIPv4":"10.0.2.15"'; }
clocks_agree() {
    local host guest
    guest=$(guest date +%s.%N) || return 1
    host=$(date +%s.%N)
    awk -v a="$host" -v b="$guest" 'BEGIN { d = a - b; exit !(d < 3 && d > -3) }'
}
last_kvp_has() { ctl inspect '{"device":"kvp"}' | grep -q "\"last_command\":\"get-ip.*$1"; }
longer() { [ "$(stat -c %s "$1")" -gt "$2" ]; }
ended() { ! kill -0 "$pid" 2>/dev/null; }
boot_id() { guest cat /proc/sys/kernel/random/boot_id; }
other_boot() { local id; id=$(boot_id) && [ "$id" != "$1" ]; }

start() {
    local log=$build/guests/debian-$vps
    port=$((20000 + RANDOM % 10000))
    "$build/mobo" run "$top/conf/debian.ini" --set "boot.kernel=$image/vmlinuz" --set "boot.initrd=$image/initrd.img" \
        --set "disk0.image=$work/disk.vhdx" --set "net0.hostfwd=tcp:$port-:22" --set "vm.processors=$vps" \
        --set "com1.backend=file:$log.log" ${MOBO_ENGINE:+--engine "$MOBO_ENGINE"} \
        --control "$work/ctl" --timeout $((400 + ${LIFECYCLE:-10} * 10)) >"$log.out" 2>&1 </dev/null &
    pid=$!
    eventually "${BOOT_LIMIT:-150}" ssh_or_end
    ! ended && return 0
    tail -n 5 "$log.out"
    return 1
}
ssh_or_end() { ended || T=12 guest true; }

cp "$image/id_ed25519" "$work/key"
chmod 600 "$work/key"
for vps in "$@"; do
    rm -f "$work/disk.vhdx"
    "$build/mobo" disk create --parent "$image/debian.vhdx" "$work/disk.vhdx" >/dev/null || exit 2
    if ! start; then
        bad 'boots to ssh'
        continue
    fi
    ok "boots to ssh: $(guest 'cut -d " " -f 1 /proc/uptime') s of guest time"
    check 'root is on storvsc' guest 'test "$(basename "$(readlink /sys/block/sda/device/../../../driver)")" = hv_storvsc ||
        readlink -f /sys/block/sda | grep -q VMBUS' 2>/dev/null
    check 'clock source is the TSC page' guest \
        'grep -q hyperv_clocksource_tsc_page /sys/devices/system/clocksource/clocksource0/current_clocksource'
    check 'VMBus 5.3' guest 'dmesg | grep -q "Vmbus version:5.3"'
    eventually 60 guest 'test "$(systemctl is-system-running)" = running'
    check 'systemd: no failed unit' guest 'test "$(systemctl is-system-running)" = running'
    check 'every device has its driver' guest \
        'for d in /sys/bus/vmbus/devices/*; do [ -e $d/driver ] || { echo no driver: $d; exit 1; }; done'

    # Key-value pairs, both ways.
    # The address may have come after the pools were read.
    check 'kvp: what the guest tells' eventually 60 kvp_address
    command_of kvp set 'external color blue' && command_of kvp refresh
    check 'kvp: the guest gets a value' eventually 20 guest 'grep -q -a color /var/lib/hyperv/.kvp_pool_0'
    command_of kvp get 'external color'
    check 'kvp: and gives it back' eventually 10 shows kvp 'blue'
    # The guest's own pool is a file of records: a key of 512 bytes, a value of 2048.
    guest '{ printf shape; head -c 507 /dev/zero; printf round; head -c 2043 /dev/zero; } >>/var/lib/hyperv/.kvp_pool_1'
    command_of kvp refresh
    check 'kvp: the host gets a value' eventually 20 shows kvp '"shape":"round"'
    command_of kvp get-ip "$(guest 'cat /sys/class/net/eth0/address' | tr a-f A-F)"
    check 'kvp: the address of the adapter' eventually 20 last_kvp_has '10\.0\.2\.15'

    # A file crosses.
    head -c 3000000 /dev/urandom >"$work/file"
    command_of fcopy copy "$work/file /root/from-host overwrite"
    eventually 60 shows fcopy '"files":1'
    check 'fcopy: 3 MB arrive whole' guest "echo '$(sha256sum <"$work/file" | cut -d ' ' -f 1)  /root/from-host' | sha256sum -c --status"

    # Backup: frozen file systems let no write through until they are thawed.
    T=200 guest 'while :; do date >/root/beat; sync /root/beat; echo x; sleep 0.1; done' >"$work/beats" 2>/dev/null &
    beat=$!
    eventually 20 test -s "$work/beats"
    command_of vss freeze
    check 'vss: frozen' eventually 20 shows vss '"file_systems":"frozen"'
    sleep 1
    beats=$(stat -c %s "$work/beats")
    sleep 2
    check 'vss: nothing is written then' test "$(stat -c %s "$work/beats")" = "$beats"
    command_of vss thaw
    check 'vss: thawed' eventually 20 shows vss '"file_systems":"thawed"'
    check 'vss: writes go on' eventually 20 longer "$work/beats" "$beats"
    kill $beat
    wait $beat 2>/dev/null

    # A pause, then the right time again.
    ctl pause >/dev/null
    sleep 5
    ctl resume >/dev/null
    check 'timesync: right time after a pause' eventually 20 clocks_agree

    # Memory taken and given back.
    before=$(guest awk "'/MemFree/ { print \$2 }'" /proc/meminfo)
    check 'balloon: the guest reports' eventually 60 shows balloon '"guest_available":'
    command_of balloon take 128M
    check 'balloon: takes 128 MB' eventually 30 shows balloon '"ballooned":134217728'
    during=$(guest awk "'/MemFree/ { print \$2 }'" /proc/meminfo)
    check "balloon: less is free in the guest" test "$((before - during))" -gt 90000
    command_of balloon give
    check 'balloon: gives it back' eventually 30 shows balloon '"ballooned":0'

    check 'ssh: 20 MB to the guest and back' bash -c "head -c 20000000 /dev/zero | tr '\\0' 'm' >$work/big; $(declare -f guest); work=$work port=$port
        guest 'cat >/tmp/big' <$work/big && guest 'cat /tmp/big' | cmp - $work/big"
    # Sub-channels, and channels on other processors.
    if [ "$vps" -ge 2 ]; then
        T=200 guest 'sh -s' <"$top/tests/guests/channels" >"$work/channels" 2>&1
        while IFS= read -r line; do
            case $line in
            'ok: '*) ok "${line#ok: }" ;;
            *) bad "channels: ${line#not ok: }" ;;
            esac
        done < <(grep -v '^end$' "$work/channels")
        tail -n 1 "$work/channels" | grep -q '^end$' || bad 'channels: no end'
    fi
    if guest 'dmesg | grep -E -i "hv_[a-z]*: .*(error|fail|invalid|unable)|BUG:|WARNING:|Call Trace"'; then
        bad 'the kernel has no complaint'
    else
        ok 'the kernel has no complaint'
    fi

    # Drivers leave and come back; the guest does it by itself, as the network is among them.
    guest 'cat >/root/lifecycle' <"$top/tests/guests/lifecycle"
    guest "systemd-run -q --no-block --unit=lifecycle sh -c 'sh /root/lifecycle ${LIFECYCLE:-10} >/root/lifecycle.out 2>&1'"
    if T=20 eventually $((100 + ${LIFECYCLE:-10} * 8)) guest 'grep -q ^end /root/lifecycle.out'; then
        while IFS= read -r line; do
            case $line in
            'ok: '*) ok "${line#ok: }" ;;
            'not ok: '*) bad "${line#not ok: }" ;;
            esac
        done < <(guest cat /root/lifecycle.out)
    else
        bad 'drivers leave and come back: no end'
        tail -n 5 "$build/guests/debian-$vps.log"
    fi

    # Another kernel from within: it finds VMBus as the first one left it.
    id=$(boot_id)
    guest 'kexec -l /boot/vmlinuz-* --initrd="$(ls /boot/initrd.img-*)" --reuse-cmdline && systemctl --no-block kexec'
    check 'kexec into the same kernel' eventually 120 other_boot "$id"
    check 'kexec: disk and devices are there' guest 'for d in /sys/bus/vmbus/devices/*; do
        [ -e $d/driver ] || udevadm settle; [ -e $d/driver ] || exit 1; done; sync && test -s /root/lifecycle.out'

    id=$(boot_id)
    ctl shutdown '{"reboot":true}' >/dev/null
    check 'reboot from the host' eventually 120 other_boot "$id"
    ctl shutdown >/dev/null
    if eventually 60 ended; then
        wait "$pid"
        code=$?
        pid=''
        check "shutdown from the host: status $code" test $code = 0
    else
        bad 'shutdown from the host'
        kill "$pid"
        wait "$pid"
        pid=''
    fi
    check 'the disk is whole' eval '"$build/mobo" disk check "$work/disk.vhdx" >/dev/null'
done
exit $status
