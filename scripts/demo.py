#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The guests of scripts/demo: one with two processors that is typed at, then three at once.

    demo.py VMM_RUN KERNEL INITRD OUTPUT_FOLDER

Leaves report.html, console-*.svg and report-*.json in the folder.
"""

import html
import json
import os
import platform
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/linux"))
from console import Console  # noqa: E402

vmm_run, kernel, initrd, folder = sys.argv[1:5]
COMMANDS = ["uname -a", "cat /proc/cmdline", "nproc", "grep -m1 'model name' /proc/cpuinfo",
            "free -m", "ls /sys/bus/acpi/devices", "cat /proc/interrupts | head -12", "dmesg | tail -5"]


def start(name, cpus=2, append="console=ttyS0"):
    return Console([vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", append,
                    "--memory", "512M", "--cpus", str(cpus), "--timeout", "240",
                    "--report", os.path.join(folder, f"report-{name}.json")],
                   echo=sys.stdout if name == "typed" else None)


def picture(name, text, lines=46):
    """A console's last lines as an SVG."""
    rows = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", row)[:110] for row in text.splitlines()][-lines:]
    height = 18 * len(rows) + 24
    body = "\n".join(
        f'<text x="12" y="{18 * (i + 1) + 6}" xml:space="preserve">{html.escape(row)}</text>'
        for i, row in enumerate(rows))
    with open(os.path.join(folder, f"console-{name}.svg"), "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="900" height="{height}">'
                   '<rect width="100%" height="100%" fill="#101418"/>'
                   '<g font-family="monospace" font-size="13" fill="#d8dee4">'
                   f"{body}</g></svg>\n")


def typed():
    """Two processors; commands through the serial console; power-off."""
    with start("typed") as console:
        console.expect("user space reached on 2 processor", 200)
        console.expect("guest# ", 30)
        for command in COMMANDS:
            console.type(command + "\n")
            console.expect("guest# ", 30)
        console.type("poweroff -f\n")
        status = console.wait(60)
        picture("typed", console.text())
        return status


def three_at_once():
    began = time.monotonic()
    consoles = [start(f"at-once-{i}", cpus=1, append=f"console=ttyS0 quiet vm={i}") for i in range(3)]
    statuses = []
    try:
        for i, console in enumerate(consoles):
            console.expect("guest# ", 200)
            console.type("cat /proc/cmdline\n")
            console.expect(f"vm={i}", 30)
        print(f"== three VMs are up at once after {time.monotonic() - began:.1f} s")
        for console in consoles:
            console.type("poweroff -f\n")
        for i, console in enumerate(consoles):
            statuses.append(console.wait(60))
            picture(f"at-once-{i}", console.text(), 12)
    finally:
        for console in consoles:
            console.close()
    return statuses


def load(name):
    with open(os.path.join(folder, f"report-{name}.json"), encoding="utf-8") as file:
        return json.load(file)


def page(names):
    rows = []
    for name in names:
        report = load(name)
        times = report["milliseconds_since_process_start"]
        rows.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in (
            name, report["cpus"], report["outcome"], f"{times['started']:.1f}",
            f"{times['ended']:.0f}", report["exits"], report["peak_resident_kib"])) + "</tr>")
    host = load(names[0])["host"]
    figures = "".join(f'<h2>{n}</h2><img src="console-{n}.svg" alt="console of {n}">' for n in names)
    with open(os.path.join(folder, "report.html"), "w", encoding="utf-8") as file:
        file.write(
            "<!doctype html><meta charset=utf-8><title>libvmm demo</title>"
            "<style>body{font-family:sans-serif;margin:2em}td,th{border:1px solid #aaa;padding:4px 8px}"
            "table{border-collapse:collapse}</style><h1>libvmm boots a stock Linux</h1>"
            f"<p>Kernel: {html.escape(os.path.basename(kernel))}, unmodified. Host: "
            f"{html.escape(platform.release())}, KVM flavour {host['flavour']}, {host['paging']} paging"
            f"{' (nested machine, software emulation: times say nothing of hardware)' if os.environ.get('LIBVMM_NESTED') else ''}.</p>"
            "<table><tr><th>VM<th>processors<th>outcome<th>first instruction, ms<th>whole run, ms"
            f"<th>exits<th>peak resident, KiB</tr>{''.join(rows)}</table>{figures}\n")


def main():
    os.makedirs(folder, exist_ok=True)
    print("== a stock kernel, two processors, typed at through the serial console", flush=True)
    status = typed()
    print(f"\n== it powered off, exit status {status}", flush=True)
    print("== three VMs at once", flush=True)
    statuses = three_at_once()
    page(["typed"] + [f"at-once-{i}" for i in range(3)])
    ok = status == 0 and statuses == [0, 0, 0]
    print("== all powered off in order" if ok else f"== FAILED: {status} {statuses}", flush=True)
    sys.exit(0 if ok else 1)


main()
