# SPDX-License-Identifier: BSD-3-Clause
# Shared by the project's scripts: where things are kept, how packages and kernels are had.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${LIBVMM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/libvmm}
mkdir -p "$cache"

say() { printf '== %s\n' "$*"; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "needs to install packages: run it as root, or install sudo. The command was: $*"
    fi
}

apt_updated=
apt_update() {
    [ -n "$apt_updated" ] || as_root apt-get -qq update ||
        die "apt-get update failed: is the network there?"
    apt_updated=1
}

# need_packages PACKAGE...: install those that are missing.
need_packages() {
    local missing=() p
    for p in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed ||
            missing+=("$p")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    apt_update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        "${missing[@]}" >"$cache/apt.log" 2>&1 ||
        {
            tail -20 "$cache/apt.log" >&2
            die "apt-get install failed"
        }
}

# apt_of ARCHITECTURE TOOL ARGUMENT...: apt-get or apt-cache for a Debian architecture, with lists of its own in the
# cache where it is not this machine's, which so never gets packages of another architecture.
apt_of() {
    local architecture=$1 tool=$2
    shift 2
    if [ "$architecture" = "$(dpkg --print-architecture)" ]; then
        [ "$1" = depends ] || apt_update
        $tool -qq -o APT::Sandbox::User=root "$@"
        return
    fi
    local state=$cache/apt-$architecture
    local options=(-qq -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture"
        -o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state" -o APT::Sandbox::User=root)
    if [ ! -e "$state/ready" ]; then
        mkdir -p "$state/lists/partial" "$state/archives/partial"
        apt-get "${options[@]}" update || die "apt-get update for $architecture failed: is the network there?"
        touch "$state/ready"
    fi
    $tool "${options[@]}" "$@"
}

# debian_unpack ARCHITECTURE FOLDER PACKAGE...: unpack packages into a folder; nothing is installed.
debian_unpack() {
    local architecture=$1 dir=$2 package
    shift 2
    say "downloading $*"
    rm -rf "$dir" && mkdir -p "$dir/deb"
    (cd "$dir/deb" && apt_of "$architecture" apt-get download "$@") || die "apt-get download $* failed"
    for package in "$dir"/deb/*.deb; do dpkg -x "$package" "$dir"; done
    rm -rf "$dir/deb"
}

# debian_kernel META [ARCHITECTURE]: unpack the kernel package that the meta package META depends on into the cache
# (it is never installed) and print its folder, which holds boot/vmlinuz-* and lib/modules/*.
debian_kernel() {
    local meta=$1 architecture=${2:-$(dpkg --print-architecture)} dir=$cache/kernels/$1 package
    (
        flock 9
        [ ! -e "$dir/ready" ] || exit 0
        [ "$architecture" != "$(dpkg --print-architecture)" ] || apt_update
        package=$(apt_of "$architecture" apt-cache depends "$meta" | awk '/Depends:/ {print $2; exit}')
        [ -n "$package" ] || die "no package $meta in apt's lists"
        debian_unpack "$architecture" "$dir" "$package"
        depmod -b "$dir" "$(ls "$dir/lib/modules")"
        touch "$dir/ready"
    ) 9>"$cache/kernels.lock" >&2 || return 1
    echo "$dir"
}

# arm64_root: a folder with the libraries that the cross build links, and busybox, of Debian's arm64.
arm64_root() {
    local dir=$cache/arm64-root
    (
        flock 9
        [ ! -e "$dir/ready" ] || exit 0
        debian_unpack arm64 "$dir" libfdt1 libfdt-dev libcmocka0 libcmocka-dev zlib1g zlib1g-dev busybox-static
        touch "$dir/ready"
    ) 9>"$cache/kernels.lock" >&2 || return 1
    echo "$dir"
}

build_packages="gcc g++ libc6-dev meson ninja-build pkg-config python3 libfdt-dev libcmocka-dev
    libzydis-dev libzycore-dev zlib1g-dev libzstd-dev liblz4-dev liblzma-dev liburing-dev libnbd-dev libslirp-dev libpng-dev nettle-dev"
guest_packages="busybox-static cpio kmod qemu-system-x86"
arm64_packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-system-arm qemu-user-static device-tree-compiler qemu-efi-aarch64 acpica-tools"
kernel_packages="build-essential flex bison bc libelf-dev xz-utils"
check_packages="grub-pc-bin grub-common mtools dosfstools fdisk iproute2 passt valgrind e2fsprogs qemu-utils nbdkit clang libclang-rt-14-dev clang-format acpica-tools device-tree-compiler dmidecode xorriso eject smartmontools nvme-cli dpdk-dev ovmf grub-efi-amd64-bin libunwind-dev"

# kvm_is_complete VMM_INFO: does the host's KVM run guest kernels in hardware? Asks the program.
kvm_is_complete() {
    local flavour
    flavour=$("$1" --json 2>/dev/null |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["flavour"])' 2>/dev/null) || return 1
    [ "$flavour" = vmx ] || [ "$flavour" = svm ]
}
