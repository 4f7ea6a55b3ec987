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
import time

from console import PATIENCE, Console, Tests, ask

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


def screen(control, wanted, seconds):
    """The text screen, once it shows something."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        try:
            text = ask(control, "screen-text")["text"]
        except (OSError, AssertionError) as no:  # the socket comes after the program, text after the firmware
            text = str(no)
        if wanted in text:
            return text
        assert time.monotonic() < deadline, f"{wanted!r} is not on the screen:\n{text}"
        time.sleep(1)


def is_driven_by_keys():
    """GRUB's menu on the VGA, seen, photographed, and answered by the PS/2 keyboard."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        disk, control = os.path.join(folder, "disk.img"), os.path.join(folder, "control")
        make = os.path.join(here, "make-firmware-disk")
        subprocess.run([make, "menu", disk, kernel, initrd], check=True)
        with Console([vmm_run, "--machine", "pc", "--firmware", SEABIOS, "--memory", "256M", "--vga", "std",
                      "--disk", disk + ",format=raw", "--timeout", "600", "--control", control]) as console:
            text = screen(control, "Debian by the keyboard", 100)
            assert "*Not this one" in text, text
            ask(control, f"screenshot {folder}/menu.png")
            ask(control, "type <down>")
            screen(control, "*Debian by the keyboard", 20)
            ask(control, "type <enter>")
            console.expect("user space reached on", 150)
            console.expect("guest# ", 20)
            console.type("poweroff -f\n")
            assert console.wait(30) == 0
        with open(f"{folder}/menu.png", "rb") as picture:
            assert picture.read(8) == b"\x89PNG\r\n\x1a\n"
        if os.environ.get("LIBVMM_PICTURES"):
            shutil.copy(f"{folder}/menu.png", os.environ["LIBVMM_PICTURES"])


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("firmware", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
    elif not os.path.exists(SEABIOS) or not shutil.which("grub-mkimage"):
        tests.skip("firmware", "seabios or grub-common is missing")
    else:
        tests.run("SeaBIOS, GRUB and Debian's kernel", boots_from_a_disk)
        tests.run("GRUB's menu on the screen, answered by keys", is_driven_by_keys)
    tests.end()


if __name__ == "__main__":
    main()
