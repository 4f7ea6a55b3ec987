#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""NVMe under Debian's stock cloud kernel: a file system that the host checks, and nvme-cli.

    nvme.py VMM_RUN

The kernel is vmlinuz-* in the folder $LIBVMM_KERNELS, the initramfs $LIBVMM_CACHE/initramfs-nvme.gz
(scripts/check makes it). Needs a complete KVM and e2fsck.
"""

import glob
import os
import shutil
import subprocess
import sys
import tempfile

from console import Console, Tests
from disks import command, image, power_off

MIB = 1 << 20
vmm_run = sys.argv[1]
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs-nvme.gz")


def guest(options):
    console = Console(
        [vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet", "--cpus", "2",
         "--memory", "256M", "--transport", "pci", "--timeout", "600", "--verbose", *options]
    )
    console.expect("user space reached on", 200)
    console.expect("guest# ", 20)
    return console


def use(console):
    """The whole disk, a file system on it, and files: random data, whose sum is told."""
    command(console, "mkfs.ext4 -q -F /dev/nvme0n1 && echo ma''de", "made", 120)
    command(console, "mount -o discard /dev/nvme0n1 /mnt && echo moun''ted", "mounted")
    command(console, "head -c 8388608 /dev/urandom >/mnt/r; cp /mnt/r /mnt/s; sync;"
            " echo 3 >/proc/sys/vm/drop_caches; cmp /mnt/r /mnt/s && echo sa''me", "same", 120)
    digest = command(console, "md5sum </mnt/s", r"\n([0-9a-f]{32})").group(1).decode()
    command(console, "rm /mnt/r; fstrim -v /mnt; umount /mnt && echo un''mounted", "unmounted", 60)
    return digest


def check(path, digest):
    fsck = subprocess.run(["/sbin/e2fsck", "-fn", path], capture_output=True)
    assert fsck.returncode == 0, f"e2fsck: {fsck.returncode} {fsck.stdout.decode()} {fsck.stderr.decode()}"
    cat = subprocess.run(["/sbin/debugfs", "-R", "cat /s", path], capture_output=True, check=True)
    sums = subprocess.run(["md5sum"], input=cat.stdout, capture_output=True, check=True)
    assert sums.stdout.decode().startswith(digest), "the file came out otherwise"


def tools(console):
    command(console, "nvme list", "/dev/nvme0n1 .*SN-NVME .*libvmm NVMe controller", 60)
    command(console, "nvme id-ctrl /dev/nvme0", r"sn +: SN-NVME", 60)
    console.expect(r"mdts +: 7", 20)
    command(console, "nvme id-ns /dev/nvme0n1", r"nsze +: 0x20000\s", 60)
    command(console, "nvme smart-log /dev/nvme0", r"critical_warning\s+: 0\s", 60)
    command(console, "nvme smart-log /dev/nvme0 | grep host_write", r"host_write_commands\s+: [1-9]", 60)
    command(console, "nvme error-log /dev/nvme0 | head -1", r"entries:16", 60)
    command(console, "nvme get-feature /dev/nvme0 -f 7", r"Current value:0x0*30003", 60)
    command(console, "nvme flush /dev/nvme0n1; nvme reset /dev/nvme0; echo re''set", "reset", 60)
    command(console, "head -c 1000 /dev/nvme0n1 | wc -c", r"\n1000\r", 60)


def whole():
    folder = tempfile.mkdtemp(dir="/dev/shm")
    try:
        disk = image(folder + "/disk", 64)
        second = image(folder + "/second", 16)
        with guest(["--disk", f"{disk},format=raw,if=nvme,serial=SN-NVME,queues=4",
                    "--disk", f"{second},format=raw,if=nvme,readonly=on"]) as console:
            digest = use(console)
            tools(console)
            command(console, "cat /sys/block/nvme1n1/ro", r"\n1\r")
            command(console, "dmesg | grep -E 'nvme.*(timeout|abort|failed|error)' | wc -l", r"\n0\r")
            power_off(console)
            assert "the guest misused" not in console.text(), console.text()
        check(disk, digest)
    finally:
        shutil.rmtree(folder)


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("nvme", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
        tests.end()
    if not os.path.exists("/sbin/e2fsck"):
        tests.skip("nvme", "needs e2fsck (Debian: e2fsprogs)")
        tests.end()
    tests.run("file system and nvme-cli", whole)
    tests.end()


if __name__ == "__main__":
    main()
