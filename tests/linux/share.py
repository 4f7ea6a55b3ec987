#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A folder shared with Debian's stock kernel and its own 9p file system.

    share.py VMM_RUN SHARE_GUEST

The kernel is that of Debian's linux-image-amd64 (its cloud kernel has no 9p), unpacked in
$LIBVMM_CACHE/kernels, the initramfs $LIBVMM_CACHE/initramfs-share.gz. Needs a complete KVM.
"""

import glob
import os
import random
import stat
import subprocess
import sys
import tempfile

from console import Console, Tests

vmm_run, share_guest = sys.argv[1:3]
cache = os.environ.get("LIBVMM_CACHE", "")
kernel = (glob.glob(cache + "/kernels/linux-image-amd64/boot/vmlinuz-*") or [""])[0]
initrd = cache + "/initramfs-share.gz"


def guest(shares, transport):
    console = Console(
        [vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet",
         "--memory", "512M", "--cpus", "2", "--timeout", "600", "--verbose",
         "--transport", transport] + [x for s in shares for x in ("--share", s)]
    )
    console.expect("user space reached on", 100)
    console.expect("guest# ", 20)
    return console


def command(console, text, answer, seconds=30):
    console.type(text + "\n")
    return console.expect(answer, seconds)


def make_tree(top):
    """Files of many sizes, names of many kinds, links, modes."""
    rng = random.Random(9)
    sizes = [0, 1, 4095, 4096, 4097, 131071, 300000, 1 << 20]
    for folder in ("", "a", "a/b", "a/b/c", "empty", "with space", "ünïcode"):
        os.makedirs(os.path.join(top, folder), exist_ok=True)
    for number in range(60):
        folder = ("", "a", "a/b", "a/b/c", "with space", "ünïcode")[number % 6]
        path = os.path.join(top, folder, f"file-{number}" + "x" * (number * 3))
        with open(path, "wb") as f:
            f.write(rng.randbytes(sizes[number % 8] if number < 16 else rng.randrange(20000)))
        os.chmod(path, (0o644, 0o600, 0o755, 0o444)[number % 4])
        os.utime(path, (10**9 + number, 10**9 + 2 * number))
    os.symlink("a/b", top + "/link")
    os.symlink("/nowhere/at all", top + "/a/dangling")


def listing(top):
    """What there is, with all that a copy has to keep."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            if stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                with open(path, "rb") as f:
                    content = (info.st_mtime_ns // 10**9, f.read())
            else:
                content = None
            found[os.path.relpath(path, top)] = (info.st_mode, info.st_uid, info.st_gid, content)
    return found


def tree_is_copied(transport, options):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        make_tree(folder + "/tree")
        with guest([folder + ",tag=T", folder + ",tag=ro,readonly=on"], transport) as console:
            command(console, f"mount -t 9p -o trans=virtio,version=9p2000.L,{options} T /mnt"
                    " && echo mount''ed", "mounted")
            command(console, "cp -a /mnt/tree /tmp/tree && cp -a /tmp/tree /mnt/copy && echo copi''ed",
                    "copied", 60)
            command(console, "cd /mnt; find tree | wc -l; cd /", rf"\n{len(listing(folder + '/tree')) + 1}\r")
            command(console, "umount /mnt && echo unmount''ed", "unmounted")
            command(console, f"mount -t 9p -o trans=virtio,version=9p2000.L,{options} ro /mnt"
                    " && diff -r /mnt/copy /tmp/tree && echo sa''me", "same", 60)
            command(console, "echo x >/mnt/x || rm /mnt/tree/link || mkdir /mnt/d || echo refus''ed",
                    "refused")
            console.expect("guest# ", 20)
            console.type("poweroff -f\n")
            assert console.wait(30) == 0, console.tail()
            assert "the guest misused" not in console.text(), console.text()
        original, copy = listing(folder + "/tree"), listing(folder + "/copy")
        assert len(original) > 65 and original == copy, set(original) ^ set(copy)


def what_file_systems_do(transport, options):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        subprocess.run(["cp", share_guest, folder + "/program"], check=True)
        os.mkdir(folder + "/work")
        with guest([folder + ",tag=T"], transport) as console:
            command(console, f"mount -t 9p -o trans=virtio,version=9p2000.L,{options} T /mnt &&"
                    " /mnt/program /mnt/work", "share-guest: all is well", 60)
            console.expect("guest# ", 20)
            command(console, "umount /mnt; echo unmount''ed", "unmounted")
            console.type("poweroff -f\n")
            assert console.wait(30) == 0, console.tail()
        work = folder + "/work/"
        assert sorted(os.listdir(work)) == ["big", "d", "log", "moved", "replaced", "soft", "x"]
        with open(work + "log", encoding="ascii") as log:
            assert log.read() == "".join(f"line {i:02}\n" for i in range(20))
        with open(work + "replaced", encoding="ascii") as f:
            assert f.read() == "one\n"
        assert os.getxattr(work + "x", "trusted.one") == b"first"
        assert os.listxattr(work + "x") == ["trusted.one"]
        info = os.stat(work + "big")
        assert (info.st_uid, info.st_gid, info.st_size) == (12, 34, 1 << 20)


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("share", "LIBVMM_CACHE names no kernel with 9p, or no initramfs for it")
        tests.end()
    for transport, options in (("mmio", "msize=262144"), ("pci", "cache=loose,msize=512000")):
        tests.run(f"tree, {transport}, {options}", tree_is_copied, transport, options)
        tests.run(f"file system, {transport}, {options}", what_file_systems_do, transport, options)
    tests.end()


if __name__ == "__main__":
    main()
