#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Run the freestanding guests with vmm-run and look at what they print and how they end.

    run.py VMM_RUN FOLDER
"""

import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../linux"))
from console import Tests  # noqa: E402

vmm_run, folder = sys.argv[1:3]
# The driver polls, and in a nested machine whose host is busy it waits for a processor to see anything.
PATIENCE = 300 if os.environ.get("LIBVMM_NESTED") else 100


def run(guest, *options, timeout=60):
    path = os.path.join(folder, guest + ".bin")
    return subprocess.run(
        [vmm_run, "--kernel", f"{path},format=flat{guest[-2:]}", "--debug-exit", *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)


def says(guest, text, status, *options):
    result = run(guest, *options)
    assert result.returncode == status, f"status {result.returncode}: {result.stderr}"
    assert text in result.stdout, f"printed {result.stdout!r}"


def crash_is_reported():
    result = run("crash64")
    assert result.returncode == 4, f"status {result.returncode}"
    assert "about to fault" in result.stdout
    # On SVM a triple fault leaves the vCPU as after INIT, so the code may not be there to be shown.
    for part in ("triple fault", "rip ", "cr3 ", "code: "):
        assert part in result.stderr, f"no {part!r} in {result.stderr!r}"


def time_limit():
    start = time.monotonic()
    result = run("spin64", "--timeout", "1", "--cpus", "2")
    assert result.returncode == 124, f"status {result.returncode}"
    assert time.monotonic() - start < 20


def usage_errors():
    for options in (["--kernel"], [], ["--bogus"], ["--kernel", "x,format=none"],
                    ["--kernel", "x", "--cpus", "0"], ["--kernel", "x", "--memory", "12Q"],
                    ["--kernel", "x", "extra"], ["--kernel", "x,at=-1"]):
        result = subprocess.run([vmm_run, *options], capture_output=True, text=True, check=False)
        assert result.returncode == 2, f"{options}: status {result.returncode}"
        assert "vmm-run" in result.stderr
    for options in (["--kernel", "/nonexistent"], ["--kernel", "/dev/null"],
                    ["--kernel", "x", "--serial", "nowhere"], ["--kernel", "/etc/passwd"]):
        result = subprocess.run([vmm_run, *options], capture_output=True, text=True, check=False)
        assert result.returncode == 3, f"{options}: status {result.returncode}"
        assert "vmm-run: " in result.stderr


def help_teaches():
    result = subprocess.run([vmm_run, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0 and "--kernel" in result.stdout


def loaded_elsewhere():
    path = os.path.join(folder, "first-write64.bin")
    result = subprocess.run([vmm_run, "--kernel", f"{path},format=flat64,at=0x200000", "--debug-exit",
                             "--serial", "none"], capture_output=True, text=True, check=False)
    assert result.returncode == 1, f"status {result.returncode}: {result.stderr}"


def queues():
    """Each form of a queue, by a driver of our own."""
    with tempfile.NamedTemporaryFile(suffix=".raw") as disk:
        disk.truncate(1 << 20)
        result = subprocess.run(
            [vmm_run, "--kernel", os.path.join(folder, "virtio.elf") + ",format=pvh", "--append",
             "mode=features", "--disk", disk.name + ",format=raw", "--debug-exit", "--transport",
             "mmio"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
            check=False)
    assert result.returncode == 1, f"status {result.returncode}: {result.stderr}"
    lines = result.stdout.split("\r\n")
    wrong = [line for line in lines if line.startswith("not ok")]
    assert not wrong, wrong
    assert result.stdout.count("ok ") == 24, result.stdout


tests = Tests()
if not os.access("/dev/kvm", os.W_OK):
    tests.skip("guests", "no usable /dev/kvm")
    tests.end()
for bits in ("16", "32", "64"):
    tests.run(f"hello in {bits}-bit mode", says, "hello" + bits, f"hello from a {bits}-bit guest", 85)
for bits in ("32", "64"):
    tests.run(f"ports in {bits}-bit mode", says, "io" + bits, "io is as it should be", 1)
tests.run("ports with an x86-64-v1 policy", says, "io64", "io is as it should be", 1, "--cpu",
          "x86-64-v1,-rdtscp")
tests.run("a flat binary elsewhere", loaded_elsewhere)
tests.run("a triple fault is reported, status 4", crash_is_reported)
tests.run("--timeout ends a guest that never exits", time_limit)
tests.run("wrong usage has status 2, an unusable host or file 3", usage_errors)
tests.run("--help teaches", help_teaches)
tests.run("virtio queues: split, packed, indirect, event index, reset of a queue", queues)
tests.end()
