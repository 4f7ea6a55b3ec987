#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Debian's stock cloud kernel and its own virtio drivers, on the micro board.

    virtio.py VMM_RUN [--transport pci|mmio]

Both transports are tested unless one is named.

The kernel is vmlinuz-* in the folder $LIBVMM_KERNELS, the initramfs $LIBVMM_CACHE/initramfs-virtio.gz
(make-initramfs makes it, with the modules of the drivers). Needs a complete KVM.
"""

import glob
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

from console import Console, Tests

vmm_run = sys.argv[1]
transports = sys.argv[3:4] if sys.argv[2:3] == ["--transport"] else ["mmio", "pci"]
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs-virtio.gz")


def guest(extra, transport, cpus=1):
    console = Console(
        [vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet",
         "--memory", "512M", "--cpus", str(cpus), "--timeout", "600", "--verbose",
         "--transport", transport, *extra]
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


def random_numbers(transport, cpus):
    with guest(["--rng"], transport, cpus) as console:
        command(console, "cat /sys/class/misc/hw_random/rng_current", r"\nvirtio_rng\.\d+\r")
        sums = [
            command(console, "head -c 100000 /dev/hwrng >/tmp/r; wc -c </tmp/r; md5sum </tmp/r",
                    r"\n100000\r\n([0-9a-f]{32})", 60).group(1)
            for _ in range(2)
        ]
        assert sums[0] != sums[1]
        command(console, "gzip -c /tmp/r | wc -c", r"\n100\d{3}\r")  # does not shrink
        power_off(console)


def file_system(image):
    """Files of many sizes on a fresh file system; what the guest changes is checked outside."""
    with open(image, "wb") as disk:
        disk.truncate(64 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-F", image], check=True)


def disk_is_written(transport, cpus, queues):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        image = folder + "/disk"
        file_system(image)
        with guest(["--disk", f"{image},format=raw,serial=S-1,queues={queues}"], transport, cpus) as console:
            command(console, "cat /sys/block/vda/serial; echo", r"\nS-1\r")
            command(console, "ls /sys/block/vda/mq | wc -l", rf"\n{min(queues, cpus)}\r")
            command(console, "mount /dev/vda /mnt && echo mount''ed", "mounted")
            command(console, "cp -r /bin /modules /init /mnt/; head -c 3000001 /dev/urandom >/mnt/big;"
                    " for i in 1 2 3 4; do cp /mnt/big /mnt/big$i & done; wait; echo copi''ed",
                    "copied", 60)
            digest = command(console, "md5sum /mnt/big", r"\n([0-9a-f]{32})  /mnt/big\r", 30).group(1)
            command(console, "umount /mnt; sync; echo unmount''ed", "unmounted", 30)
            command(console, "echo 3 >/proc/sys/vm/drop_caches; mount -o ro /dev/vda /mnt;"
                    " cmp /mnt/big /mnt/big4 && cmp /init /mnt/init && echo sa''me; umount /mnt",
                    "same", 60)
            console.expect("guest# ", 20)
            power_off(console)
        check = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
        assert check.returncode == 0, check.stdout
        for name in ("big", "big1", "big4"):
            data = subprocess.run(["debugfs", "-R", f"cat /{name}", image], capture_output=True,
                                  check=True).stdout
            assert hashlib.md5(data).hexdigest() == digest.decode(), name


def read_only_disk(transport):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        image = folder + "/disk"
        with open(image, "wb") as disk:
            disk.write(b"untouched" + bytes(1 << 20)[9:])
        with guest(["--disk", image + ",format=raw,readonly=on"], transport) as console:
            command(console, "cat /sys/block/vda/ro", r"\n1\r")
            command(console, "head -c 9 /dev/vda; echo", r"\nuntouched\r")
            command(console, "echo x >/dev/vda || echo refus''ed", "refused")
            power_off(console)


def pci_bus():
    """The bus by its own listing, both ways to configuration space, and interrupts by message."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        image = folder + "/disk"
        with open(image, "wb") as disk:
            disk.truncate(1 << 20)
        with guest(["--disk", image + ",format=raw", "--rng"], "pci") as console:
            command(console, "cd /sys/bus/pci/devices; for d in *; do echo $d $(cat $d/vendor $d/device"
                    " $d/class); done; cd /", r"0000:00:00.0 0x1b36 0x0008 0x060000\r\n"
                    r"0000:00:01.0 0x1af4 0x1042 0x018000\r\n"
                    r"0000:00:02.0 0x1af4 0x1044 0x00ff00\r\n")
            command(console, "dmesg | grep -c 'MMCONFIG.*\\[bus 00-ff\\]'; echo", r"\n[1-9]\r")
            command(console, "grep -c MSI.*virtio /proc/interrupts", r"\n[2-9]\r")
            command(console, "cat /sys/bus/pci/devices/0000:00:01.0/resource",
                    r"0x00000000c000[0-9a-f]{4} 0x00000000c000[0-9a-f]{4} 0x0000000000\d40204")
            command(console, "head -c 1 /sys/bus/pci/devices/0000:00:01.0/config | hexdump -C",
                    r"00000000  f4")
            power_off(console)


