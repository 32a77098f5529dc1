#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Network block devices: mobo disk against nbdkit (with filters that are narrow, slow or fail) and
# qemu-nbd, and servers that go away or are no servers.  Prints TAP.
set -u
here=${top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
mobo=${MOBO:-${top_builddir:-$here}/mobo}
[ -x "$mobo" ] || { echo "Bail out! there is no $mobo"; exit 1; }
command -v nbdkit > /dev/null || { echo '1..0 # SKIP there is no nbdkit'; exit 0; }
if "$mobo" disk info nbd://localhost:1/ 2>&1 | grep -q 'need a build with libnbd'; then
    echo '1..0 # SKIP built without libnbd'
    exit 0
fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/mobo-nbd.XXXXXX")
servers=()
trap '[ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2> /dev/null; rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1

n=0 failed=0
result() {  # STATUS NAME
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else failed=$((failed + 1)); echo "not ok $n - $2"; fi
}
serve() {   # SOCKET PLUGIN...: an nbdkit on this socket
    nbdkit -f -U "$tmp/$1" "${@:2}" 2>> nbdkit.log &
    servers+=($!)
    for _ in {1..100}; do [ -S "$1" ] && return; sleep 0.1; done
    echo "Bail out! nbdkit does not start: $(tail -1 nbdkit.log)"; exit 1
}
uri() { echo "nbd+unix:///${2-}?socket=$tmp/$1"; }
run() { timeout 60 "$mobo" disk "$@" < /dev/null; }
holds() {   # STATUS TEXT NAME ARGUMENTS: printed lines have this in them
    local want=$1 text=$2 name=$3 out status; shift 3
    out=$(run "$@" 2>&1); status=$?
    [ "$status" = "$want" ] && grep -q -- "$text" <<< "$out"; local r=$?
    result $r "$name"
    [ $r = 0 ] || printf '# status %s: %s\n' "$status" "$out" | head -5
}

# pieces of data of all sizes and alignments between holes
truncate -s 48M disk.raw
for at in 0 1 7 8 63 100 129 2047 4096 8191 30000 98303; do
    head -c $((512 * (at % 37 + 1))) /dev/urandom |
        dd of=disk.raw bs=512 seek=$at conv=notrunc status=none
done
head -c 9M /dev/urandom | dd of=disk.raw bs=1M seek=20 conv=notrunc status=none
truncate -s 48M disk.raw

there_and_back() {  # NAME SOCKET
    run convert --quiet disk.raw "$(uri "$2")" && run convert --quiet "$(uri "$2")" "back-$2" &&
        cmp -s disk.raw "back-$2"
    result $? "$1"
    rm -f "back-$2"
}
serve memory memory 48M
holds 0 '^size       48M (50331648 bytes)$' 'info of an export' info "$(uri memory)"
holds 0 '"format": "raw"' 'info in JSON' info --json "$(uri memory)"
there_and_back 'a disk goes to a server and comes back' memory
run convert --quiet "$(uri memory)" copy.vhdx && run convert --quiet copy.vhdx copy.raw &&
    cmp -s disk.raw copy.raw
result $? 'a VHDX image of an export'
run convert --quiet copy.vhdx "$(uri memory)" && run convert --quiet "$(uri memory)" back.raw &&
    cmp -s disk.raw back.raw
result $? 'a VHDX image onto an export'
holds 1 'takes raw images only' 'another format is refused' convert --format vhdx disk.raw "$(uri memory)"
holds 2 'exports are made by their server' 'an export is not created' create "$(uri memory)" 1G
holds 2 'nothing to check' 'an export is not checked' check "$(uri memory)"

truncate -s 48M file.raw
serve file --filter=log file file.raw logfile="$tmp/log"
there_and_back 'a file behind a server' file
cmp -s disk.raw file.raw; result $? 'the file has it'
grep -q 'Flush' log; result $? 'writes are flushed'
grep -q 'Zero' log; result $? 'zeroes are not sent as data'
sum=0
while read -r count; do sum=$((sum + count)); done < <(grep 'Read id' log | grep -o 'count=0x[0-9a-f]*' | cut -d = -f 2)
[ $sum -gt 9000000 ] && [ $sum -lt 20000000 ]
result $? 'holes are not read'

serve narrow --filter=nozero --filter=noextents --filter=blocksize-policy memory 48M \
    blocksize-minimum=64K blocksize-preferred=64K blocksize-maximum=128K blocksize-error-policy=error
there_and_back 'blocks of 64 KiB, requests of 128 KiB, no zero, no extents' narrow
serve wide --filter=blocksize-policy memory 48M blocksize-minimum=4K blocksize-preferred=4K \
    blocksize-maximum=32M blocksize-error-policy=error
there_and_back 'blocks of 4 KiB' wide
serve slow --filter=delay memory 48M rdelay=20ms wdelay=20ms
there_and_back 'a slow server' slow
serve small memory 1M
holds 1 'has 1M, the disk 48M' 'too small an export' convert disk.raw "$(uri small)"
serve odd memory 1000
holds 0 '(512 bytes)' 'whole sectors only' info "$(uri odd)"
serve none null 0
holds 2 'is empty' 'an empty export' info "$(uri none)"
serve fixed -r memory 48M
holds 0 '^size       48M' 'a read-only export can be read' info "$(uri fixed)"
holds 2 'read-only' 'and not written' convert disk.raw "$(uri fixed)"
serve broken --filter=noextents --filter=error memory 48M error=EIO error-pread-rate=100%
holds 2 'reading at 0: Input/output error' 'read errors' convert --from raw "$(uri broken)" broken.raw
[ ! -e broken.raw ]; result $? 'nothing is left behind'
serve full --filter=error memory 48M error=ENOSPC error-pwrite-rate=100%
holds 2 'No space left' 'a full server' convert disk.raw "$(uri full)"

if nbdkit --dump-config | grep -q '^tls=yes'; then
    echo "me:$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')" > psk
    serve secret --tls=require --tls-psk="$tmp/psk" memory 48M
    secret="nbds+unix://me@/?socket=$tmp/secret&tls-psk-file=$tmp/psk"
    run convert --quiet disk.raw "$secret" && run convert --quiet "$secret" back-secret && cmp -s disk.raw back-secret
    result $? 'TLS with a shared key'
    holds 2 'mobo: nbd+unix' 'and not without' info "$(uri secret)"
else
    echo "ok $((n += 1)) - TLS # SKIP nbdkit has none"
fi

# connections that break again and again, in the middle of what comes after two answers: everything arrives all the same
( serves=0
  until [ -e stop ]; do
      rm -f flaky wire
      nbdkit -f -U "$tmp/flaky" --filter=log --filter=delay file file.raw rdelay=100ms wdelay=100ms logfile="$tmp/wire" &
      until [ -e stop ] || ! kill -0 $! || [ "$(grep -c '\.\.\.\(Write\|Zero\|Trim\) .* return=0' wire)" -ge 2 ]; do sleep 0.05; done
      kill -KILL $!
      wait $!
      serves=$((serves + 1)); echo $serves > serves
  done ) 2> /dev/null &
loop=$!
truncate -s 0 file.raw; truncate -s 48M file.raw
for _ in {1..100}; do run info "$(uri flaky)" > /dev/null 2>&1 && break; sleep 0.1; done
run convert --quiet disk.raw "$(uri flaky)" 2> flaky.log
r=$?
touch stop
wait $loop
serves=$(cat serves)
cmp -s disk.raw file.raw && [ $r = 0 ] && [ "$serves" -ge 3 ]; result $? "a server that is started anew ($serves times, status $r)"
[ $r = 0 ] || sed 's/^/# /' flaky.log | head -5
# a server that comes back without what requests rely on is not taken; the next one, which has it, is
head -c 3M /dev/urandom > small.raw
truncate -s 4M small.raw
anew() {    # SOCKET PLUGIN...: in the place of the last server
    { kill -KILL "${servers[-1]}"; wait "${servers[-1]}"; } 2> /dev/null
    rm -f "$1"; serve "$@"
}
for what in flush FUA trim 'write zeroes'; do
    case $what in
    flush) lacks='can_flush=exit 3' ;;
    FUA) lacks='can_fua=echo none' ;;
    trim) lacks='can_trim=exit 3' ;;
    *) lacks='--filter=nozero' ;;
    esac
    rm -f wire changing
    serve changing --filter=log --filter=delay memory 4M wdelay=500ms logfile="$tmp/wire"
    run convert --quiet small.raw "$(uri changing)" 2> changing.log &
    convert=$!
    for _ in {1..100}; do grep -q '\.\.\.Write .* return=0' wire && break; sleep 0.1; done
    anew changing eval "$lacks" get_size='echo 4M' pread='exit 1' pwrite='exit 1' flush='exit 0' trim='exit 0' zero='exit 0'
    for _ in {1..50}; do grep -q "has no $what any more" changing.log && break; sleep 0.1; done
    anew changing memory 4M
    wait $convert && grep -q "has no $what any more" changing.log
    r=$?
    result $r "a server without $what any more"
    [ $r = 0 ] || sed 's/^/# /' changing.log | head -5
