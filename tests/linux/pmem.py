#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A file as persistent memory of Debian's stock kernel: what the guest writes is in the file.

    pmem.py VMM_RUN

Kernel and initramfs are those of share.py. Needs a complete KVM.
"""

import glob
import hashlib
import os
import subprocess
import sys
import tempfile

from console import Console, Tests

vmm_run = sys.argv[1]
cache = os.environ.get("LIBVMM_CACHE", "")
kernel = (glob.glob(cache + "/kernels/linux-image-amd64/boot/vmlinuz-*") or [""])[0]
initrd = cache + "/initramfs-share.gz"


def command(console, text, answer, seconds=60):
    console.type(text + "\n")
    return console.expect(answer, seconds)


def file_is_memory(transport):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        image = folder + "/image"
        with open(image, "wb") as f:
            f.truncate(16 << 20)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-F", image], check=True)
        console = Console(
            [vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet",
             "--memory", "256M", "--timeout", "600", "--verbose", "--transport", transport,
             "--pmem", image])
        with console:
            console.expect("user space reached on", 100)
            console.expect("guest# ", 20)
            command(console, "cat /sys/block/pmem0/size", r"\n32768\r")
            command(console, "mount -o dax /dev/pmem0 /mnt && grep -c dax /proc/mounts", r"\n1\r")
            command(console, "head -c 3000001 /dev/urandom >/mnt/file; sync; md5sum /mnt/file",
                    r"\n([0-9a-f]{32})  /mnt/file\r")
            digest = console.text().rsplit("  /mnt/file", 1)[0][-32:]
            command(console, "umount /mnt; echo unmount''ed", "unmounted")
            console.expect("guest# ", 20)
            console.type("poweroff -f\n")
            assert console.wait(30) == 0, console.tail()
            assert "the guest misused" not in console.text(), console.text()
        check = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
        assert check.returncode == 0, check.stdout
        data = subprocess.run(["debugfs", "-R", "cat /file", image], capture_output=True,
                              check=True).stdout
        assert len(data) == 3000001 and hashlib.md5(data).hexdigest() == digest


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("pmem", "LIBVMM_CACHE names no kernel, or no initramfs for it")
        tests.end()
    for transport in ("mmio", "pci"):
        tests.run(f"a file system in memory, {transport}", file_is_memory, transport)
    tests.end()


if __name__ == "__main__":
    main()
