#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Sockets, consoles and input devices with a stock kernel and its own drivers.

    vsock-console.py VMM_RUN VSOCK_GUEST [mmio] [pci]

The kernel is vmlinuz-* in the folder $LIBVMM_KERNELS, the initramfs $LIBVMM_CACHE/initramfs-ports.gz.
Needs a complete KVM.
"""

import fcntl
import glob
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

from console import Console, Tests

vmm_run, program = sys.argv[1:3]
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs-ports.gz")


def with_program(folder):
    """The initramfs, and behind it a second archive with the program: Linux unpacks both."""
    os.makedirs(folder + "/root")
    with open(program, "rb") as file, open(folder + "/root/vsock-guest", "wb") as copy:
        copy.write(file.read())
    os.chmod(folder + "/root/vsock-guest", 0o755)
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=b"vsock-guest\n",
                             cwd=folder + "/root", capture_output=True, check=True).stdout
    with open(initrd, "rb") as file, open(folder + "/initrd", "wb") as both:
        data = file.read()
        both.write(data + bytes(-len(data) % 4) + archive)
    return folder + "/initrd"


def start(folder, transport, *options):
    console = Console(
        [vmm_run, "--kernel", kernel, "--initrd", with_program(folder), "--append",
         "console=ttyS0 quiet", "--memory", "192M", "--cpus", "2", "--timeout", "600", "--verbose",
         "--transport", transport, *options])
    console.expect("user space reached on", 100)
    console.expect("guest# ", 20)
    return console


def end(console):
    console.type("poweroff -f\n")
    assert console.wait(30) == 0, console.tail()
    assert "the guest misused" not in console.text(), console.text()
    assert "insmod" not in console.text(), console.text()


def connected(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(40)
    s.connect(path)
    return s


def read_all(s):
    data = b""
    while part := s.recv(1 << 16):
        data += part
    return data


# Sockets ------------------------------------------------------------------------------------------


def host_connects(console, path, count):
    console.type("/vsock-guest listen 1234\n")
    console.expect("vsock-guest: listening", 30)
    data = random.Random(1).randbytes(count)
    with connected(path) as s:
        s.sendall(b"CONNECT 1234\n")
        greeting = b""
        while not greeting.endswith(b"\n"):
            greeting += s.recv(1)
        assert re.fullmatch(rb"OK \d+\n", greeting), greeting

        def send():
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = read_all(s)
        sender.join()
    assert got == data, (len(got), len(data))
    console.expect(f"vsock-guest: echoed {count} bytes", 20)
    console.expect("guest# ", 20)
    with connected(path) as s:  # nobody listens there now
        s.sendall(b"CONNECT 1234\n")
        assert s.recv(10) == b""


def guest_connects(console, path, count):
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(60)
    listener.bind(path + "_80")
    listener.listen()

    def echo():
        s, _ = listener.accept()
        with s:
            while part := s.recv(1 << 16):
                s.sendall(part)

    server = threading.Thread(target=echo)
    server.start()
    console.type(f"/vsock-guest connect 80 {count}\n")
    console.expect(f"vsock-guest: {count} bytes there and back", 60)
    server.join()
    console.type("/vsock-guest refused 81\n")
    console.expect("vsock-guest: refused", 20)
    listener.close()


# Consoles and ports -------------------------------------------------------------------------------


def resize_is_seen(console, rows, columns):
    fcntl.ioctl(console.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    console.process.send_signal(signal.SIGWINCH)
    for _ in range(10):
        console.type("stty size\n")
        if console.expect(r"\n(\d+ \d+)\r", 20).group(1).decode() == f"{rows} {columns}":
            return
        time.sleep(0.3)
    raise AssertionError(console.tail())


def terminal(transport):
    """The shell of the initramfs on hvc0: its kernel console too, on our terminal."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        with Console(
                [vmm_run, "--kernel", kernel, "--initrd", initrd, "--append",
                 "console=ttyS0 console=hvc0 quiet", "--memory", "192M", "--timeout", "600",
                 "--verbose", "--transport", transport, "--serial", "file:" + folder + "/serial",
                 "--console", "stdio"]) as console:
            # The console is there once its module is; the shell opens it then.
            console.expect("guest# ", 120)
            console.type("cat /proc/consoles; tty\n")
            console.expect("hvc0", 20)
            resize_is_seen(console, 50, 132)
            resize_is_seen(console, 24, 80)
            before = time.monotonic()
            console.type("yes 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"
                         " | head -n 512; echo en''d\n")
            console.expect("\nend\r", 60)
            seconds = time.monotonic() - before
            lines = console.text().count("0123456789abcdef" * 3 + "0123456789abcde\n")
            assert lines == 512, lines
            print(f"# {transport}: 32 KiB through hvc0 in {seconds:.2f} s", flush=True)
            end(console)


