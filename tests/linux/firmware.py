#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""SeaBIOS, GRUB and Debian's kernel, from a disk image on the board pc.

    firmware.py VMM_RUN

The kernel is vmlinuz-* in the folder $LIBVMM_KERNELS, the initramfs $LIBVMM_CACHE/initramfs.gz. Needs a complete KVM,
and the Debian packages seabios, grub-pc-bin, grub-common, mtools and fdisk.
"""

import glob
import os
import shutil
import subprocess
import sys
import tempfile

from console import Console, Tests

SEABIOS = "/usr/share/seabios/bios-256k.bin"
here = os.path.dirname(os.path.abspath(__file__))
vmm_run = sys.argv[1]
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs.gz")


def boots_from_a_disk():
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk.img")
        make = os.path.join(here, "make-firmware-disk")
        subprocess.run([make, "bios", disk, kernel, initrd], check=True)
        with Console([vmm_run, "--machine", "pc", "--firmware", SEABIOS, "--memory", "256M",
                      "--disk", disk + ",format=raw", "--timeout", "600"]) as console:
            console.expect("Debian from the disk", 100)
            console.expect("user space reached on", 150)
            console.expect("guest# ", 20)
            console.type("poweroff -f\n")
            assert console.wait(30) == 0


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("firmware", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
    elif not os.path.exists(SEABIOS) or not shutil.which("grub-mkimage"):
        tests.skip("firmware", "seabios or grub-common is missing")
    else:
        tests.run("SeaBIOS, GRUB and Debian's kernel", boots_from_a_disk)
    tests.end()


if __name__ == "__main__":
    main()
