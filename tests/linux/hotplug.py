#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Disks and network cards that come and go while Debian's stock kernel runs: PCI Express slots, looked
after by the kernel's own pciehp.

    hotplug.py VMM_RUN

The kernel is vmlinuz-* in the folder $LIBVMM_KERNELS, the initramfs $LIBVMM_CACHE/initramfs-net.gz.
Needs a complete KVM.
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
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs-net.gz")


class Control:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw")

    def ask(self, text):
        self.file.write(text + "\n")
        self.file.flush()
        return json.loads(self.file.readline())

    def done(self, text):
        answer = self.ask(text)
        assert "error" not in answer, answer
        return answer

    def devices(self):
        return [slot["device"] for slot in self.done("slots")["slots"]]

    def wait_for(self, devices, seconds=40):
        deadline = time.monotonic() + seconds
        while self.devices() != devices:
            assert time.monotonic() < deadline, self.devices()
            time.sleep(0.2)


def command(console, text, answer, seconds=30):
    console.type(text + "\n")
    return console.expect(answer, seconds)


def wait_in_guest(console, condition, word):
    command(console, f"for i in $(seq 30); do {condition} && break; sleep 1; done;"
            f" {condition} && echo {word[:2]}''{word[2:]}", word, 60)


def refusals(control, image):
    for text, words in ((f"plug 9 disk {image},format=raw", "there are 2 slots"),
                        ("plug 0 disk /nowhere,format=raw", "No such file"),
                        (f"plug 0 disk {image},format=raw,if=nvme", "if=virtio"),
                        ("plug 0 net nothing", "comes first"),
                        ("plug 0", "SLOT disk"),
                        ("unplug 0", "No such device"),
                        ("unplug 7", "No such file"),
                        ("unplug 0 now", "Invalid")):
        answer = control.ask(text)
        assert words in answer.get("error", ""), (text, answer)
    assert control.devices() == ["none", "none"]


def disk_comes_and_goes(console, control, image):
    control.done(f"plug 0 disk {image},format=raw,serial=hot")
    assert "taken" in control.ask(f"plug 0 disk {image},format=raw")["error"]
    assert "in use" in control.ask(f"plug 1 disk {image},format=raw")["error"]
    wait_in_guest(console, "[ -e /sys/block/vda ]", "appeared")
    command(console, "cat /sys/block/vda/serial; echo", r"\nhot\r")
    command(console, "mount /dev/vda /mnt; head -c 3000001 /dev/urandom >/mnt/file; md5sum </mnt/file;"
            " umount /mnt", r"\n([0-9a-f]{32})  -\r", 60)
    digest = console.output[: console.at].decode().split()[-2]
    control.done("unplug 0")
    control.wait_for(["none", "none"])
    wait_in_guest(console, "! [ -e /sys/block/vda ]", "vanished")
    check = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
    data = subprocess.run(["debugfs", "-R", "cat /file", image], capture_output=True,
                          check=True).stdout
    assert hashlib.md5(data).hexdigest() == digest


def card_comes_and_goes(console, control):
    for _ in range(2):
        control.done("plug 1 net user,mac=02:00:00:00:00:07")
        wait_in_guest(console, "[ -e /sys/class/net/eth0 ]", "appeared")
        command(console, "cat /sys/class/net/eth0/address", r"\n02:00:00:00:00:07\r")
        command(console, "ifconfig eth0 10.0.2.15 netmask 255.255.255.0; ping -c 2 10.0.2.2",
                "2 packets received")
        control.done("unplug 1")
        control.wait_for(["none", "none"])
        wait_in_guest(console, "! [ -e /sys/class/net/eth0 ]", "vanished")


def hot_plug(cpus):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        image = folder + "/disk"
        with open(image, "wb") as disk:
            disk.truncate(32 << 20)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-F", image], check=True)
        console = Console(
            [vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet",
             "--memory", "256M", "--cpus", str(cpus), "--timeout", "240", "--verbose", "--transport",
             "pci", "--plug-slots", "2", "--control", folder + "/control"])
        with console:
            console.expect("user space reached on", 100)
            console.expect("guest# ", 20)
            control = Control(folder + "/control")
            refusals(control, image)
            disk_comes_and_goes(console, control, image)
            card_comes_and_goes(console, control)
            control.done(f"plug 0 disk {image},format=raw,readonly=on")  # it is there at the end
            wait_in_guest(console, "[ -e /sys/block/vda ]", "appeared")
            command(console, "cat /sys/block/vda/ro", r"\n1\r")
            console.type("poweroff -f\n")
            assert console.wait(30) == 0, console.tail()
            assert "the guest misused" not in console.text(), console.text()


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("hot plug", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
        tests.end()
    tests.run("disks and network cards come and go, 2 vCPUs", hot_plug, 2)
    tests.end()


if __name__ == "__main__":
    main()
