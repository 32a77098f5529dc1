#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# mobo disk: usage errors in one line, exit statuses, JSON, what is left behind.  Prints TAP.
set -u
here=${top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
mobo=${MOBO:-${top_builddir:-$here}/mobo}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/mobo-disk.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
[ -x "$mobo" ] || { echo "Bail out! there is no $mobo"; exit 1; }
cd "$tmp" || exit 1

n=0 failed=0
result() {  # STATUS NAME
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else failed=$((failed + 1)); echo "not ok $n - $2"; fi
}
says() {    # STATUS TEXT ARGUMENTS: everything printed is this (a pattern)
    local want=$1 text=$2 out status; shift 2
    out=$(timeout 20 "$mobo" disk "$@" 2>&1 < /dev/null); status=$?
    # shellcheck disable=SC2053
    [ "$status" = "$want" ] && [[ "$out" == $text ]]; local r=$?
    result $r "mobo disk $*"
    [ $r = 0 ] || printf '# want %s: %s\n# got  %s: %s\n' "$want" "$text" "$status" "$out"
}
holds() {   # STATUS TEXT ARGUMENTS: printed lines have this in them
    local want=$1 text=$2 out status; shift 2
    out=$(timeout 20 "$mobo" disk "$@" 2>&1 < /dev/null); status=$?
    [ "$status" = "$want" ] && grep -q -- "$text" <<< "$out"; local r=$?
    result $r "mobo disk $* prints $text"
    [ $r = 0 ] || printf '# status %s: %s\n' "$status" "$out" | head -5
}

says 1 "mobo: disk: 'create', 'info', 'check' or 'convert' is missing"
says 1 "mobo: disk: unknown command 'chekc' (did you mean 'check'?)" chekc
says 1 "mobo: disk create: no FILE (see mobo disk --help)" create
says 1 "mobo: disk create: no SIZE (see mobo disk --help)" create a.vhdx
says 1 "mobo: disk create: 'big' is not a size" create a.vhdx big
says 1 "mobo: disk create: takes FILE SIZE, 'x' is too much" create a.vhdx 1G x
says 1 "mobo: disk create: takes no --repair" create a.vhdx 1G --repair
says 1 "mobo: disk: unknown option '--tpye' (did you mean '--type'?)" create a.vhdx 1G --tpye x
says 1 "mobo: disk create: --type: unknown type 'fixd' (did you mean 'fixed'?)" \
    create a.vhdx 1G --type fixd
says 1 "mobo: disk create: --format: unknown format 'qcow2' (known: vhdx, vhd, raw)" \
    create a 1G --format qcow2
says 1 'mobo: disk create: --type differencing needs --parent' create a.vhdx 1G --type differencing
says 1 'mobo: a.vhdx: VHDX blocks have a power of two from 1M to 256M, not 3M' \
    create a.vhdx 1G --block-size 3M
says 1 'mobo: a.vhdx: sectors have 512 or 4096 bytes, not 1024' create a.vhdx 1G --sector-size 1K
says 1 'mobo: a.vhd: a VHD image has sectors of 512 bytes' create a.vhd 1G --sector-size 4096
says 1 'mobo: a.vhdx: a VHDX disk has at most 64T' create a.vhdx 65T
says 1 'mobo: a.vhd: a VHD disk has at most 2040G' create a.vhd 2041G
says 1 'mobo: a.vhdx: the size is not a multiple of the sector size, 512' create a.vhdx 1000
says 2 'mobo: no/a.vhdx: No such file or directory' create no/a.vhdx 1G
[ -z "$(ls)" ]; result $? 'nothing is left behind'

says 0 '' create a.vhdx 1G
says 2 'mobo: a.vhdx: File exists' create a.vhdx 1G
holds 0 '^format     vhdx, dynamic$' info a.vhdx
holds 0 '^size       1G (1073741824 bytes)$' info a.vhdx
holds 0 '"block_size": 33554432' info --json a.vhdx
says 0 'a.vhdx: clean, 0 of 32 blocks allocated' check a.vhdx
holds 0 '"verdict": "clean"' check --json a.vhdx
says 0 '' create d.vhdx --parent a.vhdx
holds 0 '^parent     \./\./a.vhdx$' info d.vhdx
says 1 'mobo: e.vhdx: smaller than its parent' create e.vhdx 1M --parent a.vhdx
says 2 'mobo: a.vhdx: is damaged: it has no valid VHD footer' create e.vhd --parent a.vhdx
says 0 '' create f.vhd 3M --type fixed
says 0 'f.vhd: clean' check f.vhd
says 0 '' create r.img 5M
says 2 'mobo: r.img: a raw image has nothing to check' check r.img
holds 0 '^format     raw, fixed$' info r.img

# Damage: refused, with status 3 from check, and the file stays as it is.
cp a.vhdx bad.vhdx
printf 'x' | dd of=bad.vhdx bs=1 seek=65600 conv=notrunc status=none
printf 'x' | dd of=bad.vhdx bs=1 seek=131136 conv=notrunc status=none
sum=$(cksum bad.vhdx)
says 3 'mobo: bad.vhdx: is damaged: both headers are' check bad.vhdx
says 3 'mobo: bad.vhdx: is damaged: both headers are' check --repair bad.vhdx
holds 3 '"verdict": "damaged"' check --json bad.vhdx
says 2 'mobo: bad.vhdx: is damaged: both headers are' convert bad.vhdx out.img
[ "$sum" = "$(cksum bad.vhdx)" ] && [ ! -e out.img ]; result $? 'the damaged image is as it was'
cp a.vhdx torn.vhdx
printf 'x' | dd of=torn.vhdx bs=1 seek=65600 conv=notrunc status=none
holds 0 '^note: header 1 is not valid' check torn.vhdx
holds 0 'repaired' check --repair torn.vhdx
says 0 'torn.vhdx: clean, 0 of 32 blocks allocated' check torn.vhdx
head -c 1M a.vhdx > cut.vhdx
says 3 'mobo: cut.vhdx: is cut off*' check cut.vhdx

says 1 'mobo: disk convert: no OUT (see mobo disk --help)' convert r.img
says 1 'mobo: disk convert: makes fixed and dynamic images' convert r.img x.vhd --type differencing
says 2 'mobo: r.img: File exists' convert a.vhdx r.img
says 0 '' convert a.vhdx flat.img
[ "$(stat -c '%s' flat.img)" = 1073741824 ] && [ "$(stat -c '%b' flat.img)" -lt 100 ]
result $? 'the copy is sparse'
echo "1..$n"
[ "$failed" = 0 ]
