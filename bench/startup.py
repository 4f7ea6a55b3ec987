#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Start-up: from process start to the guest's first port write, and private memory, beside the peers.

    startup.py BUILD_FOLDER [RUNS]

Runs turn by turn in one session: bench-floor (the same ioctls and nothing else), vmm-run (micro,
256 MiB, serial), QEMU microvm where it is installed and can use this KVM. Prints medians, spreads and
ratios; writes startup.json into the build folder. The guest writes to port 0xf4 and the process ends, so
wall and CPU time are those of the whole process, tear-down included.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time

build = sys.argv[1]
runs = int(sys.argv[2]) if len(sys.argv) > 2 else 21
guest = os.path.join(build, "tests/guests/first-write64.bin")
spin = os.path.join(build, "tests/guests/spin64.bin")
vmm_run = os.path.join(build, "examples/vmm-run")


def make_firmware():
    """64 KiB for the top of 4 GiB; at the reset vector: xor ax, ax; out 0xf4, al; hlt."""
    path = os.path.join(build, "bench-firmware.bin")
    image = bytearray(b"\xf4" * 65536)
    image[0xFFF0:0xFFF5] = b"\x31\xc0\xe6\xf4\xf4"
    with open(path, "wb") as file:
        file.write(image)
    return path


def qemu_command(firmware):
    return ["qemu-system-x86_64", "-M", "microvm,rtc=off,x-option-roms=off", "-accel", "kvm", "-m",
            "256", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "null", "-bios",
            firmware, "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]


def once(command):
    """(wall ms, CPU ms, status) of one run."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = (time.perf_counter() - start) * 1e3
    process.returncode = os.waitstatus_to_exitcode(status)
    return wall, (usage.ru_utime + usage.ru_stime) * 1e3, process.returncode


def private_kib(command, settle):
    """Private memory while the guest spins: the process's own, without the guest's pages."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    time.sleep(settle)
    private, in_guest, size = 0, False, 0
    with open(f"/proc/{process.pid}/smaps", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if "-" in fields[0] and not fields[0].endswith(":"):
                low, high = (int(x, 16) for x in fields[0].split("-"))
                size = high - low
                in_guest = size == 256 << 20
            elif fields[0] in ("Private_Clean:", "Private_Dirty:") and not in_guest:
                private += int(fields[1])
    process.terminate()
    process.wait()
    return private


def main():
    commands = {"floor": [os.path.join(build, "bench/bench-floor"), guest],
                "libvmm": [vmm_run, "--kernel", guest + ",format=flat64", "--debug-exit"]}
    if shutil.which("qemu-system-x86_64"):
        command = qemu_command(make_firmware())
        if once(["timeout", "10", *command])[2] == 1:
            commands["qemu"] = command
        else:
            print("qemu: it does not run on this KVM, so it is left out")
    samples = {name: [] for name in commands}
    for turn in range(runs + 2):
        for name, command in commands.items():
            wall, cpu, status = once(command)
            if status != 1:
                sys.exit(f"{name}: status {status}: {' '.join(command)}")
            if turn >= 2:
                samples[name].append((wall, cpu))
    result = {}
    print(f"{'':8} {'wall ms':>22} {'CPU ms':>22}   ratio to the floor")
    for name, rows in samples.items():
        walls, cpus = zip(*rows)
        result[name] = {"wall_ms": statistics.median(walls), "cpu_ms": statistics.median(cpus),
                        "wall_spread": [min(walls), max(walls)], "cpu_spread": [min(cpus), max(cpus)]}
        r, f = result[name], result["floor"]
        print(f"{name:8} {r['wall_ms']:7.2f} ({min(walls):.1f} to {max(walls):.1f})"
              f" {r['cpu_ms']:9.2f} ({min(cpus):.1f} to {max(cpus):.1f})"
              f"   wall {r['wall_ms'] / f['wall_ms']:.2f}, CPU {r['cpu_ms'] / max(f['cpu_ms'], 0.01):.2f}")
    result["private_kib"] = private_kib([vmm_run, "--kernel", spin + ",format=flat64"], 1.0)
    print(f"private memory of vmm-run beside the guest's: {result['private_kib']} KiB")
    result["runs"] = runs
    with open(os.path.join(build, "startup.json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)


main()
