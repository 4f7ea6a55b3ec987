#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Whole machines: start, tear-down, memory, idling, a hundred at once; Linux to its first process.

    machines.py BUILD_FOLDER [--linux KERNEL_FOLDER]

Peers run turn by turn in the same session: bench-floor (the same ioctls and nothing else), and QEMU 7.2's
boards microvm and pc where it is installed and can use this KVM. A small guest writes to port 0xf4 as its first act, and
the process ends: wall and CPU time are those of the whole process, tear-down included. With --linux also a
stock kernel (bzImage) is booted to its first process, by us and by QEMU, with the same initramfs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time

from figures import report

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("build")
parser.add_argument("--linux", metavar="FOLDER", help="has vmlinuz-*")
parser.add_argument("--initramfs")
parser.add_argument("--runs", type=int, default=15)
parser.add_argument("--machines", type=int, default=100)
args = parser.parse_args()

guests = os.path.join(args.build, "tests/guests")
vmm_run = os.path.join(args.build, "examples/vmm-run")
floor = os.path.join(args.build, "bench/bench-floor")
first_write = os.path.join(guests, "first-write64.bin")
spin = os.path.join(guests, "spin64.bin")
idle = os.path.join(guests, "idle64.bin")
quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
QEMU = "qemu-system-x86_64"
QEMU_DEVICES = ["-drive", "driver=null-co,size=64M,if=none,id=disk", "-device", "virtio-blk-device,drive=disk",
                "-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net",
                "-device", "virtio-serial-device", "-chardev", "file,path=/dev/null,id=console",
                "-device", "virtconsole,chardev=console", "-device", "virtio-rng-device",
                "-device", "virtio-balloon-device"]


def make_firmware():
    """64 KiB for the top of 4 GiB; at the reset vector: xor ax, ax; out 0xf4, al; hlt."""
    path = os.path.join(args.build, "bench-firmware.bin")
    image = bytearray(b"\xf4" * 65536)
    image[0xFFF0:0xFFF5] = b"\x31\xc0\xe6\xf4\xf4"
    with open(path, "wb") as file:
        file.write(image)
    return path


def qemu(*more, board="microvm,rtc=off,x-option-roms=off"):
    return [QEMU, "-M", board, "-accel", "kvm", "-m", "256",
            "-nodefaults", "-no-user-config", "-display", "none", *more]


def qemu_boards(*more):
    return {"QEMU microvm": qemu(*more), "QEMU pc": qemu(*more, board="pc")}


def once(command):
    """(wall ms, CPU ms, status) of one run."""
    start = time.perf_counter()
    process = subprocess.Popen(command, **quiet)
    _, status, usage = os.wait4(process.pid, 0)
    wall = (time.perf_counter() - start) * 1e3
    process.returncode = os.waitstatus_to_exitcode(status)
    return wall, (usage.ru_utime + usage.ru_stime) * 1e3, process.returncode


def turns(commands, runs, status):
    """Name -> list of (wall, CPU), one of each in turn; two rounds of warming up."""
    samples = {name: [] for name in commands}
    for turn in range(runs + 2):
        for name, command in commands.items():
            wall, cpu, got = once(command)
            if got != status:
                sys.exit(f"{name}: status {got}: {' '.join(command)}")
            if turn >= 2:
                samples[name].append((wall, cpu))
    return {name: tuple(zip(*rows)) for name, rows in samples.items()}


def start_up(has_qemu):
    commands = {"floor": [floor, first_write],
                "libvmm": [vmm_run, "--kernel", first_write + ",format=flat64", "--debug-exit"]}
    if has_qemu:
        commands.update(qemu_boards("-serial", "null", "-bios", make_firmware(), "-device",
                                    "isa-debug-exit,iobase=0xf4,iosize=4"))
    got = turns(commands, args.runs, 1)
    how = "256 MiB, serial port; process start to its end after the guest's first port write"
    report("start", "wall time", "ms", got["libvmm"][0], "floor", got["floor"][0],
           min_ratio=0.8, how=how)
    report("start", "CPU time", "ms", got["libvmm"][1], "floor", got["floor"][1], min_ratio=0.5,
           how=how)
    for board in ("QEMU microvm", "QEMU pc") if has_qemu else ():
        for what, samples in enumerate(("wall time", "CPU time")):
            report("start", f"{samples} beside {board}", "ms", got["libvmm"][what], "QEMU",
                   got[board][what], min_ratio=4, how=how)


