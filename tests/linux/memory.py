#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Debian's stock cloud kernel takes memory that is plugged while it runs, and gives it back.

    memory.py VMM_RUN

The kernel and the initramfs are found as boot.py finds them.
"""

import glob
import json
import os
import socket
import sys
import tempfile
import time

from console import Console, Tests

vmm_run = sys.argv[1]
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs.gz")
# The nested machine's root carries no sockets; /dev/shm is memory everywhere.
path = os.path.join(tempfile.mkdtemp(dir="/dev/shm"), "control")
# What is plugged is for movable pages only, so that it can be given back.
APPEND = "console=ttyS0 quiet memhp_default_state=online_movable"


def ask(line):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(30)
        s.connect(path)
        s.sendall(line.encode() + b"\n")
        return json.loads(s.makefile().readline())


def slots():
    return ask("memory-slots")["memory_slots"]


def memory_of_guest(console):
    console.type("grep MemTotal /proc/meminfo\n")
    return int(console.expect(r"MemTotal: +(\d+) kB", 20).group(1)) // 1024


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s; the slots are {slots()}")
        time.sleep(0.2)


def resident(console):
    """RAM of the guest that the host holds, in MiB: it is shared memory with --control."""
    with open(f"/proc/{console.process.pid}/status", encoding="utf-8") as file:
        return int(file.read().split("RssShmem:")[1].split()[0]) // 1024


def plugged(console):
    before = memory_of_guest(console)
    assert "error" in ask("add-memory 100")
    assert "error" in ask("add-memory 99999")
    assert len(ask("add-memory 256")["memory_slots"]) == 1
    assert len(ask("add-memory 128")["memory_slots"]) == 2
    wait_for(lambda: all(s["reports"] > 0 for s in slots()))
    assert all(s["ost_status"] == 0 and s["told"] for s in slots()), slots()
    after = memory_of_guest(console)
    assert after - before in range(380, 390), f"{before} MiB, then {after}"


def used(console):
    """Files' pages are movable ones, so they come from what was plugged. (Under emulation each page
    that is touched first takes a millisecond.)"""
    before = resident(console)
    console.type("mkdir -p /mnt; mount -t tmpfs -o size=600m t /mnt; echo mounted-$((1 + 1))\n")
    console.expect("mounted-2", 20)
    console.type("dd if=/dev/zero of=/mnt/a bs=1M count=64; stat -c size-%s /mnt/a\n")
    console.expect(f"size-{64 << 20}\r", 90)
    assert resident(console) - before > 56, f"{before} MiB, then {resident(console)}"
    console.type("rm /mnt/a; echo removed-$((1 + 1))\n")
    console.expect("removed-2", 30)


def given_back(console):
    before, total = resident(console), memory_of_guest(console)
    assert "error" in ask("remove-memory 15")
    for slot in slots():
        ask(f"remove-memory {slot['slot']}")
    wait_for(lambda: not slots())
    left = memory_of_guest(console)
    assert total - left in range(380, 390), f"{total} MiB, then {left}"
    assert before - resident(console) > 56, f"{before} MiB, then {resident(console)}"
    ask("add-memory 128")  # the gap is used again
    wait_for(lambda: all(s["reports"] > 0 for s in slots()))
    assert memory_of_guest(console) - left in range(120, 132)


def there_after_a_reboot(console):
    total = memory_of_guest(console)
    console.type("reboot -f\n")
    console.expect("user space reached", 100)
    console.expect("guest# ", 20)
    assert abs(memory_of_guest(console) - total) < 8


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("memory hot plug", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
        tests.end()
    with Console([vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", APPEND, "--memory",
                  "256M,max=768M", "--cpus", "2", "--timeout", "600", "--control", path]) as console:
        console.expect("guest# ", 100)
        tests.run("plugged memory arrives, and Linux reports success", plugged, console)
        tests.run("it is used", used, console)
        tests.run("it is given back, to the host too", given_back, console)
        tests.run("a reboot finds what is plugged", there_after_a_reboot, console)
    tests.end()


if __name__ == "__main__":
    main()
