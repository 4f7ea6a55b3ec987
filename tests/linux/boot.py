#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Debian's stock cloud kernel on the micro board: boots, takes commands, powers off, reboots.

    boot.py VMM_RUN

The kernel is vmlinuz-* in the folder $LIBVMM_KERNELS, the initramfs $LIBVMM_CACHE/initramfs.gz
(make-initramfs makes it). Needs a complete KVM.
"""

import glob
import json
import os
import sys
import tempfile
import time

from console import Console, Tests

vmm_run = sys.argv[1]
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs.gz")
QUIET = "console=ttyS0 quiet"


def guest(spec="", cpus=1, append=QUIET, extra=()):
    return Console(
        [vmm_run, "--kernel", kernel + spec, "--initrd", initrd, "--append", append,
         "--memory", "512M", "--cpus", str(cpus), "--timeout", "600", *extra]
    )


def to_shell(console):
    console.expect("user space reached on", 100)
    console.expect("guest# ", 20)


def command(console, text, answer, seconds=20):
    console.type(text + "\n")
    return console.expect(answer, seconds)


def boots_and_powers_off(spec, cpus):
    with guest(spec, cpus) as console:
        console.expect(f"user space reached on {cpus} processor", 100)
        console.expect("guest# ", 20)
        command(console, "echo $((6 * 7))$((1 + 1))", "422")
        command(console, "grep -c ^processor /proc/cpuinfo", rf"\n{cpus}\r")
        console.type("poweroff -f\n")
        status = console.wait(30)
        assert status == 0, f"exit status {status}\n{console.tail()}"


def reboots():
    with guest(cpus=2) as console:
        for _ in range(2):  # a second and a third time, in the same process
            to_shell(console)
            console.type("reboot -f\n")
        to_shell(console)
        console.type("poweroff -f\n")
        assert console.wait(30) == 0


def no_reboot_ends():
    with guest(append=QUIET + " guest.run=reboot", extra=["--no-reboot"]) as console:
        assert console.wait(100) == 0
        assert console.text().count("user space reached") == 1


def typing_is_echoed_and_edited():
    with guest() as console:
        to_shell(console)
        console.type("echo one twox\x7f\n")
        console.expect("\none two\r", 20)
        console.type("cat\n")
        time.sleep(1)  # the shell gives the terminal back to line mode
        console.type("repeat\n")
        console.expect("repeat\r\nrepeat\r\n", 20)  # by the terminal, and by cat
        console.type("\x03")  # Ctrl-C goes to the guest
        console.expect(r"\^C", 20)
        console.expect("guest# ", 20)
        console.type("\x01h")
        console.expect("Ctrl-A x  leave", 20)
        console.type("\x01x")
        assert console.wait(20) == 0


def a_lot_of_output_is_complete_and_in_order():
    with guest() as console:
        to_shell(console)
        console.type("seq 1 1500; echo done\n")
        console.expect("\ndone\r", 90)
        lines = [l for l in console.text().splitlines() if l.isdigit()]
        assert lines == [str(n) for n in range(1, 1501)], "lines are lost or out of order"
        console.type("\x01x")
        assert console.wait(20) == 0


def smbios_names_the_machine():
    with guest() as console:
        to_shell(console)
        command(console, "cat /sys/class/dmi/id/sys_vendor", r"\nlibvmm\r")
        command(console, "cat /sys/class/dmi/id/product_name", r"\nmicro\r")
        console.type("\x01x")
        assert console.wait(20) == 0


def power_button_reaches_the_guest():
    with guest() as console:
        to_shell(console)
        command(console, "ls /sys/bus/acpi/devices | grep -c ACPI0013", r"\n1\r")
        console.type("\x01x")
        assert console.wait(20) == 0


def panic_ends_by_reset():
    with guest(append=QUIET + " panic=-1 init=/nothing rdinit=/nothing",
               extra=["--no-reboot"]) as console:
        assert console.wait(100) == 0
        assert "Kernel panic" in console.text()


def timeout_ends_with_124():
    with guest(extra=["--timeout", "5"]) as console:
        assert console.wait(60) == 124


def report_tells_what_happened():
    path = os.path.join(tempfile.mkdtemp(), "report.json")
    with guest(append=QUIET + " guest.run=poweroff", extra=["--report", path]) as console:
        assert console.wait(100) == 0
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    assert report["outcome"] == "power-off" and report["exit_status"] == 0
    assert report["exits"]["port"] > 100
    assert any(d["name"].startswith("serial0") and d["writes"] > 100 for d in report["devices"])
    times = report["milliseconds_since_process_start"]
    assert 0 < times["realized"] < times["started"] < times["ended"]


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("Debian's kernel boots", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
        tests.end()
    for spec, name in (("", "bzImage"), (",format=linux64,unpack=on", "ELF by the 64-bit entry"),
                       (",format=pvh,unpack=on", "ELF by the PVH entry")):
        for cpus in (1, 2):
            tests.run(f"{name}, {cpus} vCPU: shell, poweroff", boots_and_powers_off, spec, cpus)
    tests.run("reboot starts the machine anew", reboots)
    tests.run("--no-reboot ends with status 0", no_reboot_ends)
    tests.run("typing, Ctrl-C and the escape keys", typing_is_echoed_and_edited)
    tests.run("1500 lines arrive whole and in order", a_lot_of_output_is_complete_and_in_order)
    tests.run("SMBIOS names the machine", smbios_names_the_machine)
    tests.run("the generic event device is there", power_button_reaches_the_guest)
    tests.run("a panic resets", panic_ends_by_reset)
    tests.run("--timeout ends with 124", timeout_ends_with_124)
    tests.run("--report", report_tells_what_happened)
    tests.end()


if __name__ == "__main__":
    main()