done
serve gone memory 48M
kill -STOP "${servers[-1]}"
start=$SECONDS
holds 2 'no answer in time' 'a server that is silent' info "$(uri gone)"
[ $((SECONDS - start)) -lt 20 ]; result $? 'in time'
kill -CONT "${servers[-1]}"
holds 2 'nbd+unix:///?socket=/nonexistent: .*No such file' 'no server' info 'nbd+unix:///?socket=/nonexistent'
holds 2 'nbd://localhost:1/x: .*refused' 'no server on TCP' info nbd://localhost:1/x

# what answers is no server, or a hostile one
if command -v python3 > /dev/null; then
    python3 - "$tmp" << 'PYTHON' &
import os, socket, struct, sys, threading
tmp = sys.argv[1]
def listen(name, talk):
    s = socket.socket(socket.AF_UNIX)
    s.bind(os.path.join(tmp, name))
    s.listen(8)
    def run():
        while True:
            c, _ = s.accept()
            try:
                talk(c)
            except OSError:
                pass
            c.close()
    threading.Thread(target=run, daemon=True).start()
def need(c, n):
    b = b''
    while len(b) < n:
        d = c.recv(n - len(b))
        if not d:
            raise OSError
        b += d
    return b
def handshake(c, size, info=b''):
    c.sendall(b'NBDMAGICIHAVEOPT' + struct.pack('>H', 3))
    need(c, 4)
    while True:
        _, opt, n = struct.unpack('>QII', need(c, 16))
        need(c, n)
        def reply(kind, data=b''):
            c.sendall(struct.pack('>QIII', 0x3e889045565a9, opt, kind, len(data)) + data)
        if opt != 7:
            reply(0x80000001)
            continue
        reply(3, struct.pack('>HQH', 0, size, 0x1 | 0x4))
        if info:
            reply(3, info)
        reply(1)
        return
