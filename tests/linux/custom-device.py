#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The example of a PCI device of one's own, driven from user space in a stock Debian guest.

    custom-device.py CUSTOM_DEVICE INVERTER_GUEST

INVERTER_GUEST is a static program, which is put into the guest beside what the initramfs
$LIBVMM_CACHE/initramfs-virtio.gz has; the kernel is vmlinuz-* in $LIBVMM_KERNELS. Needs a complete KVM.
"""

import glob
import os
import subprocess
import sys
import tempfile

from console import Console, Tests

custom_device, program = sys.argv[1:3]
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs-virtio.gz")


def with_program(folder):
    """The initramfs, and behind it a second archive with the program: Linux unpacks both."""
    with open(program, "rb") as file:
        os.makedirs(folder + "/root")
        with open(folder + "/root/inverter-guest", "wb") as copy:
            copy.write(file.read())
    os.chmod(folder + "/root/inverter-guest", 0o755)
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=b"inverter-guest\n",
                             cwd=folder + "/root", capture_output=True, check=True).stdout
    with open(initrd, "rb") as file, open(folder + "/initrd", "wb") as both:
        data = file.read()
        both.write(data + bytes(-len(data) % 4) + archive)
    return folder + "/initrd"


def driven_from_user_space():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        with Console([custom_device, kernel, with_program(folder),
                      "console=ttyS0 quiet iomem=relaxed"]) as console:
            console.expect("guest# ", 120)
            console.type("/inverter-guest\n")
            console.expect(r"(all is well|FAILED.*)\r", 60)
            assert "FAILED" not in console.text(), console.text()
            console.expect("guest# ", 20)
            hot_plug(console)
            console.type("poweroff -f\n")
            assert console.wait(30) == 0, console.tail()
            assert "the guest misused" not in console.text(), console.text()


def hot_plug(console):
    """In and out of the slot behind the root port, twice; it works each time."""
    for _ in range(2):
        console.type("\x01p")
        for _ in range(20):
            console.type("ls /sys/bus/pci/devices | grep -c :01:; sleep 1\n")
            if console.expect(r"\n([01])\r", 20).group(1) == b"1":
                break
        console.type("sleep 2; /inverter-guest 0000:01:00.0\n")
        console.expect(r"(all is well|FAILED.*)\r", 60)
        assert "FAILED" not in console.text(), console.text()
        console.type("\x01u")
        console.expect("inverter-hot is unplugged", 60)  # after some seconds to change one's mind
        console.type("sleep 2; ls /sys/bus/pci/devices | grep -c :01:\n")
        console.expect(r"\n0\r", 20)


def main():
    tests = Tests()
    if kernel and os.path.exists(initrd):
        tests.run("the inverter, DMA and MSI-X, hot plug", driven_from_user_space)
    else:
        tests.skip("custom-device", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
    tests.end()


if __name__ == "__main__":
    main()
