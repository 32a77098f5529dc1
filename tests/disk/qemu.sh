#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Disk images and qemu-img, an independent judge: it checks, compares and reads all that we make, and
# we read all that it makes.  Prints TAP; skips without qemu-img.
set -u
here=${top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
mobo=${MOBO:-${top_builddir:-$here}/mobo}
command -v qemu-img > /dev/null || { echo '1..0 # SKIP no qemu-img'; exit 77; }
[ -x "$mobo" ] || { echo "Bail out! there is no $mobo"; exit 1; }
tmp=$(mktemp -d "${TMPDIR:-/tmp}/mobo-disk.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1

n=0 failed=0
result() {  # STATUS NAME
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else failed=$((failed + 1)); echo "not ok $n - $2"; fi
}
run() {     # NAME COMMAND: a step; its output is shown when it fails
    local name=$1 r; shift
    timeout 60 "$@" > out 2>&1; r=$?
    result $r "$name"
    [ $r = 0 ] || sed 's/^/# /' out | head -5
}
# A disk of @1 bytes with data here and there, and random sectors at both ends.
make_raw() {
    truncate -s "$1" "$2"
    for at in 0 3 17; do
        dd if=/dev/urandom of="$2" bs=64k seek=$((at * 16)) count=20 conv=notrunc status=none
    done
    dd if=/dev/urandom of="$2" bs=512 seek=$(($1 / 512 - 3)) count=3 conv=notrunc status=none
}

for size in $((33 << 20)) $(((64 << 20) + 512)); do
    make_raw $size r.img
    for type in dynamic fixed; do
        for block in 1M 2M 32M; do
            f=$type-$block.vhdx
            run "$size: convert to $f" "$mobo" disk convert r.img $f --type $type --block-size $block
            run "$size: qemu-img check $f" qemu-img check -q -f vhdx $f
            run "$size: qemu-img compare $f" qemu-img compare -q -f vhdx -F raw $f r.img
            run "$size: mobo disk check $f" "$mobo" disk check $f
        done
        f=$type.vhd
        run "$size: convert to $f" "$mobo" disk convert r.img $f --type $type
        run "$size: qemu-img compare $f" qemu-img compare -q -f vpc -F raw $f r.img
        run "$size: mobo disk check $f" "$mobo" disk check $f
        # and the other way
        run "$size: qemu-img makes $type VHDX" \
            qemu-img convert -f raw -O vhdx -o subformat=$type,block_size=2M r.img q.vhdx
        run "$size: it is clean" "$mobo" disk check q.vhdx
        run "$size: it is read" "$mobo" disk convert q.vhdx back.img
        run "$size: it is the same" cmp r.img back.img
        rm -f back.img
        run "$size: qemu-img makes $type VHD" \
            qemu-img convert -f raw -O vpc -o subformat=$type,force_size=on r.img q.vhd
        run "$size: it is clean" "$mobo" disk check q.vhd
        run "$size: it is read" "$mobo" disk convert q.vhd back.img
        run "$size: it is the same" cmp r.img back.img
        rm -f back.img q.*
    done
    rm -f r.img ./*.vhd*
done

# Empty images of many sizes, and what qemu-io writes to them.
for size in 1M 100M 3G 300G; do
    for format in vhdx vhd; do
        q=${format/%vhd/vpc}
        run "create $size $format" "$mobo" disk create e.$format $size
        bytes=$("$mobo" disk info --json e.$format | sed -n 's/.*"size": \([0-9]*\).*/\1/p')
        qemu-img info --output=json -f $q e.$format | grep -q "\"virtual-size\": $bytes,"
        result $? "qemu-img finds $size in it"
        if command -v qemu-io > /dev/null; then
            run "qemu-io writes to it" qemu-io -f $q -c 'write -P 7 512K 300K' \
                -c "write -P 9 $((bytes - 65536)) 64K" -c flush e.$format
            run "it is clean after that" "$mobo" disk check e.$format
            run "it is converted" "$mobo" disk convert e.$format e.img
            run "its data is there" qemu-io -f raw -c 'read -P 7 512K 300K' \
                -c "read -P 9 $((bytes - 65536)) 64K" e.img
        fi
        rm -f e.*
    done
done

# A chain of differencing images, flattened.
make_raw $((24 << 20)) r.img
for format in vhdx vhd; do
    q=${format/%vhd/vpc}
    run "$format: parent" "$mobo" disk convert r.img p.$format
    mkdir -p sub
    run "$format: child" "$mobo" disk create sub/c.$format --parent p.$format
    run "$format: grandchild" "$mobo" disk create g.$format --parent sub/c.$format
    run "$format: flatten" "$mobo" disk convert g.$format flat.$format
    run "$format: qemu-img compare" qemu-img compare -q -f $q -F raw flat.$format r.img
    rm -rf ./*.vhd* sub
done

# 4096-byte sectors.
run "4K sectors" "$mobo" disk convert r.img k.vhdx --sector-size 4096
run "4K sectors: check" "$mobo" disk check k.vhdx
run "4K sectors: back" "$mobo" disk convert k.vhdx back.img
run "4K sectors: same" cmp r.img back.img
echo "1..$n"
[ "$failed" = 0 ]