def garbage(c):
    c.sendall(os.urandom(65536))
def huge(c):
    handshake(c, 2**64 - 512)
def odd_block(c):
    handshake(c, 2**20, struct.pack('>HIII', 3, 3, 3, 3))
def wrong_handle(c):
    handshake(c, 2**20)
    need(c, 28)
    c.sendall(struct.pack('>IIQ', 0x67446698, 0, 0xdeadbeef) + b'x' * 4096)
def wrong_magic(c):
    handshake(c, 2**20)
    need(c, 28)
    c.sendall(os.urandom(4096))
def bad_error(c):
    handshake(c, 2**20)
    while True:
        r = need(c, 28)
        c.sendall(struct.pack('>II', 0x67446698, 0xffffffff) + r[8:16])
for f in garbage, huge, odd_block, wrong_handle, wrong_magic, bad_error:
    listen('hostile-' + f.__name__, f)
open(os.path.join(tmp, 'listening'), 'w').close()
threading.Event().wait()
PYTHON
    servers+=($!)
    for _ in {1..100}; do [ -e listening ] && break; sleep 0.1; done
    for s in garbage huge odd_block wrong_handle wrong_magic bad_error; do
        start=$SECONDS
        out=$(run convert "$(uri "hostile-$s")" hostile.raw 2>&1); status=$?
        [ $status = 2 ] && [ "$(wc -l <<< "$out")" -le 40 ] && grep -q '^mobo: ' <<< "$out" &&
            [ ! -e hostile.raw ]
        result $? "a hostile server: $s ($((SECONDS - start)) s)"
        [ $status = 2 ] || printf '# status %s: %s\n' "$status" "$out" | head -5
    done
else
    echo "ok $((n += 1)) - hostile servers # SKIP there is no python3"
fi

if command -v qemu-nbd > /dev/null; then
    truncate -s 48M q.raw
    qemu-nbd -f raw -k "$tmp/qemu" -x export -t q.raw &
    servers+=($!)
    for _ in {1..100}; do [ -S qemu ] && break; sleep 0.1; done
    run convert --quiet disk.raw "$(uri qemu export)" && run convert --quiet "$(uri qemu export)" qemu.raw &&
        cmp -s disk.raw qemu.raw && cmp -s disk.raw q.raw
    result $? 'qemu-nbd'
    holds 2 'mobo: nbd+unix:///other?socket=' 'an export that is not there' info "$(uri qemu other)"
else
    echo "ok $((n += 1)) - qemu-nbd # SKIP there is none"
fi
echo "1..$n"
[ $failed = 0 ]
