#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Debian's stock cloud kernel writes to a qcow2 disk with a compressed backing file.

    qcow2.py VMM_RUN

What is left is checked by qemu-img and e2fsck. The kernel is vmlinuz-* in the folder $LIBVMM_KERNELS, the
initramfs $LIBVMM_CACHE/initramfs-virtio.gz. Needs a complete KVM, and qemu-img.
"""

import glob
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

from console import Console, Tests

vmm_run = sys.argv[1]
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs-virtio.gz")


def command(console, text, answer, seconds=60):
    console.type(text + "\n")
    return console.expect(answer, seconds)


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def disk_is_written():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        raw, base, image = folder + "/raw", folder + "/base.qcow2", folder + "/disk.qcow2"
        with open(raw, "wb") as disk:
            disk.truncate(64 << 20)
        run("mke2fs", "-q", "-t", "ext4", "-F", raw)
        run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, base)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", image)
        with Console([vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet",
                      "--memory", "512M", "--timeout", "600",
                      "--disk", image + ",format=qcow2,backing=on"]) as console:
            console.expect("user space reached on", 150)
            console.expect("guest# ", 20)
            command(console, "mount /dev/vda /mnt && echo mount''ed", "mounted")
            command(console, "cp -r /bin /modules /mnt/; head -c 3000001 /dev/urandom >/mnt/big;"
                    " for i in 1 2 3; do cp /mnt/big /mnt/big$i & done; wait; sync; rm /mnt/big2;"
                    " echo copi''ed", "copied")
            digest = command(console, "md5sum /mnt/big", r"\n([0-9a-f]{32})  /mnt/big\r").group(1)
            command(console, "umount /mnt; sync; echo unmount''ed", "unmounted")
            console.expect("guest# ", 20)
            console.type("poweroff -f\n")
            status = console.wait(30)
            assert status == 0, f"exit status {status}\n{console.tail()}"
        run("qemu-img", "check", image)
        run("qemu-img", "check", base)
        run("qemu-img", "convert", "-O", "raw", image, raw)
        run("e2fsck", "-fn", raw)
        for name in ("big", "big1", "big3"):
            data = subprocess.run(["debugfs", "-R", f"cat /{name}", raw], capture_output=True,
                                  check=True).stdout
            assert hashlib.md5(data).hexdigest() == digest.decode(), name


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("qcow2", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
    elif not shutil.which("qemu-img"):
        tests.skip("qcow2", "qemu-img is missing")
    else:
        tests.run("a qcow2 disk with a compressed backing file", disk_is_written)
    tests.end()


if __name__ == "__main__":
    main()
