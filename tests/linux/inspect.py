#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The control socket, and vmm-inspect on a running stock Debian kernel with KASLR.

    inspect.py VMM_RUN VMM_INSPECT

The kernel and the initramfs are found as boot.py finds them.
"""

import glob
import json
import os
import re
import socket
import subprocess
import sys
import tempfile

from console import Console, Tests

vmm_run, vmm_inspect = sys.argv[1:3]
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs.gz")
# The nested machine's root carries no sockets; /dev/shm is memory everywhere.
path = os.path.join(tempfile.mkdtemp(dir="/dev/shm"), "control")


def ask(line):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(30)
        s.connect(path)
        s.sendall(line.encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            piece = s.recv(65536)
            if not piece:
                raise AssertionError(f"no answer to {line!r}")
            data += piece
        return json.loads(data)


def inspect(*what):
    r = subprocess.run([vmm_inspect, path, *what], capture_output=True, text=True, timeout=120,
                       check=False)
    assert r.returncode == 0, f"status {r.returncode}: {r.stderr}"
    return r.stdout


def control_socket(console):
    assert ask("status")["state"] == "running"
    assert "error" in ask("nonsense")
    assert "error" in ask("paging 99")
    assert ask("pause")["state"] == "paused"
    console.type("echo still-$((40 + 2))\n")
    assert not console.seen("still-42", 2), "the guest ran while it was paused"
    assert ask("resume")["state"] == "running"
    console.expect("still-42", 30)
    assert set(ask("help")["commands"]) >= {"status", "pause", "resume", "quit", "memory"}
    # A client that sends rubbish, or leaves, harms nobody.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.connect(path)
        s.sendall(b"x" * 5000)
    assert ask("status")["state"] == "running"


def banner_and_tasks(console):
    console.type("uname -r; sleep 1234 &\n")
    release = console.expect(r"\n(6\.[^\r]*cloud[^\r]*)\r", 20).group(1).decode()
    text = inspect("banner", "tasks")
    assert f"Linux version {release} " in text, text[:200]
    image = int(re.search(r"image at ([0-9a-f]+)", text).group(1), 16)
    assert 0xFFFFFFFF80000000 <= image < 0xFFFFFFFFC0000000
    names = re.findall(r"^ *\d+ (.*)$", text, re.M)
    for name in ("swapper/0", "init", "kthreadd", "sleep"):
        assert name in names, f"no task {name!r} in {names}"


def mapped_ranges(_):
    rows = inspect("ranges").splitlines()
    assert len(rows) > 50
    last = -1
    for row in rows:
        start, end = (int(x, 16) for x in row.split()[:2])
        assert last < start <= end, row
        last = end
    assert any(row.split()[2] == "r-xs" and row.startswith("ffffffff") for row in rows)


def the_button(console):
    assert ask("power-button")["state"] == "running"
    # Debian's cloud kernel has the button's driver as a module that is not loaded: the event's
    # interrupt is what can be seen.
    console.type("awk '/Ged/ {print \"ged=\" $2 + $3}' /proc/interrupts\n")
    console.expect(r"\nged=[1-9]", 20)


def quits(console):
    assert ask("quit")["state"] == "ended"
    assert console.wait(30) == 0
    assert not os.path.exists(path)


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("vmm-inspect", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
        tests.end()
    with Console([vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet",
                  "--memory", "512M", "--cpus", "2", "--timeout", "600", "--control", path]) as console:
        console.expect("guest# ", 200)
        tests.run("control socket: status, pause, resume, errors", control_socket, console)
        tests.run("vmm-inspect: banner and tasks with KASLR", banner_and_tasks, console)
        tests.run("vmm-inspect: mapped ranges", mapped_ranges, console)
        tests.run("the power button reaches the guest", the_button, console)
        tests.run("quit ends the VM and removes the socket", quits, console)
    tests.end()


if __name__ == "__main__":
    main()
