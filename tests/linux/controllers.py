#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Disk controllers under Debian's stock kernel: partitions, a file system that the host checks, SMART,
CD-ROMs with eject and change, hot data both ways. AHCI on the board micro; IDE and a floppy on the board pc,
which SeaBIOS starts from the first IDE disk.

    controllers.py VMM_RUN [ahci|ide]...

The kernel is linux-image-amd64's in $LIBVMM_CACHE/kernels, the initramfs
$LIBVMM_CACHE/initramfs-controllers.gz (scripts/check makes it). Needs a complete KVM, xorriso and e2fsck; for pc
also the Debian packages seabios, grub-pc-bin, grub-common, mtools, dosfstools and fdisk.
"""

import glob
import os
import shutil
import subprocess
import sys
import tempfile

from console import Console, Tests
from disks import command, control, image, power_off

MIB = 1 << 20
SEABIOS = "/usr/share/seabios/bios-256k.bin"
here = os.path.dirname(os.path.abspath(__file__))
vmm_run = sys.argv[1]
cache = os.environ.get("LIBVMM_CACHE", "")
kernel = (glob.glob(cache + "/kernels/linux-image-amd64/boot/vmlinuz-*") or [""])[0]
initrd = cache + "/initramfs-controllers.gz"


def guest(options):
    console = Console(
        [vmm_run, "--kernel", kernel, "--initrd", initrd, "--append",
         "console=ttyS0 quiet", "--memory", "256M", "--transport", "pci", "--timeout", "600", *options]
    )
    console.expect("user space reached on", 200)
    console.expect("guest# ", 20)
    return console


def use_disk(console, device):
    """A partition, a file system on it, and files: random data, whose sum is told."""
    command(console, f"printf 'o\\nn\\np\\n1\\n\\n\\nw\\n' | fdisk {device} >/dev/null;"
            f" sleep 1; ls {device}*", rf"{device}1")
    command(console, f"mkfs.ext4 -q -F {device}1 && echo ma''de", "made", 120)
    command(console, f"mount {device}1 /mnt && echo moun''ted", "mounted")
    command(console, "head -c 8388608 /dev/urandom >/mnt/r; cp /mnt/r /mnt/s; sync;"
            " echo 3 >/proc/sys/vm/drop_caches; cmp /mnt/r /mnt/s && echo sa''me", "same", 120)
    digest = command(console, "md5sum </mnt/s", r"\n([0-9a-f]{32})").group(1).decode()
    command(console, "rm /mnt/r; fstrim -v /mnt; umount /mnt && echo un''mounted", "unmounted", 60)
    return digest


def check_disk(path, digest):
    """The file system on the first partition, as the host's tools see it."""
    with open(path, "rb") as disk:
        disk.seek(446 + 8)
        start = int.from_bytes(disk.read(4), "little") * 512
        disk.seek(start)
        with open(path + ".part", "wb") as part:
            shutil.copyfileobj(disk, part)
    fsck = subprocess.run(["/sbin/e2fsck", "-fn", path + ".part"], capture_output=True)
    assert fsck.returncode == 0, f"e2fsck: {fsck.returncode} {fsck.stdout.decode()} {fsck.stderr.decode()}"
    cat = subprocess.run(["/sbin/debugfs", "-R", "cat /s", path + ".part"], capture_output=True, check=True)
    sums = subprocess.run(["md5sum"], input=cat.stdout, capture_output=True, check=True)
    assert sums.stdout.decode().startswith(digest), "the file came out otherwise"
    os.unlink(path + ".part")


def iso(folder, name):
    os.mkdir(f"{folder}/{name}.d")
    with open(f"{folder}/{name}.d/hello", "w") as file:
        file.write(f"this is {name}\n")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-V", name.upper(), "-o", f"{folder}/{name}.iso",
                    f"{folder}/{name}.d"], check=True, capture_output=True)
    return f"{folder}/{name}.iso"


def tell(socket, line):
    answer = control(socket, line)
    assert "error" not in answer, f"{line}: {answer}"


def eject_by_guest(console, device="/dev/sr0"):
    """The guest opens the tray and shuts it; the medium lies in it. Linux would shut it when it is opened."""
    command(console, "echo 0 >/proc/sys/dev/cdrom/autoclose; "
            f"eject {device}; head -c 4 {device}; echo do''ne", "No medium found")
    console.expect("done", 20)
    command(console, f"eject -t {device}; mount -t iso9660 {device} /mnt && cat /mnt/hello; umount /mnt;"
            " echo rele''ased", "this is first")
    console.expect("released", 20)


def use_cdrom(console, folder, socket, device="/dev/sr0"):
    mounted = f"mount -t iso9660 {device} /mnt && cat /mnt/hello; umount /mnt; echo rele''ased"
    command(console, f"mount -t iso9660 {device} /mnt && cat /mnt/hello", "this is first")
    assert "error" in control(socket, "eject 0"), "the tray of a mounted medium came out"
    command(console, "umount /mnt; echo rele''ased", "released")
    tell(socket, f"change 0 {iso(folder, 'second')}")
    command(console, mounted, "this is second")
    console.expect("released", 20)
    tell(socket, "eject 0")
    command(console, f"head -c 4 {device}; echo do''ne", "No medium found")
    console.expect("done", 20)
    tell(socket, f"change 0 {folder}/first.iso")
    command(console, mounted, "this is first")
    console.expect("released", 20)


def dos_floppy(folder, name):
    path = f"{folder}/{name}.img"
    with open(f"{folder}/{name}.txt", "w") as file:
        file.write(f"floppy {name}\n")
    subprocess.run(["mformat", "-C", "-f", "1440", "-i", path, "::"], check=True)
    subprocess.run(["mcopy", "-i", path, f"{folder}/{name}.txt", "::/hello"], check=True)
    return path


