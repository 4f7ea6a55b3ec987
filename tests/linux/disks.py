#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The host's side of disks under Debian's stock kernel: every key of --disk that is not the image's.

    disks.py VMM_RUN

The kernel is vmlinuz-* in the folder $LIBVMM_KERNELS, the initramfs $LIBVMM_CACHE/initramfs-virtio.gz
(make-initramfs makes it). Needs a complete KVM, root for mounts, nbdkit for the network disk.
"""

import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from console import Console, Tests

vmm_run = sys.argv[1]
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs-virtio.gz")
MIB = 1 << 20


def command(console, text, answer, seconds=60):
    console.type(text + "\n")
    return console.expect(answer, seconds)


def image(path, mib):
    with open(path, "wb") as disk:
        disk.truncate(mib * MIB)
    return path


def control(path, line):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(path)
        s.sendall(line.encode() + b"\n")
        return s.makefile().readline()


class Host:
    """A folder in memory with a small file system that fills up, one on a disk, and a server."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(dir="/dev/shm")
        self.small = self.folder + "/small"
        self.direct = tempfile.mkdtemp(dir="/var/tmp")  # no tmpfs: those know no direct I/O
        os.mkdir(self.small)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "small", self.small], check=True)
        self.server = None
        return self

    def serve(self, path):
        self.server = subprocess.Popen(["nbdkit", "-f", "-U", self.folder + "/nbd", "file", path])
        while not os.path.exists(self.folder + "/nbd"):
            time.sleep(0.1)

    def stop_serving(self):
        if self.server:
            self.server.kill()
            self.server.wait()
            os.unlink(self.folder + "/nbd")
        self.server = None

    def __exit__(self, *_):
        self.stop_serving()
        subprocess.run(["umount", "-l", self.small])
        shutil.rmtree(self.direct)
        shutil.rmtree(self.folder)


def guest(disks, extra=()):
    options = [word for disk in disks for word in ("--disk", disk)]
    console = Console(
        [vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet",
         "--memory", "512M", "--timeout", "600", *options, *extra]
    )
    console.expect("user space reached on", 200)
    console.expect("guest# ", 20)
    return console


def power_off(console):
    console.type("poweroff -f\n")
    status = console.wait(60)
    assert status == 0, f"exit status {status}\n{console.tail()}"


def seconds_of(console, text):
    return float(command(console, f"time {text}", r"real\s+0m ([0-9.]+)s", 120).group(1))


def write_and_check(console, device, mib=4):
    """Random data out and in again, past the guest's cache. (Its busybox knows no 4M.)"""
    command(console, f"head -c {mib * MIB} /dev/urandom >/tmp/r; md5sum </tmp/r >/tmp/s;"
            f" dd if=/tmp/r of={device} bs=64k conv=fsync 2>/dev/null;"
            " echo 3 >/proc/sys/vm/drop_caches;"
            f" head -c {mib * MIB} {device} | md5sum | cmp - /tmp/s && echo sa''me; wc -c </tmp/r", rf"same\s+{mib * MIB}\s")


def all_keys():
    os.environ["TMPDIR"] = "/dev/shm"  # for the snapshot
    with Host() as host:
        raw = image(host.folder + "/raw", 16)
        snapshot = image(host.folder + "/snapshot", 16)
        network = image(host.folder + "/network", 16)
        direct = [image(f"{host.direct}/{name}", 16) for name in "ab"]
        host.serve(network)
        with guest([
            f"{raw},format=raw,aio=threads,cache=unsafe,bandwidth=1M",
            f"{snapshot},format=raw,snapshot=on,iops=20",
            f"nbd+unix:///?socket={host.folder}/nbd,format=nbd",
            f"{direct[0]},format=raw,cache=none,aio=io_uring,queues=2,serial=DIRECT",
            f"{direct[1]},format=raw,cache=none,aio=threads",
        ]) as console:
            command(console, "cat /sys/block/vdd/serial; echo", r"\nDIRECT\r")
            for device in "bcde":
                write_and_check(console, f"/dev/vd{device}")
            took = seconds_of(console, "dd if=/dev/zero of=/dev/vda bs=64k count=64 conv=fsync")
            assert 3 < took < 15, f"4 MiB at 1 MiB a second took {took} s"
            took = seconds_of(console, "sh -c 'for i in $(seq 100); do dd if=/dev/zero of=/dev/vdb"
                              " bs=4k count=1 seek=$((i * 9)) conv=fsync 2>/dev/null; done'")
            assert 4 < took < 40, f"100 requests at 20 a second took {took} s"
            # The server goes away while the guest writes, and comes back.
            console.type("dd if=/tmp/r of=/dev/vdc seek=8 bs=1M conv=fsync; echo writ''ten\n")
            host.stop_serving()
            time.sleep(3)
            host.serve(network)
            console.expect("written", 120)
            digest = command(console, "md5sum </tmp/r", r"([0-9a-f]{32})").group(1).decode()
            power_off(console)
        with open(snapshot, "rb") as disk:
            assert not any(disk.read()), "a snapshot reached the image"
        for path in direct:
            with open(path, "rb") as disk:
                assert any(disk.read(MIB)), f"nothing was written to {path}"
        with open(network, "rb") as disk:
            disk.seek(8 * MIB)
            sums = subprocess.run(["md5sum"], input=disk.read(4 * MIB), capture_output=True, check=True)
        assert sums.stdout.decode().startswith(digest), "the network disk has lost something"


def full(on_error):
    """A file that its file system has no room for: what the guest and the host see."""
    with Host() as host:
        disk = image(host.small + "/disk", 64)
        filler = host.small + "/filler"
        with open(filler, "wb") as f:
            f.write(bytes(3 * MIB))
        path = host.folder + "/control"
        key = f",on-error={on_error}" if on_error else ""
        with guest([f"{disk},format=raw{key}"], ["--control", path]) as console:
            console.type("dd if=/dev/zero of=/dev/vda bs=64k count=48 conv=fsync;"
                         " echo end''ed $?\n")
            if on_error == "report":
                assert console.expect(r"ended (\d+)", 60).group(1) != b"0"
            elif on_error == "ignore":
                assert console.expect(r"ended (\d+)", 60).group(1) == b"0"
            else:
                console.expect("the VM is stopped: write .*No space left", 60)
                assert "stopped by a disk" in control(path, "status")
                assert not console.seen("ended", 3)
                os.unlink(filler)
                if on_error == "stop":
                    control(path, "resume")
                console.expect("the VM goes on", 60)
                assert console.expect(r"ended (\d+)", 60).group(1) == b"0"
                assert "running" in control(path, "status")
            power_off(console)


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("disks", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
        tests.end()
    if os.getuid() or not shutil.which("nbdkit"):
        tests.skip("disks", "needs root, and nbdkit (Debian: nbdkit)")
        tests.end()
    tests.run("all keys at once", all_keys)
    for on_error in ("", "stop", "report", "ignore"):
        tests.run(f"a full disk, on-error={on_error or '(default)'}", full, on_error)
    tests.end()


if __name__ == "__main__":
    main()
