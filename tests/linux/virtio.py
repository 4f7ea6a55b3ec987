#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Debian's stock cloud kernel and its own virtio drivers, on the micro board.

    virtio.py VMM_RUN

The kernel is vmlinuz-* in the folder $LIBVMM_KERNELS, the initramfs $LIBVMM_CACHE/initramfs-virtio.gz
(make-initramfs makes it, with the modules of the drivers). Needs a complete KVM.
"""

import glob
import os
import sys

from console import Console, Tests

vmm_run = sys.argv[1]
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs-virtio.gz")


def guest(extra, cpus=1):
    console = Console(
        [vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet",
         "--memory", "512M", "--cpus", str(cpus), "--timeout", "120", "--verbose", *extra]
    )
    console.expect("user space reached on", 100)
    console.expect("guest# ", 20)
    return console


def command(console, text, answer, seconds=20):
    console.type(text + "\n")
    return console.expect(answer, seconds)


def power_off(console):
    console.type("poweroff -f\n")
    status = console.wait(30)
    assert status == 0, f"exit status {status}\n{console.tail()}"
    assert "the guest misused" not in console.text(), console.text()


def random_numbers(cpus):
    with guest(["--rng"], cpus) as console:
        command(console, "cat /sys/class/misc/hw_random/rng_current", r"\nvirtio_rng\.\d+\r")
        sums = [
            command(console, "head -c 100000 /dev/hwrng >/tmp/r; wc -c </tmp/r; md5sum </tmp/r",
                    r"\n100000\r\n([0-9a-f]{32})", 60).group(1)
            for _ in range(2)
        ]
        assert sums[0] != sums[1]
        command(console, "gzip -c /tmp/r | wc -c", r"\n100\d{3}\r")  # does not shrink
        power_off(console)


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("virtio", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
        tests.end()
    for cpus in (1, 2):
        tests.run(f"hwrng, {cpus} vCPU", random_numbers, cpus)
    tests.end()


if __name__ == "__main__":
    main()
