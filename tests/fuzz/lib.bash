# SPDX-License-Identifier: BSD-2-Clause
# What tests/fuzz/run and tests/fuzz/coverage share.

targets=$top/tests/fuzz/targets

all_targets() { awk '!/^#/ && NF { print $1 }' "$targets"; }
subjects() { awk -v t="$1" '$1 == t { for (i = 2; i <= NF; i++) print $i }' "$targets"; }

# check_targets NAME...: each is one that there is.
check_targets() {
    local t
    for t in "$@"; do
        [ -n "$(subjects "$t")" ] || { echo "no fuzz target '$t' (see tests/fuzz/targets)" >&2; exit 2; }
    done
}

# build FOLDER SUFFIX CONFIGURE-ARGUMENTS -- NAME...: the programs NAME_SUFFIX, and the plug-ins, in a tree of their own.
build() {
    local folder=$1 suffix=$2 args=() goals=()
    shift 2
    while [ "$1" != -- ]; do args+=("$1"); shift; done
    shift
    [ -x "$top/configure" ] || { echo "$top has no configure: run autoreconf -fi" >&2; exit 2; }
    goals=("${@/#/tests/fuzz/}")
    goals=("${goals[@]/%/_$suffix}")
    case " $* " in *' state '*) goals+=(vdevs) ;; esac
    mkdir -p "$folder"
    if ! { [ -f "$folder/Makefile" ] || (cd "$folder" && "$top/configure" -q CC=clang "${args[@]}"); } >"$folder/build.log" 2>&1 ||
       ! make -C "$folder" -j"$(nproc)" "${goals[@]}" >>"$folder/build.log" 2>&1; then
        echo "building the fuzz targets failed; the end of $folder/build.log:" >&2
        tail -n 15 "$folder/build.log" >&2
        exit 2
    fi
    export srcdir=$top top_srcdir=$top top_builddir=$folder
}
