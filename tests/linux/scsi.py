#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""SCSI disks and a CD-ROM on a virtio controller, with Debian's stock kernel.

    scsi.py VMM_RUN

Kernel and initramfs are those of share.py. Needs a complete KVM.
"""

import glob
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

from console import Console, Tests

vmm_run = sys.argv[1]
cache = os.environ.get("LIBVMM_CACHE", "")
kernel = (glob.glob(cache + "/kernels/linux-image-amd64/boot/vmlinuz-*") or [""])[0]
initrd = cache + "/initramfs-share.gz"


def command(console, text, answer, seconds=60):
    console.type(text + "\n")
    return console.expect(answer, seconds)


def make_iso(folder):
    """An ISO 9660 image of a file, or None where nothing is installed to make one."""
    if not shutil.which("xorriso"):
        return None
    os.mkdir(folder + "/content")
    with open(folder + "/content/file", "wb") as f:
        f.write(b"on the disc\n")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", folder + "/iso",
                    folder + "/content"], check=True, stderr=subprocess.DEVNULL)
    return folder + "/iso"


def disks_and_disc(transport):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        image, other = folder + "/disk", folder + "/other"
        for path, length in ((image, 24 << 20), (other, 1 << 20)):
            with open(path, "wb") as f:
                f.truncate(length)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-F", image], check=True)
        iso = make_iso(folder)
        with open(other, "r+b") as f:
            f.write(b"untouched")
        disks = ["--disk", image + ",format=raw,if=scsi,serial=S-7",
                 "--disk", other + ",format=raw,if=scsi,readonly=on"]
        if iso:
            disks += ["--disk", iso + ",format=raw,if=scsi,cdrom=on"]
        console = Console(
            [vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet",
             "--memory", "512M", "--timeout", "600", "--verbose", "--transport", transport] + disks)
        with console:
            console.expect("user space reached on", 100)
            console.expect("guest# ", 20)
            # The driver looks at several at a time, so that their letters vary.
            command(console, "sleep 1; cd /sys/bus/scsi/devices; a=$(ls *:0:0:0/block) b=$(ls *:0:1:0/block);"
                    " cd /; cat /sys/block/$a/device/vendor /sys/block/$a/size",
                    r"\nlibvmm  \r\n49152\r")
            command(console, "head -c 12 /sys/block/$a/device/vpd_pg80 | tail -c 3; echo", r"\nS-7\r")
            command(console, "cat /sys/block/$a/queue/discard_max_bytes", r"\n[1-9]\d+\r")
            command(console, "head -c 9 /dev/$b; echo; cat /sys/block/$b/ro", r"\nuntouched\r\n1\r")
            command(console, "head -c 5000001 /dev/urandom >/tmp/r;"
                    " mount -t ext4 /dev/$a /mnt && cp /tmp/r /mnt/file && sync && fstrim /mnt;"
                    " umount /mnt; echo 3 >/proc/sys/vm/drop_caches; mount -t ext4 -o ro /dev/$a /mnt"
                    " && cmp /mnt/file /tmp/r && echo sa''me; umount /mnt", "same", 90)
            digest = command(console, "md5sum </tmp/r", r"\n([0-9a-f]{32})").group(1)
            if iso:
                command(console, "mount -t iso9660 -o ro /dev/sr0 /mnt && cat /mnt/file; umount /mnt",
                        "\non the disc\r")
                command(console, "dd if=/dev/sr0 bs=2048 skip=16 count=1 2>/dev/null | tail -c 2047 |"
                        " head -c 5; echo", r"\nCD001\r")
            console.expect("guest# ", 20)
            console.type("poweroff -f\n")
            assert console.wait(30) == 0, console.tail()
            assert "the guest misused" not in console.text(), console.text()
        check = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
        assert check.returncode == 0, check.stdout
        data = subprocess.run(["debugfs", "-R", "cat /file", image], capture_output=True,
                              check=True).stdout
        assert hashlib.md5(data).hexdigest() == digest.decode()


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("scsi", "LIBVMM_CACHE names no kernel, or no initramfs for it")
        tests.end()
    for transport in ("pci", "mmio"):
        tests.run(f"disks and a CD-ROM, {transport}", disks_and_disc, transport)
    tests.end()


if __name__ == "__main__":
    main()
