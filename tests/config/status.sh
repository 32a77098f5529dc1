#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# How a VM ends and what `mobo run` says then: guests of a few instructions, each a flat multiboot
# kernel.  Prints TAP.
set -u
here=${top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
mobo=${MOBO:-${top_builddir:-$here}/mobo}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/mobo-status.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
[ -x "$mobo" ] || { echo "Bail out! there is no $mobo"; exit 1; }
cd "$tmp" || exit 1

# kernel FILE BYTES: the multiboot header (Multiboot Specification 3.1) at 1 MiB, the code at +0x20.
kernel() {
    printf '\x02\xb0\xad\x1b\x00\x00\x01\x00\xfe\x4f\x51\xe4' > "$1"
    printf '\x00\x00\x10\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x10\x00' >> "$1"
    printf "$2" >> "$1"
}
kernel spin '\xeb\xfe'                                           # jmp $
kernel halt '\xfa\xf4\xeb\xfd'                                   # cli; hlt; jmp hlt
kernel exit21 '\xb0\x15\xe6\xf4\xeb\xfe'                         # out 0xf4, 0x15
kernel fault '\x0f\x0b'                                          # ud2 without an IDT
kernel reset '\xba\xf9\x0c\x00\x00\xb0\x06\xee\xeb\xfe'          # out 0xcf9, 6
kernel hello '\xba\xf8\x03\x00\x00\xb0\x48\xee\xb0\x69\xee\xb0\x0a\xee\xb0\x01\xe6\xf4\xeb\xfe'
# wait for a byte (LSR bit 0), send it back plus 1, exit
kernel echo '\x66\xba\xfd\x03\xec\xa8\x01\x74\xfb\x66\xba\xf8\x03\xec\x40\xee\xb0\x02\xe6\xf4\xeb\xfe'
kernel poweroff '\x66\xba\x04\x06\x66\xb8\x00\x20\x66\xef\xeb\xfe' # PM1 control: S5
# a word counts the starts: the first two reset, the third exits; RAM is kept over a reset
kernel twice '\xff\x05\x00\x00\x20\x00\x83\x3d\x00\x00\x20\x00\x03\x73\x0a\xba\xf9\x0c\x00\x00\xb0\x06\xee\xeb\xfe\xa0\x00\x00\x20\x00\xe6\xf4\xeb\xfe'
# crash MSRs P0 = 0x51, P3 = address and P4 = length of a message behind the code, then notify with the message
kernel crash '\xb9\x00\x01\x00\x40\x31\xd2\xb8\x51\x00\x00\x00\x0f\x30\xb9\x03\x01\x00\x40\xb8\x5c\x00\x10\x00\x0f\x30\x41\xb8\x04\x00\x00\x00\x0f\x30\x41\x31\xc0\xba\x00\x00\x00\xc0\x0f\x30\xeb\xfe\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90BOOM'
# the reset MSR: wrmsr 0x40000003, 1
kernel msrreset '\xb9\x03\x00\x00\x40\x31\xd2\xb8\x01\x00\x00\x00\x0f\x30\xeb\xfe'
cat > vm.ini <<'END'
[vm]
memory = 32M
enlightened = no
[boot]
firmware = multiboot
[vdev exit]
type = debug-exit
END

n=0 failed=0
result() {  # OK-STATUS NAME
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else failed=$((failed + 1)); echo "not ok $n - $2"; fi
}
run() {     # KERNEL ARGUMENTS
    local k=$1; shift
    timeout 60 "$mobo" run --set boot.kernel="$tmp/$k" "$@" vm.ini > out 2> err
    status=$?
}
expect() {  # STATUS NAME
    [ "$status" = "$1" ]; local r=$?
    result $r "$2"
    if [ $r != 0 ]; then echo "# status $status, not $1"; sed 's/^/# /' err; fi
}

echo "1..20"
run exit21 < /dev/null;                  expect 43 'debug-exit gives (V << 1) | 1'
run fault < /dev/null;                   expect 3 'a triple fault gives 3'
grep -qi 'triple fault' err;             result $? 'a triple fault says so'
grep -qi 'rip' err;                      result $? 'a triple fault shows the registers'
run crash --set vm.enlightened=yes --timeout 20 < /dev/null; expect 3 'a crash by the Hyper-V MSRs gives 3'
grep -q 'the guest crashed: BOOM (parameters 0x51 ' err; result $? 'a crash shows message and parameters'
run msrreset --set vm.enlightened=yes --no-reboot --timeout 20 < /dev/null; expect 4 'the reset MSR resets'
run crash --set vm.enlightened=yes --set enlightenments.crash=no < /dev/null
grep -q 'riple fault' err;               result $? 'without its enlightenment the MSR is not there'
run spin --timeout 0.5 < /dev/null;      expect 124 'a timeout gives 124'
run halt --timeout 0.5 < /dev/null;      expect 124 'a timeout of a halted guest gives 124'
run reset --no-reboot < /dev/null;       expect 4 'a reset with --no-reboot gives 4'
run reset --timeout 1 < /dev/null;       expect 124 'a reset starts the guest again'
run twice --timeout 20 < /dev/null
expect 7 'three starts through two resets, memory kept'
run poweroff --timeout 20 < /dev/null;   expect 0 'a power-off gives 0'
run hello < /dev/null;                   expect 3 'a guest that prints'
[ "$(cat out)" = Hi ];                   result $? 'the serial port is standard output'
echo -n A | run echo --timeout 10;       # in a subshell: look at the output only
[ "$(cat out)" = B ];                    result $? 'standard input is the serial port'
run halt --set vm.processors=3 --timeout 0.5 < /dev/null; expect 124 'three processors'
timeout 30 "$mobo" run --set boot.kernel="$tmp/spin" vm.ini > out 2> err < /dev/null & pid=$!
sleep 0.7; kill -TERM $!
# the signal goes to timeout(1), which passes it on and answers for it
wait $pid; s=$?; [ $s = 143 ] || [ $s = 124 ]; result $? 'SIGTERM ends the VM'
[ -z "$(jobs -r)" ];                     result $? 'nothing is left running'
[ "$failed" = 0 ]
