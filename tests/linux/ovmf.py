#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""OVMF on the board q35: GRUB and Debian's kernel from a disk image, the shell, and variables that stay.

    ovmf.py VMM_RUN

The kernel is vmlinuz-* in the folder $LIBVMM_KERNELS, the initramfs $LIBVMM_CACHE/initramfs.gz. Needs a complete KVM,
and the Debian packages ovmf, grub-efi-amd64-bin, grub-common, mtools and fdisk.
"""

import glob
import os
import shutil
import subprocess
import sys
import tempfile

from console import Console, Tests

CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
here = os.path.dirname(os.path.abspath(__file__))
vmm_run = sys.argv[1]
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs.gz")


def machine(folder, *more):
    variables = os.path.join(folder, "vars.fd")
    return Console([vmm_run, "--machine", "q35", "--firmware", CODE, "--firmware-vars", variables,
                    "--memory", "256M", "--timeout", "300", "--no-reboot", *more])


def boots_from_a_disk(folder):
    disk = os.path.join(folder, "disk.img")
    make = os.path.join(here, "make-firmware-disk")
    subprocess.run([make, "efi", disk, kernel, initrd], check=True)
    with machine(folder, "--disk", disk + ",format=raw") as console:
        console.expect("Debian from the disk", 180)
        console.expect("user space reached on", 150)
        console.expect("guest# ", 20)
        console.type("ls /sys/firmware/efi && cat /proc/iomem | grep -i mmconfig; echo done-$((1+1))\n")
        console.expect("systab|runtime", 20)
        console.expect("MMCONFIG", 20)
        console.expect("done-2", 20)
        console.type("poweroff -f\n")
        assert console.wait(60) == 0


def variables_stay(folder):
    """Without a disk there is the shell: set a variable that is not volatile; the next machine has it. The shell
    takes the value for a little-endian number."""
    for arguments, answer in (" -bs -nv =0xa5c3", "Shell> "), ("", "C3 A5"):
        with machine(folder) as console:
            console.expect("to skip", 180)
            console.type("\x1b")
            console.expect("Shell> ", 30)
            console.type(f"setvar libvmm -guid 11111111-2222-3333-4444-555555555555{arguments}\r")
            console.expect(answer, 30)
            console.type("reset -s\r")
            assert console.wait(60) == 0


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("OVMF", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
    elif not os.path.exists(CODE) or not shutil.which("grub-mkimage"):
        tests.skip("OVMF", "ovmf or grub-common is missing")
    elif os.environ.get("LIBVMM_NESTED") and not os.environ.get("LIBVMM_NESTED_CR8"):
        tests.skip("OVMF", "QEMU 7.2's emulation of SVM ends at its first timer interrupts; libunwind-dev is missing")
    else:
        # In memory: firmware writes its variables a byte at a time.
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            shutil.copy(VARS, os.path.join(folder, "vars.fd"))
            tests.run("OVMF, GRUB and Debian's kernel", boots_from_a_disk, folder)
            tests.run("variables stay", variables_stay, folder)
    tests.end()


if __name__ == "__main__":
    main()
