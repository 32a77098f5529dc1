#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Test driver for automake's parallel harness ("Custom Test Drivers" in the automake manual).
# A test that prints TAP (a cmocka program does) counts once for each of its cases; any other test
# counts once by its exit status: 0 pass, 77 skip, else fail.  Each test runs under a time limit,
# MOBO_TEST_TIMEOUT seconds (default 900).

name='' log='' trs='' expect_failure=no color=no
while test $# -gt 0; do
    case $1 in
    --test-name) name=$2; shift 2 ;;
    --log-file) log=$2; shift 2 ;;
    --trs-file) trs=$2; shift 2 ;;
    --expect-failure) expect_failure=$2; shift 2 ;;
    --color-tests) color=$2; shift 2 ;;
    --enable-hard-errors | --collect-skipped-logs) shift 2 ;;
    --) shift; break ;;
    *) break ;;
    esac
done
if test -z "$name" || test -z "$log" || test -z "$trs"; then
    echo "test-driver.sh: --test-name, --log-file and --trs-file are needed" >&2
    exit 2
fi

red='' grn='' blu='' std=''
if test "$color" = yes; then
esc=$(printf '\033')
    red="${esc}[0;31m" grn="${esc}[0;32m" blu="${esc}[1;34m" std="${esc}[m"
fi

CMOCKA_MESSAGE_OUTPUT=TAP
export CMOCKA_MESSAGE_OUTPUT
timeout -k 10 "${MOBO_TEST_TIMEOUT:-900}" "$@" >"$log" 2>&1 </dev/null
status=$?
{ echo; echo "exit status: $status"; } >>"$log"

awk -v status="$status" -v name="$name" -v xfail="$expect_failure" -v trs="$trs" \
    -v red="$red" -v grn="$grn" -v blu="$blu" -v std="$std" '
function result(kind, what) {
    n[kind]++
    lines[++count] = ":test-result: " kind (what != "" ? " " what : "")
    if (kind == "FAIL" || kind == "ERROR")
        bad[++nbad] = what
}
/^1\.\.[0-9]+/ && !planned { split($0, p, /\.\./); plan = p[2] + 0; planned = 1; next }
/^(not )?ok( |$)/ {
    seen++
    what = $0
    sub(/^(not )?ok *[0-9]* *(- *)?/, "", what)
    if (toupper($0) ~ /# *SKIP/)
        result("SKIP", what)
    else if ($1 == "not")
        result("FAIL", what)
    else
        result("PASS", what)
    next
}
/^Bail out!/ { result("ERROR", $0) }
END {
    if (!planned) {                     # not TAP: the exit status decides
        count = nbad = 0
        delete n
        if (status == 0) result("PASS", "")
        else if (status == 77) result("SKIP", "")
        else result("FAIL", status == 124 ? "time limit" : "exit status " status)
    } else {
        if (plan == 0 && status == 0) result("SKIP", "")
        if (seen < plan) result("FAIL", (plan - seen) " of " plan " cases did not report")
        if (status != 0 && !nbad) result("FAIL", "exit status " status)
    }
    if (n["FAIL"] + n["ERROR"]) { global = "FAIL"; c = red }
    else if (n["PASS"]) { global = "PASS"; c = grn }
    else { global = "SKIP"; c = blu }
    for (i = 1; i <= count; i++) print lines[i] > trs
    print ":global-test-result: " global > trs
    print ":recheck: " (global == "FAIL" ? "yes" : "no") > trs
    print ":copy-in-global-log: " (global == "FAIL" ? "yes" : "no") > trs
    detail = ""
    if (count > 1) {
        detail = " (" n["PASS"] + 0 " passed"
        if (n["FAIL"] + n["ERROR"]) detail = detail ", " n["FAIL"] + n["ERROR"] " failed"
        if (n["SKIP"]) detail = detail ", " n["SKIP"] " skipped"
        detail = detail ")"
    }
    print c global std ": " name detail
    for (i = 1; i <= nbad && i <= 10; i++) print "    " bad[i]
}' "$log"