def use_floppy(console, folder, socket):
    """Read and write, a change of the medium in between, and what the host finds on both."""
    command(console, "mount -t vfat /dev/fd0 /mnt && cat /mnt/hello", "floppy a", 60)
    command(console, "head -c 200000 /dev/urandom >/mnt/data; umount /mnt && echo un''mounted", "unmounted", 120)
    tell(socket, f"change floppy {dos_floppy(folder, 'b')}")
    command(console, "mount -t vfat /dev/fd0 /mnt && cat /mnt/hello", "floppy b", 60)
    command(console, "ls /mnt/data; umount /mnt && echo un''mounted", r"No such file(?s:.*)\nunmounted", 60)
    tell(socket, f"change floppy {folder}/a.img")
    command(console, "mount -t vfat /dev/fd0 /mnt && cat /mnt/hello", "floppy a", 60)
    digest = command(console, "md5sum </mnt/data", r"\n([0-9a-f]{32})", 60).group(1).decode()
    command(console, "umount /mnt && echo un''mounted", "unmounted", 60)
    tell(socket, "eject floppy")
    command(console, "head -c 4 /dev/fd0; echo do''ne", r"fd0: (?s:.*)\ndone", 60)
    return digest


def check_floppy(path, digest):
    fsck = subprocess.run(["/sbin/fsck.vfat", "-n", path], capture_output=True)
    assert fsck.returncode == 0, f"fsck.vfat: {fsck.returncode} {fsck.stdout.decode()}"
    data = subprocess.run(["mcopy", "-n", "-i", path, "::/data", "-"], capture_output=True, check=True).stdout
    sums = subprocess.run(["md5sum"], input=data, capture_output=True, check=True)
    assert len(data) == 200000 and sums.stdout.decode().startswith(digest), "the floppy's file came out otherwise"


def old_pc():
    folder, socket = tempfile.mkdtemp(dir="/dev/shm"), f"/dev/shm/controllers-{os.getpid()}"
    try:
        boot = folder + "/boot"
        subprocess.run([os.path.join(here, "make-firmware-disk"), "bios", boot, kernel, initrd], check=True)
        disk, floppy = image(folder + "/disk", 64), dos_floppy(folder, "a")
        with Console([vmm_run, "--machine", "pc", "--firmware", SEABIOS, "--memory", "256M", "--timeout", "400",
                      "--disk", boot + ",format=raw,if=ide", "--disk", disk + ",format=raw,if=ide,serial=SN-ide",
                      "--cdrom", iso(folder, "first") + ",if=ide", "--floppy", floppy,
                      "--control", socket]) as console:
            console.expect("user space reached on", 300)
            console.expect("guest# ", 20)
            # The letters vary with the order in which the drives answer.
            device = command(console, "grep -l SN-ide /sys/block/sd*/device/vpd_pg80",
                             r"\n/sys/block/(sd[ab])/").group(1).decode()
            digest = use_disk(console, "/dev/" + device)
            command(console, f"smartctl -a /dev/{device}", r"Serial Number: *SN-ide", 30)
            console.expect("overall-health self-assessment test result: PASSED", 30)
            command(console, "dmesg | grep 'ata[0-9.]*: configured for'", "configured for UDMA/100", 30)
            use_cdrom(console, folder, socket)
            eject_by_guest(console)
            saved = use_floppy(console, folder, socket)
            command(console, "dmesg | grep -E 'ata.*(exception|failed command|timeout|hard resetting)' |"
                    " wc -l", r"\n0\r")
            power_off(console)
        check_disk(disk, digest)
        check_floppy(floppy, saved)
    finally:
        shutil.rmtree(folder)


def on_controller(bus):
    folder, socket = tempfile.mkdtemp(dir="/dev/shm"), f"/dev/shm/controllers-{os.getpid()}"
    try:
        disk = image(folder + "/disk", 64)
        with guest(["--disk", f"{disk},format=raw,if={bus},serial=SN-{bus}", "--cdrom",
                    iso(folder, "first") + f",if={bus}", "--control", socket]) as console:
            digest = use_disk(console, "/dev/sda")
            command(console, "smartctl -a /dev/sda", rf"Serial Number: *SN-{bus}", 30)
            console.expect("overall-health self-assessment test result: PASSED", 30)
            console.expect("No Errors Logged", 30)
            use_cdrom(console, folder, socket)
            command(console, "dmesg | grep -E 'ata.*(exception|failed command|timeout|hard resetting)' |"
                    " wc -l", r"\n0\r")
            power_off(console)
        check_disk(disk, digest)
    finally:
        shutil.rmtree(folder)


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("controllers", "LIBVMM_CACHE names no kernel, or no initramfs for it")
        tests.end()
    if not (shutil.which("xorriso") and os.path.exists("/sbin/e2fsck")):
        tests.skip("controllers", "needs xorriso and e2fsck (Debian: xorriso, e2fsprogs)")
        tests.end()
    wanted = sys.argv[2:] or ["ahci", "ide"]
    if "ahci" in wanted:
        tests.run("disk and CD-ROM on ahci", on_controller, "ahci")
    if "ide" in wanted:
        if all(shutil.which(tool) for tool in ["grub-mkimage", "mformat", "fsck.vfat"]) and os.path.exists(SEABIOS):
            tests.run("disks and CD-ROM on IDE, and a floppy, on pc", old_pc)
        else:
            tests.skip("IDE on pc", "needs seabios, grub-pc-bin, grub-common, mtools and dosfstools")
    tests.end()


if __name__ == "__main__":
    main()
