#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# What the translator shows of its work: --trace jit, --dump jit=, mobo-disasm, --symbols map, dump and gdb, the counters
# of mobo stats.  The guest calls a function in a loop, and changes its code now and then.  Prints TAP.
set -u
build=$(realpath "${top_builddir:-.}")
mobo=${MOBO:-$build/mobo}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/mobo-observe.XXXXXX")
vm=
trap '[ -z "$vm" ] || kill -9 $vm 2>/dev/null; rm -rf "$tmp"' EXIT
if ! "$mobo" engines | awk '$1 == "jit" && $2 == "yes" { ok = 1 } END { exit !ok }'; then
    echo '1..0 # SKIP the translator does not work on this host'
    exit 0
fi
cd "$tmp" || exit 1
# A multiboot header at 1 MB, then at 0x100020
#   mov esp, 0x180000; outer: mov ecx, 200000; again: call f; inc dword [0x200100]; dec ecx; jnz again;
#   inc dword [f + 1]; out 0x80, al; jmp outer; f: mov eax, 1; ret
printf '\x02\xb0\xad\x1b\x00\x00\x01\x00\xfe\x4f\x51\xe4' >kernel
printf '\x00\x00\x10\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x10\x00' >>kernel
printf '\xbc\x00\x00\x18\x00\xb9\x40\x0d\x03\x00\xe8\x13\x00\x00\x00\xff\x05\x00\x01\x20\x00\x49\x75\xf2\xff\x05\x43\x00\x10\x00\xe6\x80\xeb\xe3\xb8\x01\x00\x00\x00\xc3' >>kernel
printf '[vm]\nmemory = 32M\nenlightened = no\nengine = jit\n[boot]\nfirmware = multiboot\nkernel = %s\n' "$tmp/kernel" >vm.ini

