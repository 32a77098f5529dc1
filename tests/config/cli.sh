#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The command line: usage errors in one line, help, listings and their JSON.  Prints TAP.
set -u
here=${top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}
mobo=${MOBO:-${top_builddir:-$here}/mobo}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/mobo-cli.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
[ -x "$mobo" ] || { echo "Bail out! there is no $mobo"; exit 1; }
cd "$tmp" || exit 1
printf '[boot]\nkernel = k\n' > vm.ini

n=0 failed=0
result() {  # OK-STATUS NAME
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else failed=$((failed + 1)); echo "not ok $n - $2"; fi
}
says() {    # STATUS TEXT ARGUMENTS: everything printed is this one line
    local want=$1 text=$2 out status; shift 2
    out=$(timeout 20 "$mobo" "$@" 2>&1 < /dev/null); status=$?
    [ "$status" = "$want" ] && [ "$out" = "$text" ]; local r=$?
    result $r "mobo $*"
    [ $r = 0 ] || printf '# want %s: %s\n# got  %s: %s\n' "$want" "$text" "$status" "$out"
}
holds() {   # TEXT ARGUMENTS: succeeds, and standard output has this line in it
    local text=$1 out status; shift
    out=$(timeout 20 "$mobo" "$@" 2> err < /dev/null); status=$?
    [ "$status" = 0 ] && [ ! -s err ] && grep -q -- "$text" <<< "$out"; local r=$?
    result $r "mobo $* prints $text"
    [ $r = 0 ] || printf '# status %s: %s\n' "$status" "$out" | head -5
}

echo 1..43
says 1 'mobo: no command (see mobo --help)'
says 1 "mobo: unknown command 'chekc' (did you mean 'check'?)" chekc
says 1 "mobo: unknown command 'frobnicate' (see mobo --help)" frobnicate
says 1 "mobo: unknown option '--halp' (see mobo --help)" --halp
says 1 "mobo: 'checkpoint' is not available yet" checkpoint create vm
says 2 'mobo: no.vhdx: No such file or directory' disk info no.vhdx
says 1 'mobo: run: no FILE.ini (see mobo run --help)' run
says 1 "mobo: run: one FILE.ini at a time, 'b' is too much" run a b
says 1 "mobo: run: unknown option '--tiemout' (did you mean '--timeout'?)" run --tiemout 5 vm.ini
says 1 "mobo: run: unknown option '-q' (see mobo run --help)" run -q vm.ini
says 1 'mobo: run: --timeout needs a value' run vm.ini --timeout
says 1 'mobo: run: --no-reboot takes no value' run --no-reboot=1 vm.ini
says 1 "mobo: run: --timeout: 'soon' is not a number of seconds" run --timeout soon vm.ini
says 1 "mobo: run: --timeout: '-1' is not a number of seconds" run --timeout -1 vm.ini
says 1 "mobo: run: --timeout: 'nan' is not a number of seconds" run --timeout nan vm.ini
says 1 "mobo: run: --log-level: unknown level 'loud' (known: error, warning, info, debug)" \
    run --log-level loud vm.ini
says 2 'mobo: --log-file /no/folder/log: No such file or directory' run --log-file /no/folder/log vm.ini
says 1 "mobo: --trace com2: no device 'com2' (did you mean 'com1'?)" run --trace com2 vm.ini
says 1 'mobo: run: --trace a,,b: empty name (write AREA or AREA,AREA)' run --trace a,,b vm.ini
says 1 "mobo: vdev: 'list' or 'info TYPE' is missing" vdev
says 1 "mobo: vdev: unknown command 'lits' (did you mean 'list'?)" vdev lits
says 1 'mobo: vdev info: no TYPE (see mobo vdev list)' vdev info
says 1 "mobo: vdev info: unknown type 'uart1655' (did you mean 'uart16550'?)" vdev info uart1655
says 1 'mobo: engines: takes no argument' engines all
holds '^mobo [0-9]' --version
holds '^  run ' --help
holds '^usage: mobo run' run --help
holds '^usage: mobo save' save --help
says 1 "mobo: save: no --control SOCKET (see mobo save --help)" save x
says 1 "mobo: save: no FILE (see mobo save --help)" save --control s
says 1 "mobo: save: one FILE at a time, 'y' is too much" save --control s x y
says 2 "mobo: save: --control /nonexistent: No such file or directory" save --control /nonexistent x
holds '^usage: mobo stats' stats --help
says 1 "mobo: stats: no --control SOCKET (see mobo stats --help)" stats
says 1 "mobo: stats: takes no argument but options (see mobo stats --help)" stats --control s x
says 1 "mobo: stats: --interval 'x' is not a number from 0.01 to 86400" stats --interval x --control s
says 1 "mobo: stats: --count needs --interval" stats --count 2 --control s
says 2 "mobo: stats: --control /nonexistent: No such file or directory" stats --control /nonexistent
holds '^uart16550 ' vdev list
holds '^  port  ' vdev info uart16550
holds '"type": "uart16550"' vdev list --json
holds '^auto takes ' engines
holds '"name": "interp"' engines --json
[ "$failed" = 0 ]
