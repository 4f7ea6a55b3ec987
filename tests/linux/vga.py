#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Debian's stock kernel and its bochs driver on the VGA: the console that it draws, as we see it.

    vga.py VMM_RUN [compare]

The kernel is that of Debian's linux-image-amd64, unpacked in $LIBVMM_CACHE/kernels, the initramfs
$LIBVMM_CACHE/initramfs-vga.gz. Needs a complete KVM. With "compare" the same guest runs on QEMU's adapter
too, and the pictures have to be equal.
"""

import glob
import os
import socket
import sys
import tempfile
import time

from console import Console, Tests, ask

vmm_run = sys.argv[1]
cache = os.environ.get("LIBVMM_CACHE", "")
kernel = (glob.glob(cache + "/kernels/linux-image-amd64/boot/vmlinuz-*") or [""])[0]
initrd = cache + "/initramfs-vga.gz"
arguments = "console=tty0 console=ttyS0 quiet"
WIDTH, HEIGHT = 1024, 768
LINES = ["".join(chr(33 + (row * 7 + i) % 94) for i in range(60)) for row in range(40)]


def read_ppm(path):
    with open(path, "rb") as f:
        data = f.read()
    magic, width, height, depth = data.split(None, 4)[:4]
    assert (magic, depth) == (b"P6", b"255")
    width, height = int(width), int(height)
    return width, height, data[-width * height * 3:]


def write_lines(console):
    """A screen of known text, without a cursor."""
    console.expect("user space reached on", 100)
    console.expect("guest# ", 20)
    console.type("echo 0 >/sys/class/graphics/fbcon/cursor_blink; dmesg -n 1; stty -echo\n")
    console.expect("guest# ", 20)
    console.type("cat >/dev/shown 2>/dev/null <<'END' && printf '\\033[?25l\\033[2J\\033[H' >/dev/tty0 &&"
                 " cat /dev/shown >/dev/tty0 && sleep 1 && echo writ''ten\n")
    console.type("\n".join(LINES) + "\nEND\n")
    console.expect("written", 30)


def cells(picture):
    """The shapes on the screen: {(row, column): 8x16 pixels}."""
    width, height, data = picture
    found = {}
    for row in range(len(LINES)):
        for column in range(60):
            found[row, column] = b"".join(
                data[((row * 16 + y) * width + column * 8) * 3:][:24] for y in range(16))
    return found


def shows_the_text(picture):
    """Each character has one shape, and no two have the same."""
    assert picture[:2] == (WIDTH, HEIGHT), picture[:2]
    shapes = {}
    for (row, column), shape in cells(picture).items():
        assert shapes.setdefault(LINES[row][column], shape) == shape, (row, column)
    assert len(shapes) == 94 and len(set(shapes.values())) == 94
    assert any(shapes["#"]) and picture[2].count(0) < len(picture[2])


def ours(kind, folder):
    control = folder + "/control"
    with Console(
        [vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", arguments, "--memory", "256M",
         "--timeout", "600", "--verbose", "--transport", "pci", "--vga", kind, "--control", control]
    ) as console:
        write_lines(console)
        ask(control, f"screenshot {folder}/{kind}.ppm")
        ask(control, f"screenshot {folder}/{kind}.png")
        console.type("poweroff -f\n")
        assert console.wait(30) == 0, console.tail()
        assert "the guest misused" not in console.text(), console.text()
    with open(f"{folder}/{kind}.png", "rb") as f:
        assert f.read(8) == b"\x89PNG\r\n\x1a\n"
    return read_ppm(f"{folder}/{kind}.ppm")


def qemus(folder):
    monitor = folder + "/monitor"
    with Console(
        ["qemu-system-x86_64", "-accel", "kvm", "-m", "256", "-vga", "none", "-device",
         f"bochs-display,xres={WIDTH},yres={HEIGHT}", "-display", "none", "-serial", "stdio", "-no-reboot",
         "-monitor", f"unix:{monitor},server,nowait", "-kernel", kernel, "-initrd", initrd, "-append",
         arguments]
    ) as console:
        write_lines(console)
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(monitor)
            s.sendall(f"screendump {folder}/qemu.ppm\n".encode())
            time.sleep(2)
        console.type("poweroff -f\n")
        console.wait(30)
    return read_ppm(folder + "/qemu.ppm")


def draws(kind):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        shows_the_text(ours(kind, folder))


def draws_as_qemu():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        mine, other = ours("bochs", folder), qemus(folder)
        shows_the_text(mine)
        assert mine[:2] == other[:2], (mine[:2], other[:2])
        differ = sum(a != b for a, b in zip(mine[2], other[2]))
        assert differ == 0, f"{differ} bytes of the pictures differ"


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("vga", "LIBVMM_CACHE names no kernel with a bochs driver, or no initramfs for it")
        tests.end()
    if sys.argv[2:] == ["compare"]:
        tests.run("frame buffer console, bochs, as QEMU draws it", draws_as_qemu)
    else:
        tests.run("frame buffer console, std", draws, "std")
    tests.end()


if __name__ == "__main__":
    main()
