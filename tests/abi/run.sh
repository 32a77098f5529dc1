#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The promise of the vdev ABI: every member of version 1.0 is where it was, a plug-in built from the
# frozen header of each release loads, and one that does not fit is refused in one line.
set -uo pipefail
top=${top_srcdir:?} mobo=${MOBO:?} cc=${CC:-cc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
n=0
say() { n=$((n + 1)); printf '%s %d - %s\n' "$1" $n "$2"; }

# ---- members stay where they are ------------------------------------------------------------------

for frozen in "$top"/tests/abi/[0-9]*; do
    v=${frozen##*/}
    awk -f "$top/tests/abi/members.awk" "$frozen/mobo/vdev.h" >"$work/members.h"
    if $cc -I"$work" -I"$frozen" -o "$work/then" "$top/tests/abi/offsets.c" 2>"$work/log" &&
        $cc -I"$work" -I"$top/sdk/include" -o "$work/now" "$top/tests/abi/offsets.c" 2>>"$work/log" &&
        [ "$("$work/then" | wc -l)" -gt 150 ]; then
        if diff <("$work/then") <("$work/now") >"$work/diff"; then
            say ok "$(wc -l <"$work/members.h") members of ABI $v are where they were"
        else
            say 'not ok' "members of ABI $v have moved"
            sed 's/^/# /' "$work/diff"
        fi
    else
        say 'not ok' "the members of ABI $v cannot be compared"
        sed 's/^/# /' "$work/log"
    fi

    # ---- a plug-in of that release -----------------------------------------------------------------
    mkdir -p "$work/$v"
    # shellcheck disable=SC2086
    if ! $cc -std=c11 -I"$frozen" -fPIC -fvisibility=hidden -shared -o "$work/$v/thing.so" \
        "$top/tests/abi/plugin.c" 2>"$work/log"; then
        say 'not ok' "a plug-in of ABI $v does not build"
        sed 's/^/# /' "$work/log"
        continue
    fi
    printf '[boot]\nkernel = vmlinuz\n[vdev x]\ntype = thing\nport = 0x5200\n' >"$work/$v/vm.ini"
    printf 'not a kernel' >"$work/$v/vmlinuz"
    out=$(cd "$work/$v" && "$mobo" vdev info --vdev-path . thing 2>&1)
    if [[ $out == *'A port for the tests of the ABI'* ]]; then say ok "a plug-in of ABI $v loads"
    else say 'not ok' "a plug-in of ABI $v does not load: $out"; fi
    # its create() runs, too: what is wrong with this machine is only the kernel
    out=$(cd "$work/$v" && "$mobo" check --vdev-path . vm.ini 2>&1)
    case $out in
    *'[vdev x]'*) say 'not ok' "a device of ABI $v is not created: $out" ;;
    *) say ok "a device of ABI $v is created" ;;
    esac
done

# ---- what does not fit ------------------------------------------------------------------------------

refuse() {   # BAD_... PHRASE
    local dir=$work/$1 out want
    mkdir -p "$dir"
    if ! $cc -std=c11 -w -D"$1" -I"$top/sdk/include" -fPIC -fvisibility=hidden -shared \
        -o "$dir/thing.so" "$top/tests/abi/plugin.c"; then
        say 'not ok' "$1 does not build"
        return
    fi
    printf '[boot]\nkernel = vmlinuz\n[vdev x]\ntype = thing\n' >"$dir/vm.ini"
    printf 'not a kernel' >"$dir/vmlinuz"
    out=$(cd "$dir" && "$mobo" check --vdev-path . vm.ini 2>&1)
    want="mobo: vm.ini:4: [vdev x] plug-in ./thing.so does not fit: $2"
    if [ "$out" = "$want" ]; then
        say ok "$1 is refused"
    else
        say 'not ok' "$1 is not refused as it should be"
        printf '# says  %s\n# wants %s\n' "$out" "$want"
    fi
}

now=$(sed -n 's/^#define MOBO_ABI_MINOR *//p' "$top/sdk/include/mobo/vdev.h")
refuse BAD_MAGIC 'its descriptor has a wrong magic number'
refuse BAD_MAJOR "it is built for ABI 2.0, this program has 1.$now"
refuse BAD_MINOR "it needs ABI 1.999 or newer, this program has 1.$now"
refuse BAD_SIZE 'its descriptor has a wrong size'
refuse BAD_TYPE 'its type name is missing or has odd characters'
refuse BAD_TEXTS 'its descriptor lacks vendor, version, licence or summary'
refuse BAD_CLASS 'its class is unknown'
refuse BAD_NO_OPS 'it has no operations'
refuse BAD_OPS_SIZE 'its operations table has a wrong size'
refuse BAD_NO_RESTORE "it lacks the required operation 'restore'"
refuse BAD_PARAM_SIZE 'its parameter table has a wrong size'
refuse BAD_KIND "parameter 'port' has an unknown kind 99"
refuse BAD_DEFAULT "default 'many' of parameter 'port' is not a number"
refuse BAD_NO_DESCRIPTOR 'it has no symbol mobo_vdev_descriptor'
refuse BAD_EXPORT \
    "it exports 'another_symbol'; mobo_vdev_descriptor is the only symbol that it may"
echo "1..$n"
