#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Linux on a KVM that runs guest kernels in its instruction emulator, with and without the assist.

    assist.py VMM_RUN KERNEL

KERNEL is the vmlinux that build-small-kernel makes. On such a host user space cannot run (system
calls from CPL 3 do not work), so the last thing to see is the kernel starting /init. The kernel needs
no parameters: what it finds by CPUID, it uses. The time depends on how busy the host is, since the
timer interrupt takes its share of emulated instructions whatever is left for the rest.
"""

import sys
import tempfile

from console import Console, Tests

vmm_run, kernel = sys.argv[1:3]


def archive(name, mode, data):
    """One file of a cpio archive in the "newc" format."""
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


# Nothing but an /init: unpacking a compressed one would take a minute or more.
initrd_file = tempfile.NamedTemporaryFile()
initrd_file.write(archive(b"init", 0o100755, b"#!/none\n") + archive(b"TRAILER!!!", 0, b""))
initrd_file.flush()
initrd = initrd_file.name


def guest(assist):
    return Console([vmm_run, "--kernel", kernel + ",format=linux64", "--initrd", initrd, "--append",
                    "console=ttyS0", "--memory", "128M", "--assist", assist, "--timeout", "600"])


def off_ends_with_a_report():
    with guest("off") as console:
        status = console.wait(300)
        text = console.text()
        assert status == 4, f"exit status {status}\n{console.tail()}"
        for part in ("KVM cannot emulate this instruction", "code: ", "at rip: ", "\nrip ", "\ncr0 "):
            assert part in text, f"no {part!r} in the report\n{console.tail()}"


def reaches_init(assist):
    with guest(assist) as console:
        console.expect("Run /init as init process", 600)


tests = Tests()
tests.run("--assist off: a report", off_ends_with_a_report)
tests.run("--assist on: Run /init", reaches_init, "on")
tests.end()