def private_kib(pid):
    """Private memory without the guest's 256 MiB."""
    private, in_guest = 0, False
    with open(f"/proc/{pid}/smaps", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if "-" in fields[0] and not fields[0].endswith(":"):
                low, high = (int(x, 16) for x in fields[0].split("-"))
                in_guest = high - low == 256 << 20
            elif fields[0] in ("Private_Clean:", "Private_Dirty:") and not in_guest:
                private += int(fields[1])
    return private


def cpu_ms(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def switches(pid):
    """Context switches of all threads: each wake-up makes one."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    return total


def end(processes):
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


def all_devices(folder):
    """vmm-run with what it has: a disk, the network, a console, random numbers, a balloon."""
    disk = os.path.join(folder, "bench-disk.raw")
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    options = {"--disk": disk + ",format=raw", "--net": "user", "--console": "file:/dev/null",
               "--rng": None, "--balloon": None}
    told = subprocess.run([vmm_run, "--help"], capture_output=True, text=True, check=False).stdout
    command = [vmm_run, "--kernel", idle + ",format=flat64", "--transport", "pci"]
    named = []
    for option, value in options.items():
        if option in told:
            command += [option] + ([value] if value else [])
            named.append(option[2:])
    return command, named


def memory(has_qemu):
    """Private memory of idle VMs, and what they do while the guest does nothing."""
    full, named = all_devices(args.build)
    cases = {"bare": [vmm_run, "--kernel", idle + ",format=flat64"], "full": full}
    processes = {name: subprocess.Popen(command, **quiet) for name, command in cases.items()}
    if has_qemu:
        firmware = make_firmware()
        for board, command in qemu_boards("-serial", "null", "-bios", firmware).items():
            processes[board] = subprocess.Popen(command, **quiet)
        processes["QEMU full"] = subprocess.Popen(qemu("-serial", "null", "-bios", firmware, *QEMU_DEVICES),
                                                  **quiet)
    time.sleep(3)
    for name, process in processes.items():
        if process.poll() is not None:
            sys.exit(f"{name}: ended with {process.returncode}")
    for board in ("QEMU microvm", "QEMU pc") if has_qemu else (None,):
        theirs = [private_kib(processes[board].pid)] if board else None
        name = "private memory, serial port only" + (f", beside {board}" if board else "")
        report("memory", name, "KiB",
               [private_kib(processes["bare"].pid)], board, theirs, limit=3072,
               how="private pages of /proc/PID/smaps without the guest's own memory")
    theirs = [private_kib(processes["QEMU full"].pid)] if has_qemu else None
    report("memory", "private memory, with " + ", ".join(named), "KiB",
           [private_kib(processes["full"].pid)], "QEMU microvm" if theirs else None, theirs, limit=3072,
           how="private pages of /proc/PID/smaps without the guest's own memory")
    for name in ("bare", "full"):
        pid = processes[name].pid
        before = switches(pid)
        time.sleep(5)
        report("idle", f"wake-ups, {name}", "/s", [(switches(pid) - before) / 5], limit=0.5,
               how="context switches of all threads in 5 s, the guest halted")
    end(processes.values())


def hundred():
    """A hundred idle machines at once."""
    count = args.machines
    start = time.perf_counter()
    processes = [subprocess.Popen([vmm_run, "--kernel", idle + ",format=flat64"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
                 for _ in range(count)]
    for process in processes:
        process.stdout.readline()  # the guest says that it is there
    started = time.perf_counter() - start
    time.sleep(3)
    dead = [p for p in processes if p.poll() is not None]
    if dead:
        sys.exit(f"{len(dead)} of {count} machines ended by themselves")
    report("hundred", f"{count} machines started", "s", [started],
           how="until the guest of each has written a line")
    private = sum(private_kib(p.pid) for p in processes)
    report("hundred", "private memory of each", "KiB", [private / count], limit=3072,
           how="as above, the mean")
    before = sum(cpu_ms(p.pid) for p in processes)
    time.sleep(5)
    used = sum(cpu_ms(p.pid) for p in processes) - before
    report("hundred", "CPU of all while idle", "ms/s", [used / 5], limit=5,
           how="CPU time of all processes in 5 s")
    start = time.perf_counter()
    end(processes)
    report("hundred", "torn down", "s", [time.perf_counter() - start], how="SIGTERM to all gone")


def boot_once(command):
    """ms until the first process says hello on the serial console."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    took = None
    for line in process.stdout:
        if b"Run /init" in line:
            took = (time.perf_counter() - start) * 1e3
            break
    process.kill()
    process.wait()
    if took is None:
        sys.exit("the kernel did not get to /init: " + " ".join(command))
    return took


def linux(has_qemu):
    kernel = next(os.path.join(args.linux, name) for name in sorted(os.listdir(args.linux))
                  if name.startswith("vmlinuz"))
    append = "console=ttyS0 panic=-1 loglevel=7"
    ours = [vmm_run, "--kernel", kernel, "--initrd", args.initramfs, "--append", append]
    unpacked = [vmm_run, "--kernel", kernel + ",format=linux64,unpack=on", "--initrd", args.initramfs,
                "--append", append]
    theirs = qemu("-serial", "stdio", "-kernel", kernel, "-initrd", args.initramfs, "-append",
                  append)
    samples = {"ours": [], "unpacked": [], "QEMU": []}
    for _ in range(2):
        samples["ours"].append(boot_once(ours))
        samples["unpacked"].append(boot_once(unpacked))
        if has_qemu:
            samples["QEMU"].append(boot_once(theirs))
    how = "Debian's stock cloud kernel with the same initramfs, 256 MiB, one vCPU"
    peer = "QEMU" if has_qemu else None
    report("linux", "to Run /init, bzImage", "ms", samples["ours"], peer, samples["QEMU"],
           min_ratio=1 if peer else None, how=how)
    report("linux", "to Run /init, unpacked by us", "ms", samples["unpacked"], peer,
           samples["QEMU"], min_ratio=1 if peer else None, how=how)


def main():
    has_qemu = bool(shutil.which(QEMU)) and once(
        ["timeout", "20", *qemu("-serial", "null", "-bios", make_firmware(), "-device",
                                "isa-debug-exit,iobase=0xf4,iosize=4")])[2] == 1
    if not has_qemu:
        print("QEMU: it is not there or does not run on this KVM, so it is left out")
    start_up(has_qemu)
    memory(has_qemu)
    hundred()
    if args.linux:
        linux(has_qemu)


main()
