#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Debian's stock arm64 kernel on the library, in a nested arm64 machine (tests/nested/nested-kvm-arm64).

    run.py BUILD_FOLDER IMAGE INITRAMFS LIBRARIES UNIT_OR_KVM_TEST...

BUILD_FOLDER is a cross build; LIBRARIES is a folder with the arm64 packages that it was linked with. What happens in the machine is in inside.sh; here its
TAP is passed on, and the device tree that a guest saw is given to dtc.
"""

import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile

build, image, initramfs, root = sys.argv[1:5]
unit_tests = sys.argv[5:]
here = os.path.dirname(os.path.abspath(__file__))
TRIES = 3
MACHINE_FAILED = 75


def copy_library(name, folder):
    """What the programs need at run time: the cross compiler's C library, and Debian's arm64 packages."""
    os.makedirs(folder, exist_ok=True)
    for place in ("/usr/aarch64-linux-gnu/lib", root + "/usr/lib/aarch64-linux-gnu", root + "/lib/aarch64-linux-gnu"):
        if os.path.exists(os.path.join(place, name)):
            shutil.copy(os.path.join(place, name), folder)
            return
    sys.exit(f"run.py: {name} for arm64 is nowhere")


def run_inside(folder):
    """(status, lines) of the script in the machine; a machine that fails itself is started again."""
    command = [os.path.join(here, "../nested/nested-kvm-arm64"), "-t", "540", folder, "sh", "inside.sh"]
    for attempt in range(TRIES):
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT) as process:
            lines = []
            for line in process.stdout:
                text = line.decode("utf-8", "replace").replace("\r", "").rstrip("\n")
                if re.match(r"ok |not ok |#", text):
                    print(text, flush=True)
                lines.append(text)
        if process.returncode != MACHINE_FAILED:
            break
        print(f"# the nested machine failed (try {attempt + 1} of {TRIES})", flush=True)
    return process.returncode, lines


def check_tree(lines):
    """What is wrong with the device tree, or None."""
    if "BEGIN" not in lines:
        return "no guest showed its device tree"
    encoded = "".join(lines[lines.index("BEGIN") + 1:lines.index("END")])
    done = subprocess.run(["dtc", "-I", "dtb", "-O", "dts"], input=base64.b64decode(encoded), capture_output=True,
                          check=False)
    if done.returncode != 0 or done.stderr.strip():
        return done.stderr.decode()
    return None if b"arm,gic-v3-its" in done.stdout else "it has no ITS"


def check_acpi(lines, folder):
    """What iasl has to say of the tables that UEFI gave the guest, or None."""
    starts = [i for i, line in enumerate(lines) if line.startswith("TABLE ")]
    if len(starts) != 7:
        return f"the guest showed {len(starts)} tables, not 7"
    for start in starts:
        name = lines[start].split()[1]
        with open(os.path.join(folder, name + ".dat"), "wb") as table:
            table.write(base64.b64decode("".join(lines[start + 1:lines.index("END", start)])))
        for command in (["iasl", "-d", name + ".dat"], ["iasl", "-oa", name + ".dsl"]):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0 or "0 Errors, 0 Warnings, 0 Remarks" not in done.stdout:
            return name + ":\n" + done.stdout + done.stderr
    return None


def report(number, name, wrong):
    """One line of TAP, and why not."""
    if wrong:
        print("\n".join("# " + line for line in wrong.splitlines()))
    print(f"{'not ok' if wrong else 'ok'} {number} - {name}")
    return 1 if wrong else 0


def main():
    with tempfile.TemporaryDirectory() as folder:
        for name in ("examples/vmm-run", "examples/vmm-info", "examples/hello-vm", "tests/arm64/control"):
            subprocess.run(["aarch64-linux-gnu-strip", "-o", os.path.join(folder, os.path.basename(name)),
                            os.path.join(build, name)], check=True)
        os.mkdir(os.path.join(folder, "unit"))
        for name in unit_tests:
            program = "kvm/" + name if name.startswith("kvm-") else "unit/unit-" + name
            shutil.copy(os.path.join(build, "tests", program), os.path.join(folder, "unit"))
        for library in ("ld-linux-aarch64.so.1", "libc.so.6", "libfdt.so.1", "libz.so.1", "libcmocka.so.0"):
            copy_library(library, os.path.join(folder, "lib"))
        shutil.copy(image, os.path.join(folder, "Image"))
        shutil.copy(initramfs, os.path.join(folder, "initramfs.gz"))
        shutil.copy(os.path.join(here, "inside.sh"), folder)
        shutil.copy("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", folder)
        status, lines = run_inside(folder)
        acpi = check_acpi(lines, folder)
    planned = [int(line[3:]) for line in lines if re.match(r"1\.\.\d+$", line)]
    count = sum(1 for line in lines if re.match(r"(ok|not ok) ", line))
    failed = sum(1 for line in lines if line.startswith("not ok "))
    failed += report(count + 1, "dtc finds nothing wrong with the device tree", check_tree(lines))
    failed += report(count + 2, "iasl finds nothing wrong with the ACPI tables", acpi)
    if planned != [count] or status != 0:
        print(f"not ok {count + 3} - the script came to its end (status {status}, {count} results)")
        print("\n".join("# " + line for line in lines[-15:]))
        failed += 1
    sys.exit(1 if failed else 0)


main()