def legacy_driver():
    """Linux's driver told to use the legacy interface; what it wrote is compared outside."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        image = folder + "/disk"
        with open(image, "wb") as disk:
            disk.truncate(8 << 20)
        with guest(["--disk", image + ",format=raw", "--rng"], "pci-transitional") as console:
            command(console, "rmmod virtio_pci && insmod /modules/*-virtio_pci.ko force_legacy=1 &&"
                    " cat /sys/bus/pci/devices/0000:00:01.0/device", r"\n0x1001\r")
            command(console, "cat /sys/bus/virtio/devices/virtio*/features | cut -c33 | sort -u",
                    r"\n0\r")  # none has VIRTIO_F_VERSION_1
            command(console, "head -c 99 /dev/hwrng >/tmp/r; head -c 3999901 /dev/urandom >>/tmp/r;"
                    " dd if=/tmp/r of=/dev/vda bs=64k; sync; echo 3 >/proc/sys/vm/drop_caches;"
                    " head -c 4000000 /dev/vda | cmp - /tmp/r && echo sa''me", "same", 60)
            digest = command(console, "md5sum </tmp/r", r"\n([0-9a-f]{32})", 30).group(1)
            power_off(console)
        with open(image, "rb") as disk:
            assert hashlib.md5(disk.read(4000000)).hexdigest() == digest.decode()


def resident_mib(console):
    with open(f"/proc/{console.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) // 1024


def balloon_moves_memory():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        with guest(["--balloon", "--control", folder + "/control", "--memory", "192M",
                    "--timeout", "600"], "mmio") as console:
            client = socket.socket(socket.AF_UNIX)
            client.connect(folder + "/control")
            answers = client.makefile("rw")

            def ask(text):
                answers.write(text + "\n")
                answers.flush()
                return json.loads(answers.readline())

            def wait_for(target):
                ask(f"balloon {target}")
                deadline = time.monotonic() + 60
                while ask("balloon")["actual"] != target:
                    assert time.monotonic() < deadline, ask("balloon")
                    time.sleep(0.2)

            # Have the guest touch most of its memory and free it again. (Under emulation a page that is
            # touched first takes a millisecond.) Free page reporting may take it too.
            touch = "dd if=/dev/zero of=/tmp/x bs=1M count=80 2>/dev/null; echo "
            command(console, touch + "touch''ed", "touched", 120)
            full = resident_mib(console)
            assert full > 100, full
            command(console, "rm /tmp/x; echo remov''ed", "removed")
            wait_for(100 << 20)
            less = resident_mib(console)
            assert less < full - 50, (full, less)
            assert ask("balloon")["total"] > 0
            wait_for(0)
            command(console, touch + "agai''n", "again", 120)
            more = resident_mib(console)
            assert more > less + 50, (full, less, more)
            print(f"# resident: {full} MiB, inflated {less} MiB, deflated and used again {more} MiB")
            assert "error" in ask("balloon -1") and "error" in ask("balloon 1x")
            power_off(console)


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("virtio", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
        tests.end()
    for transport in transports:
        for cpus in (1, 2):
            tests.run(f"hwrng, {transport}, {cpus} vCPU", random_numbers, transport, cpus)
        for cpus, queues in ((1, 1), (2, 2)):
            tests.run(f"disk, {transport}, {cpus} vCPU, {queues} queues", disk_is_written,
                      transport, cpus, queues)
        tests.run(f"disk, {transport}, read-only", read_only_disk, transport)
    if "pci" in transports:
        tests.run("what is on the PCI bus", pci_bus)
        tests.run("legacy driver", legacy_driver)
    tests.run("balloon", balloon_moves_memory)
    tests.end()


if __name__ == "__main__":
    main()
