#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Install into an empty prefix and build a program outside the tree with nothing but pkg-config: as
# C11 and as C++17, dynamically and statically; then run each.
#
#   install.sh SOURCE_ROOT BUILD_ROOT
set -uo pipefail
source=$1 build=$2
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
number=0 failed=0

report() { # STATUS NAME
    number=$((number + 1))
    [ "$1" = 0 ] && echo "ok $number - $2" || { echo "not ok $number - $2"; failed=1; sed 's/^/# /' "$work/log"; }
}

(meson install -C "$build" --no-rebuild --destdir "$work/dest" >"$work/log" 2>&1)
report $? "meson install"
installed=$(find "$work/dest" -name libvmm.pc | head -1)
base=${installed%/lib*/pkgconfig/libvmm.pc}
base=${base%/lib}
mkdir -p "$prefix" && cp -r "$base"/. "$prefix/"
pc=$(find "$prefix" -name libvmm.pc | head -1)
sed -i "s|^prefix=.*|prefix=$prefix|" "$pc"
export PKG_CONFIG_PATH=${pc%/*}
libdir=$(pkg-config --variable=libdir libvmm)

cat >"$work/embedder.c" <<'END'
#include <libvmm/vmm.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    struct vmm_loop *loop = NULL;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_host *host = NULL;
    if (vmm_loop_new(NULL, &loop))
        return 1;
    vmm_loop_unref(loop);
    if (vmm_host_open("/dev/null", &host, &err) == 0 || err.text[0] == '\0')
        return 2;
    printf("%s\n", vmm_version());
    return strcmp(vmm_version(), "0.1.0") != 0;
}
END
cp "$work/embedder.c" "$work/embedder.cc"
cd "$work" || exit 1

try() { # NAME COMPILER FLAGS... -- LINK-FLAGS...
    local name=$1 ok=0
    shift
    "$@" >"$work/log" 2>&1 && LD_LIBRARY_PATH=$libdir ./program >>"$work/log" 2>&1 || ok=1
    report $ok "$name"
    rm -f program
}

cflags=$(pkg-config --cflags libvmm)
libs=$(pkg-config --libs libvmm)
static_libs=$(pkg-config --static --libs libvmm)
mkdir archive && cp "$libdir"/libvmm.a archive/
# shellcheck disable=SC2086
{
    try "C11, dynamic" gcc -std=c11 -Wall -Wextra -Werror $cflags embedder.c -o program $libs
    try "C++17, dynamic" g++ -std=c++17 -Wall -Wextra -Werror $cflags embedder.cc -o program $libs
    try "C11, the archive" gcc -std=c11 $cflags embedder.c -o program -Larchive $static_libs
    try "C++17, the archive" g++ -std=c++17 $cflags embedder.cc -o program -Larchive $static_libs
}
for program in hello-vm vmm-run vmm-info; do
    LD_LIBRARY_PATH=$libdir "$prefix/bin/$program" --help >"$work/log" 2>&1
    report $? "the installed $program shows its help"
done
find "$prefix/share" -name 'hello-vm.c' | grep -q . 2>"$work/log"
report $? "the examples' sources are installed"
echo "1..$number"
exit $failed
