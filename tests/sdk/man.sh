#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Every vdev type has a manual page that says what `mobo vdev info` says: the summary, each key with
# its kind, default and help, and no other key.  The example in mobo-vdev(3) is the template.
set -uo pipefail
top=${top_srcdir:?} mobo=${MOBO:?}
n=0
say() { n=$((n + 1)); printf '%s %d - %s\n' "$1" $n "$2"; }

types=$("$mobo" vdev list | awk 'NR > 1 { print $1 }')
[ -n "$types" ] || { echo "not ok 1 - mobo vdev list shows nothing"; echo 1..1; exit 0; }
for type in $types; do
    page=$(find "$top/plugins" -name "mobo-vdev-$type.7" | head -n 1)
    if [ -z "$page" ]; then
        say 'not ok' "$type has no page mobo-vdev-$type.7"
        continue
    fi
    info=$("$mobo" vdev info "$type") || { say 'not ok' "mobo vdev info $type"; continue; }
    # "  KEY  KIND  HELP, MIN to MAX (default DEF)"
    want=$(sed -n '/^keys$/,$p' <<<"$info" | awk '/^  / {
        def = ""
        if (match($0, / \(default [^)]*\)$/)) def = ", default " substr($0, RSTART + 10, RLENGTH - 11)
        print ".BR " $1 " \"(" $2 def ")\"" }' | sed 's/"(/" (/')
    has=$(grep '^\.BR [a-z0-9-]* " (' "$page")
    summary=$(sed -n 's/^summary *//p' <<<"$info")
    if [ "$want" != "$has" ]; then
        say 'not ok' "$type: keys differ from the page"
        diff <(echo "$want") <(echo "$has") | sed 's/^/# /'
    elif ! grep -qxF "mobo-vdev-$type \\- $summary" "$page"; then
        say 'not ok' "$type: the page has not the summary '$summary'"
    else
        say ok "$type and its page agree"
    fi
done

if diff <(sed -n '/^\.nf$/,/^\.fi$/p' "$top/sdk/man/mobo-vdev.3" | sed -n '/SPDX.*MIT/,$p' |
        sed -e '/^\.fi$/d' -e 's/^\\&//' -e 's/\\-/-/g' -e 's/\\e/\\/g') \
        "$top/sdk/template/mydev.c" >/dev/null
then say ok 'the example of mobo-vdev(3) is the template'
else say 'not ok' 'the example of mobo-vdev(3) is not sdk/template/mydev.c'; fi
echo "1..$n"