def agent_port(console, path):
    console.type("cat /sys/class/virtio-ports/vport*/name\n")
    console.expect("org.example.agent", 20)
    console.type("P=/dev/$(basename $(dirname $(grep -l agent /sys/class/virtio-ports/*/name)))\n")
    console.type("echo to hvc0 >/dev/hvc0\n")
    data = random.Random(2).randbytes(300000)
    with connected(path) as s:
        console.type("head -c 300000 $P >/tmp/in; cat /tmp/in >$P; echo do''ne\n")
        s.sendall(data)
        got = b""
        while len(got) < len(data):
            part = s.recv(1 << 16)
            assert part, len(got)
            got += part
        assert got == data
        console.expect("\ndone\r", 30)
    console.type("head -c 1 $P | wc -c\n")  # the other end is not there: the end of the file
    console.expect(r"\n0\r", 20)


# Input --------------------------------------------------------------------------------------------


def inputs(console, path):
    console.type("cat /sys/class/input/event*/device/name\n")
    for kind in ("keyboard", "tablet", "mouse"):
        console.expect("libvmm " + kind, 20)
    control = connected(path).makefile("rw")

    def command(text):
        control.write(text + "\n")
        control.flush()
        answer = control.readline()
        assert "error" not in answer, answer

    for kind, commands, seen in (
            ("keyboard", ["key 30", "key 42 1", "key 42 0"],
             ["1 30 1", "1 30 0", "1 42 1", "1 42 0"]),
            ("tablet", ["pointer 100 32767"], ["3 0 100", "3 1 32767"]),
            ("mouse", ["pointer by -5 3"], ["2 0 -5", "2 1 3"])):
        console.type(f"/vsock-guest events /dev/input/$(basename $(dirname $(dirname $(grep -l "
                     f"{kind} /sys/class/input/event*/device/name)))) {len(seen)}\n")
        console.expect("vsock-guest: waiting", 20)
        for text in commands:
            command(text)
        for text in seen:
            console.expect(f"event {text}\r", 20)
        console.expect("vsock-guest: no more", 20)
    control.close()


def devices(transport):
    """All of them in one guest."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        with start(folder, transport, "--vsock", f"42,{folder}/v", "--console",
                   f"file:{folder}/log", "--console",
                   f"unix:{folder}/agent,name=org.example.agent", "--input", "keyboard", "--input",
                   "tablet", "--input", "mouse", "--control", folder + "/control") as console:
            host_connects(console, folder + "/v", 3000000)
            guest_connects(console, folder + "/v", 3000000)
            agent_port(console, folder + "/agent")
            inputs(console, folder + "/control")
            end(console)
        assert not os.path.exists(folder + "/v")
        with open(folder + "/log", encoding="ascii") as log:
            assert "to hvc0" in log.read()


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("ports", "LIBVMM_KERNELS and LIBVMM_CACHE name no kernel and initramfs")
        tests.end()
    for transport in sys.argv[3:] or ("mmio", "pci"):
        for test in (devices, terminal):
            tests.run(f"{test.__name__}, {transport}", test, transport)
    tests.end()


if __name__ == "__main__":
    main()
