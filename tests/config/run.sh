#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# VM descriptions with a mistake, each with the one line and the exit status that it must give.
#
# fail-NAME.ini has its line in fail-NAME.expected; the first line there is the exit status, the
# second what is printed.  In it @TMP@ is the folder of the file, @HOST@ any size and @ANY@ any
# number.  A file that needs something around it (a truncated kernel, arguments) has a function
# case_NAME below, which is called in @TMP@ and sets `args` and `file`.  Prints TAP.
set -u
here=${top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}/tests/config
mobo=${MOBO:-${top_builddir:-$here/../..}/mobo}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/mobo-config.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
[ -x "$mobo" ] || { echo "Bail out! there is no $mobo"; exit 1; }
shopt -s nullglob

# A file as a bzImage header makes it: 9728 bytes, of which `head -c` takes what it likes.
bzimage() {
    local le
    { head -c 497 /dev/zero
      printf '\002\000\000\000\002\000\000\000\000\000\000\000\000\125\252'   # 0x1f1..0x1ff
      printf '\353\152HdrS\017\002'                                         # 0x200..0x207
      head -c 9 /dev/zero; printf '\001'                                    # 0x208..0x211
      head -c 26 /dev/zero; printf '\377\377\377\177'                       # 0x212..0x22f
      printf '\000\000\040\000\001\000\003\000\377\007\000\000'             # 0x230..0x23b
      head -c 28 /dev/zero; printf '\000\000\000\001\000\000\000\000'       # 0x23c..0x25f
      printf '\000\000\020\000'                                             # 0x260..0x263
      head -c 9116 /dev/zero; } > "$1"
}

case_nul() { printf '[vm]\nname = a\0b\n[boot]\nkernel = k\n' > nul.ini; file=nul.ini; }
case_long-line() {
    { printf '[vm]\nname = '; head -c 1048576 /dev/zero | tr '\0' a; printf '\n'; } > long-line.ini
    file=long-line.ini
}
case_binary() { head -c 4096 /dev/zero > binary.ini; file=binary.ini; }
case_folder() { mkdir folder.ini; file=folder.ini; }
case_missing-file() { file=no-such.ini; }
case_truncated-kernel() { bzimage whole; head -c 5000 whole > vmlinuz; }
case_not-a-kernel() { echo 'not a kernel' > vmlinuz; }
case_kernel-folder() { mkdir vmlinuz; }
case_initrd-too-big() { bzimage vmlinuz; truncate -s 100M initrd.img; }
case_initrd-missing() { bzimage vmlinuz; }
case_image-damaged() { printf vhdxfile > bad.vhdx; truncate -s 100K bad.vhdx; }
case_set-memory() { args=(--set vm.memory=0); }
case_set-unknown() { args=(--set com11.backend=null); }
case_set-form() { args=(--set memory=1G); }
case_set-engine() { args=(--engine itnerp); }
case_bad-plugin() { mkdir dir; echo 'not a plug-in' > dir/uart16550.so; args=(--vdev-path dir); }
case_other-abi() {
    cat > other.c <<'END'
#include <mobo/vdev.h>
const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC, .abi_major = MOBO_ABI_MAJOR + 1, .size = sizeof(mobo_vdev_descriptor),
    .type = "uart16550",
};
END
    ${CC:-cc} -shared -fPIC -fvisibility=hidden -I"$here/../../sdk/include" -o uart16550.so other.c
    args=(--vdev-path .)
}
case_cmdline-too-long() {
    bzimage vmlinuz
    { printf '[boot]\nkernel = vmlinuz\ncmdline = '; head -c 3000 /dev/zero | tr '\0' a; echo; } \
        > cmdline-too-long.ini
    file=cmdline-too-long.ini
}

n=0 failed=0
check() {   # NAME COMMAND
    local name=$1 command=$2 want_status want got status ok=ok
    n=$((n + 1))
    rm -rf "$tmp/w"; mkdir "$tmp/w"
    [ -e "$here/fail-$name.ini" ] && cp "$here/fail-$name.ini" "$tmp/w/"
    { read -r want_status; read -r want; } < "$here/fail-$name.expected"
    args=() file=fail-$name.ini
    cd "$tmp/w" || exit 1
    declare -F "case_$name" > /dev/null && "case_$name"
    got=$(timeout 20 "$mobo" "$command" "${args[@]}" "$file" 2>&1 < /dev/null); status=$?
    cd "$here" || exit 1
    got=${got//"$tmp/w"/@TMP@}
    if [[ $want == *@HOST@* ]]; then
        got=$(sed -E 's/\(([0-9.]+[KMGT]|[0-9]+ bytes)\)$/(@HOST@)/' <<< "$got")
    fi
    [[ $want == *@ANY@ ]] && got=$(sed -E 's/[0-9]+$/@ANY@/' <<< "$got")
    if [ "$status" != "$want_status" ] || [ "$got" != "mobo: $want" ]; then
        ok='not ok' failed=$((failed + 1))
    fi
    echo "$ok $n - $command $name"
    if [ "$ok" != ok ]; then
        echo "# want $want_status: mobo: $want"
        echo "# got  $status: $got"
    fi
}

expected=("$here"/fail-*.expected)
echo "1..$((2 * ${#expected[@]} + 1))"
for e in "${expected[@]}"; do
    name=${e##*/fail-}; name=${name%.expected}
    check "$name" check
    check "$name" run
done

# A terminal is left as it was found.
n=$((n + 1))
if ! command -v script > /dev/null; then
    echo "ok $n # SKIP no script(1)"
else
    rm -rf "$tmp/w"; mkdir "$tmp/w"; cd "$tmp/w" || exit 1
    printf '[boot]\nkernel = no-such-kernel\n' > t.ini
    printf 'stty -a > before\n"%s" run t.ini\nstty -a > after\n' "$mobo" > t.sh
    timeout 30 script -qec 'bash t.sh' typescript < /dev/null > /dev/null 2>&1
    if [ -s before ] && cmp -s before after; then
        echo "ok $n - the terminal is restored"
    else
        failed=$((failed + 1))
        echo "not ok $n - the terminal is restored"
    fi
    cd "$here" || exit 1
fi
[ "$failed" = 0 ]