n=0 failed=0
result() { # OK-STATUS NAME
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else failed=$((failed + 1)); echo "not ok $n - $2"; fi
}
start() { # ARGUMENTS: run until stop, when some thousand rounds are done
    "$mobo" run --timeout 100 --control "$tmp/ctl" "$@" vm.ini >out 2>err </dev/null &
    vm=$!
    for _ in $(seq 300); do
        drops=$(counter drops-store)
        [ "${drops:-0}" -lt 20 ] || return 0
        kill -0 $vm 2>/dev/null || break
        sleep 0.1
    done
    echo "# the guest does not run:"
    sed 's/^/# /' err | tail -n 5
    return 1
}
stop() {
    kill $vm
    wait $vm 2>/dev/null
    vm=
}
counter() { "$mobo" stats --control "$tmp/ctl" --json 2>/dev/null | sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" | head -n 1; }

start --trace jit --dump jit="$tmp/dump" --symbols map,gdb,dump="$tmp"
result $? 'a guest runs with everything on'
a=$(counter miss-code-page) b=$(counter code-insns) c=$(counter blocks-chained) d=$(counter blocks-warm) e=$(counter by-c-out) f=$(counter code-used) g=$(counter code-size) h=$(counter slot-from-tlb)
[ "$a" -gt 0 ] && [ "$b" -gt 10 ] && [ "$c" -gt 2 ] && [ "$d" -gt 0 ] && [ "$e" -gt 10 ] && [ "$f" -gt 1000 ] && [ "$g" -ge "$f" ] && [ "$h" -gt 0 ]
result $? "counters: miss-code-page $a, code-insns $b, blocks-chained $c, blocks-warm $d, by-c-out $e, code-used $f of $g, slot-from-tlb $h"
sleep 0.3
b2=$(counter code-insns) e2=$(counter by-c-out)
[ "$b2" -gt "$b" ] && [ "$e2" -gt "$e" ]
result $? 'counters move'
"$mobo" stats --control "$tmp/ctl" 2>&1 | grep -q '^jit: drops-store  *[1-9]'
result $? 'mobo stats shows them'

grep -q 'guest_k32_100042$' /tmp/perf-$vm.map && grep -q '^[0-9a-f]* [0-9a-f]* mobo_thunks$' /tmp/perf-$vm.map
result $? 'the map for perf names the function'
[ "$(od -An -tx4 -N4 jit-$vm.dump | tr -d ' ')" = 4a695444 ] && grep -qa 'guest_k32_100042' jit-$vm.dump
result $? 'the dump for perf inject has it'
if command -v gdb >/dev/null; then
    # Stop wherever it is, some times: soon that is in a block.
    for try in 1 2 3 4 5; do
        timeout 60 gdb -p $vm -batch -nx -ex 'set pagination off' -ex 'set debuginfod enabled off' -ex 'thread apply all backtrace 8' >gdb.out 2>&1
        ! grep -q 'ptrace: Operation not permitted' gdb.out || break
        ! grep -q '#0 .* in guest_k32_1000[24]' gdb.out || break
    done
    if grep -q 'ptrace: Operation not permitted' gdb.out; then
        n=$((n + 2)); echo "ok $((n - 1)) - gdb # SKIP may not attach"; echo "ok $n - gdb # SKIP"
    else
        grep -q '#0 .* in guest_k32_1000[24]' gdb.out
        result $? "gdb names the block that runs (attempt $try)"
        grep -A 3 'in guest_k32_1000' gdb.out | grep -q '#1 .* in jit_run '
        r=$?
        result $r 'and finds the C function that entered the code'
        [ $r = 0 ] || sed 's/^/# /' gdb.out | tail -n 30
    fi
else
    n=$((n + 2)); echo "ok $((n - 1)) - gdb # SKIP not installed"; echo "ok $n - gdb # SKIP not installed"
fi
rm -f /tmp/perf-$vm.map
stop
for what in 'made 0x100042 ram 0x[0-9a-f]* k32 cold, 6 bytes, 2 instructions, [0-9]* bytes of host code at 0x[0-9a-f]*, [0-9]* ns' \
    'chained 0x1000[0-9a-f]* to 0x100042' 'dropped 0x100042 ram 0x[0-9a-f]* by a store' \
    'dropped 0x[0-9a-f]* ram 0x[0-9a-f]* to be made again' 'reset of the cache: start'; do
    grep -q "^mobo: jit: trace: vp 0: $what\$" err
    result $? "trace: $what"
done
grep -q '^block [0-9]* vp 0 rip 0x100042 ' dump && grep -q '^  guest 0x100047 c3 ; ret ' dump && grep -q '^  host 0x[0-9a-f]* [0-9a-f ]*$' dump
result $? 'the dump has guest and host code'
if [ -x "$build/mobo-disasm" ]; then
    "$build/mobo-disasm" dump >dis && grep -q '^      100047: ret' dis && grep -q '^      10002a: call 0x0*100042' dis && grep -q '^      4[0-9a-f]*: jmp ' dis
    result $? 'mobo-disasm puts it in words'
else
    n=$((n + 1)); echo "ok $n - mobo-disasm # SKIP built without Zydis"
fi

start --dump jit="$tmp/part:100042-100043" --symbols map
if command -v perf >/dev/null && timeout 60 perf record -q -e cpu-clock -F 400 -o perf.data -p $vm -- sleep 1 >perf.out 2>&1; then
    timeout 60 perf report -i perf.data --stdio --sort symbol >perf.out 2>perf.err
    grep -q 'guest_k32_1000[24]' perf.out
    r=$?
    result $r 'perf report names blocks'
    [ $r = 0 ] || sed 's/^/# /' perf.out perf.err | head -n 30
else
    n=$((n + 1)); echo "ok $n - perf # SKIP cannot record here"
fi
rm -f /tmp/perf-$vm.map
stop
grep -q 'rip 0x100042 ' dump2 2>/dev/null || mv "$tmp/part" dump2
grep -q 'rip 0x100042 ' dump2 && [ "$(grep -c '^block' dump2)" = "$(grep -c '^block .* rip 0x100042 ' dump2)" ] && ! grep -q trace err
result $? 'a dump of some addresses has these only, and nothing is traced unasked'
for bad in '--symbols map,map' '--symbols x' '--symbols dump=' '--symbols map,' '--dump jit=/no/folder/x' '--dump jit=x:2-1' '--dump x' '--engine interp --trace jit'; do
    timeout 20 "$mobo" run --timeout 5 $bad vm.ini >out 2>err </dev/null
    s=$?
    { [ $s = 1 ] || [ $s = 2 ]; } && [ "$(wc -l <err)" = 1 ]
    r=$?
    result $r "refused in one line: $bad"
    [ $r = 0 ] || sed 's/^/# /' err
done
echo "1..$n"
[ $failed = 0 ]
