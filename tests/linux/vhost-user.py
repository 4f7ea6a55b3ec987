#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Devices of other processes, as Debian packages them: qemu-storage-daemon's disk, virtiofsd's file system
and a network card of DPDK's testpmd, with a stock kernel.

    vhost-user.py VMM_RUN

Kernel and initramfs are those of share.py. Needs a complete KVM.
"""

import glob
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time

from console import Console, Tests

vmm_run = sys.argv[1]
cache = os.environ.get("LIBVMM_CACHE", "")
kernel = (glob.glob(cache + "/kernels/linux-image-amd64/boot/vmlinuz-*") or [""])[0]
initrd = cache + "/initramfs-share.gz"
storage_daemon = shutil.which("qemu-storage-daemon")
testpmd = shutil.which("dpdk-testpmd")
virtiofsd = next((p for p in ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
                  if os.path.exists(p)), None)


def guest(device, transport):
    console = Console(
        [vmm_run, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet",
         "--memory", "192M", "--timeout", "600", "--verbose", "--transport", transport,
         "--vhost-user", device]
    )
    console.expect("user space reached on", 150)
    console.expect("guest# ", 20)
    return console


def command(console, text, answer, seconds=60):
    console.type(text + "\n")
    return console.expect(answer, seconds)


def power_off(console):
    console.expect("guest# ", 20)
    console.type("poweroff -f\n")
    assert console.wait(30) == 0, console.tail()
    assert "the guest misused" not in console.text(), console.text()


class BackEnd:
    def __init__(self, arguments, socket):
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE,
                                        stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not os.path.exists(socket):
            assert self.process.poll() is None and time.monotonic() < deadline, arguments
            time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def disk(folder):
    return BackEnd(
        [storage_daemon, "--blockdev", f"driver=file,node-name=f,filename={folder}/disk",
         "--export", f"type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path={folder}/socket,"
         "writable=on,num-queues=2"], folder + "/socket")


def new_disk(folder):
    with open(folder + "/disk", "wb") as image:
        image.truncate(32 << 20)


def disk_is_written(transport):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        new_disk(folder)
        with disk(folder), guest(f"blk:{folder}/socket,queues=2", transport) as console:
            command(console, "cat /sys/block/vda/size", r"\n65536\r")
            command(console, "head -c 3000000 /dev/urandom >/tmp/r; dd if=/tmp/r of=/dev/vda bs=64k;"
                    " sync; echo 3 >/proc/sys/vm/drop_caches; head -c 3000000 /dev/vda |"
                    " cmp - /tmp/r && echo sa''me", "same", 90)
            digest = command(console, "md5sum </tmp/r", r"\n([0-9a-f]{32})").group(1)
            # The driver lets go of the device and takes it again.
            command(console, "cd /sys/bus/virtio/drivers/virtio_blk; d=$(ls | grep ^virtio);"
                    " echo $d >unbind; echo $d >bind; cd /; head -c 3000000 /dev/vda |"
                    " cmp - /tmp/r && echo aga''in", "again", 90)
            power_off(console)
        with open(folder + "/disk", "rb") as image:
            assert hashlib.md5(image.read(3000000)).hexdigest() == digest.decode()


def back_end_dies():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        new_disk(folder)
        with disk(folder) as back_end, guest(f"blk:{folder}/socket", "pci") as console:
            command(console, "head -c 100 /dev/vda | wc -c", r"\n100\r")
            back_end.process.kill()
            console.expect("vhost-user back end: its socket", 30)
            command(console, "echo the guest goes o''n", "goes on")
            power_off(console)


def file_system_is_mounted(transport):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.makedirs(folder + "/tree/a/b")
        for number in range(20):
            with open(f"{folder}/tree/a/file-{number}", "wb") as f:
                f.write(os.urandom(number * 9973))
        os.symlink("a/file-3", folder + "/tree/link")
        arguments = [virtiofsd, f"--socket-path={folder}/socket", "-o", f"source={folder}/tree",
                     "-o", "sandbox=chroot", "-o", "log_level=err"]
        with BackEnd(arguments, folder + "/socket"), \
                guest(f"fs:{folder}/socket,tag=T", transport) as console:
            command(console, "mount -t virtiofs T /mnt && cp -a /mnt/a /tmp/ && cp -a /tmp/a /mnt/copy"
                    " && echo copi''ed", "copied", 90)
            command(console, "cmp /mnt/link /mnt/copy/file-3 && mv /mnt/copy/file-4 /mnt/moved"
                    " && umount /mnt && echo unmount''ed", "unmounted")
            command(console, "mount -t virtiofs T /mnt && cmp /mnt/moved /tmp/a/file-4"
                    " && echo aga''in; umount /mnt", "again")
            power_off(console)
        os.rename(folder + "/tree/moved", folder + "/tree/copy/file-4")
        subprocess.run(["diff", "-r", folder + "/tree/a", folder + "/tree/copy"], check=True)


def network_card():
    """testpmd answers ARP and ICMP echo requests by itself; it polls, so that others come first."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        arguments = ["nice", "-n", "19", testpmd, "--no-huge", "-m", "128", "--no-pci", "-l", "0,1",
                     "--no-telemetry", "--no-shconf", "--vdev", f"net_vhost0,iface={folder}/socket", "--",
                     "--forward-mode=icmpecho", "--auto-start", "--total-num-mbufs=4096"]
        with BackEnd(arguments, folder + "/socket"), guest(f"net:{folder}/socket", "pci") as console:
            up = "ifconfig eth0 10.7.0.2 netmask 255.255.255.0 up; "
            command(console, up + "ping -c 3 10.7.0.1", "3 packets received", 90)
            command(console, "ping -c 3 -s 1400 10.7.0.9", "3 packets received", 90)
            # The driver lets go of the card and takes it again.
            command(console, "cd /sys/bus/virtio/drivers/virtio_net; d=$(ls | grep ^virtio);"
                    " echo $d >unbind; echo $d >bind; cd /; " + up + "ping -c 3 10.7.0.1",
                    "3 packets received", 90)
            power_off(console)


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("vhost-user", "LIBVMM_CACHE names no kernel, or no initramfs for it")
        tests.end()
    if storage_daemon:
        tests.run("qemu-storage-daemon, pci", disk_is_written, "pci")
    else:
        tests.skip("qemu-storage-daemon", "it is not installed (Debian: qemu-system-common)")
    if virtiofsd:
        tests.run("virtiofsd, mmio", file_system_is_mounted, "mmio")
    else:
        tests.skip("virtiofsd", "it is not installed (Debian: virtiofsd or qemu-system-common)")
    if testpmd:
        tests.run("testpmd, pci", network_card)
    else:
        tests.skip("testpmd", "it is not installed (Debian: dpdk-dev)")
    if storage_daemon:
        tests.run("a back end that dies", back_end_dies)
    tests.end()


if __name__ == "__main__":
    main()
