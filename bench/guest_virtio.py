#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Virtio devices driven by the same guest (tests/guests/virtio) under us and under QEMU microvm, turn by turn.

    guest_virtio.py BUILD_FOLDER

The guest polls and drives one queue; the time is that between its lines "begin" and "end". Same image, same
kind of backend, one vCPU, no I/O threads. Disks are on a memory file system, so that what is measured is the
device and not the disk.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from figures import report

build = sys.argv[1]
guest = os.path.join(build, "tests/guests/virtio.elf")
vmm_run = os.path.join(build, "examples/vmm-run")
TURNS = 3
told = subprocess.run([vmm_run, "--help"], capture_output=True, text=True, check=False).stdout


def ours(append, *devices):
    return [vmm_run, "--kernel", guest + ",format=pvh", "--append", append, "--debug-exit",
            "--transport", "mmio", *devices]


def qemu(append, *devices):
    return ["qemu-system-x86_64", "-M", "microvm,rtc=off", "-accel", "kvm", "-m", "256",
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-global",
            "virtio-mmio.force-legacy=false", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
            "-kernel", guest, "-append", append, *devices]


def measure(command):
    """Seconds between the guest's "begin" and "end"."""
    process = subprocess.Popen(["timeout", "100", *command], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begun = took = None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.strip() == b"begin":
            begun = time.perf_counter()
        elif line.strip() == b"end" and begun:
            took = time.perf_counter() - begun
    errors = process.stderr.read()
    process.wait()
    if took is None:
        sys.exit(f"{' '.join(command)}: {said!r} {errors!r}")
    return took


def compare(name, unit, scale, append, our_devices, qemu_devices, min_ratio, how, around=None):
    """`scale` over the seconds is the figure: more is better."""
    samples = {"ours": [], "QEMU": []}
    for _ in range(TURNS):
        for who, command in (("ours", ours(append, *our_devices)),
                             ("QEMU", qemu(append, *qemu_devices))):
            with around() if around else tempfile.TemporaryDirectory():
                samples[who].append(scale / measure(command))
    report("virtio", name, unit, samples["ours"], "QEMU", samples["QEMU"], more_is_better=True,
           min_ratio=min_ratio, how=how)


def disks(folder):
    image = os.path.join(folder, "disk.raw")
    with open(image, "wb") as file:
        for _ in range(64):
            file.write(os.urandom(1 << 20))
    our = ["--disk", image + ",format=raw"]
    theirs = ["-drive", f"id=d,file={image},format=raw,if=none,aio=io_uring", "-device",
              "virtio-blk-device,drive=d"]
    how = "a polling guest, raw image on a memory file system"
    for name, append, count, goal in (
            ("disk, 4 KiB random reads, depth 1", "size=4096 depth=1 count=3000", 3000, 1),
            ("disk, 4 KiB random reads, depth 32", "size=4096 depth=32 count=20000", 20000, 1.5),
            ("disk, 4 KiB random writes, depth 32", "size=4096 depth=32 write=1 count=8000",
             8000, 1),
            ("disk, 128 KiB in a row, depth 4", "size=131072 depth=4 count=2000 random=0", 2000,
             1)):
        for form, options in (("split", "event=1 indirect=1"), ("packed", "packed=1")):
            compare(f"{name}, {form}", "/s", count, f"mode=blk {append} {options}", our, theirs,
                    goal, how)


class Sink:
    """The other end of a stream socket: takes all, counts, or sends frames."""

    def __init__(self, path, frames=None):
        self.path, self.frames = path, frames
        self.listener = socket.socket(socket.AF_UNIX)
        if os.path.exists(path):
            os.unlink(path)
        self.listener.bind(path)
        self.listener.listen(1)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        connection, _ = self.listener.accept()
        buffer = bytearray(1 << 20)
        try:
            while self.frames and connection.send(self.frames):
                pass
            while connection.recv_into(buffer):
                pass
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.thread.join(10)


def network(folder):
    path = os.path.join(folder, "net")
    our = ["--net", "unix:" + path]
    theirs = ["-netdev", f"stream,id=n,server=off,addr.type=unix,addr.path={path}", "-device",
              "virtio-net-device,netdev=n"]
    how = "frames to and from a stream socket that a process empties or fills"
    for size, count in ((64, 8000), (1500, 8000)):
        append = f"mode=send device=1 queue=1 header=12 size={size} count={count}"
        compare(f"network, sending {size} bytes", "/s", count, append, our, theirs, 1, how,
                around=lambda: Sink(path))
        frame = len(b"x" * size).to_bytes(4, "big") + b"\xff" * 6 + b"R" * (size - 6)
        append = f"mode=receive device=1 size=2048 count={count}"
        compare(f"network, receiving {size} bytes", "/s", count, append, our, theirs, 1, how,
                around=lambda frame=frame: Sink(path, frame * 64))


def console(folder):
    out = os.path.join(folder, "console")
    count, size = 8000, 1024
    append = f"mode=send device=3 queue=1 size={size} count={count}"
    compare("console, writing", "MiB/s", count * size / (1 << 20), append,
            ["--console", "file:" + out],
            ["-chardev", "file,id=c,path=" + out, "-device", "virtio-serial-device", "-device",
             "virtconsole,chardev=c"], 1, "buffers of 1 KiB to a file on a memory file system")


def main():
    if not shutil.which("qemu-system-x86_64"):
        print("QEMU is missing (Debian: qemu-system-x86)")
        return 77
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        disks(folder)
        if "--net" in told:
            network(folder)
        if "--console" in told:
            console(folder)
    return 0


sys.exit(main())
