# SPDX-License-Identifier: BSD-2-Clause
# Lists "M(struct, member);" for the structures of a vdev.h.  Good for the layout of that header:
# one declaration a line, or several names with commas; function pointers "(*name)(".
/^struct [a-z_]+ \{/ { type = $2; depth = 1; next }
/^\};/ { type = ""; next }
type == "" { next }
{
    line = $0
    gsub(/\/\*.*\*\//, "", line)
    if (incomment) {
        if (line !~ /\*\//) next
        sub(/.*\*\//, "", line)
        incomment = 0
    }
    if (line ~ /\/\*/) { sub(/\/\*.*/, "", line); incomment = 1 }
    if (line ~ /^    struct \{/) { nested = 1; next }
    if (nested) { if (match(line, /^    \} [a-z_0-9]+/)) { n = substr(line, 7, RLENGTH - 6)
        print "M(" type ", " n ");"; nested = 0 }; next }
    if (line ~ /^    [a-z]/ && match(line, /\(\*[a-z_0-9]+\)\(/)) {
        print "M(" type ", " substr(line, RSTART + 2, RLENGTH - 4) ");"
        next
    }
    if (line !~ /^    [a-z].*;/ || line ~ /\(/) next
    sub(/;.*/, "", line)
    k = split(line, part, ",")
    for (i = 1; i <= k; i++) {
        name = part[i]
        sub(/\[.*/, "", name)
        sub(/ *$/, "", name)
        sub(/.*[ *]/, "", name)
        if (name != "") print "M(" type ", " name ");"
    }
}
