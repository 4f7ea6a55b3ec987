#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Debian's stock cloud kernel and its virtio_net driver: addresses, downloads and forwarded ports.

    net.py VMM_RUN [PART OF A TEST'S NAME]

The kernel is vmlinuz-* in the folder $LIBVMM_KERNELS, the initramfs $LIBVMM_CACHE/initramfs-net.gz
(make-initramfs makes it). $LIBVMM_DOWNLOAD is the size of the largest download in MiB (32). Needs a
complete KVM; for taps CAP_NET_ADMIN and `ip`; for the rest of the host's side passt.
"""

import functools
import glob
import hashlib
import http.server
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from console import Console, Tests

vmm_run = sys.argv[1]
only = sys.argv[2] if len(sys.argv) > 2 else ""
kernel = (glob.glob(os.environ.get("LIBVMM_KERNELS", "") + "/vmlinuz-*") or [""])[0]
initrd = os.path.join(os.environ.get("LIBVMM_CACHE", ""), "initramfs-net.gz")
LARGE = int(os.environ.get("LIBVMM_DOWNLOAD", "32")) << 20
SMALL = 3000017

# busybox's udhcpc calls this (a file in the guest) with what it was given.
DHCP_SCRIPT = ("[ $1 = bound ] || exit 0; ifconfig $interface $ip netmask $subnet;"
               " [ -z \"$router\" ] || route add default gw $router; echo got $ip from $serverid")


def guest(net, transport, cpus=1, prefix=()):
    console = Console(
        [*prefix, vmm_run, "--kernel", kernel, "--initrd", initrd, "--append",
         "console=ttyS0 quiet", "--memory", "192M", "--cpus", str(cpus), "--timeout", "600",
         "--verbose", "--transport", transport, "--net", net]
    )
    console.expect("user space reached on", 100)
    console.expect("guest# ", 20)
    return console


def command(console, text, answer, seconds=20):
    console.type(text + "\n")
    return console.expect(answer, seconds)


def power_off(console):
    console.type("poweroff -f\n")
    status = console.wait(30)
    assert status == 0, f"exit status {status}\n{console.tail()}"
    assert "the guest misused" not in console.text(), console.text()


class Folder:
    """A folder in memory with a file to download, and its sum."""

    def __init__(self, size):
        self.path = tempfile.mkdtemp(dir="/dev/shm")
        data = os.urandom(1 << 20)
        digest = hashlib.md5()
        with open(self.path + "/file", "wb") as file:
            while size > 0:
                part = data[: min(size, len(data))]
                file.write(part)
                digest.update(part)
                size -= len(part)
                data = data[1:] + data[:1]  # no two megabytes are the same
        self.digest = digest.hexdigest()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def serve(folder):
    """An HTTP server of this process; its port."""
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def ask_for_address(console, answer):
    command(console, f"echo '{DHCP_SCRIPT}' >/tmp/dhcp; sed -i '1i#!/bin/sh' /tmp/dhcp;"
            " chmod +x /tmp/dhcp; ifconfig eth0 up; udhcpc -i eth0 -n -q -s /tmp/dhcp; echo don''e",
            answer + r"[^$]*\ndone\r", 40)


def download(console, url, digest, size):
    start = time.monotonic()
    command(console, f"wget -q -O - {url} | md5sum", rf"\n{digest}  -\r", 200)
    seconds = time.monotonic() - start
    print(f"# {size / 1e6:.1f} MB in {seconds:.1f} s: {size / 1e6 / seconds:.1f} MB/s", flush=True)


def frames_of(path):
    """The frames of a capture, by the format's own description."""
    with open(path, "rb") as file:
        data = file.read()
    magic, major, minor, _, _, _, link = struct.unpack_from("<IHHiIII", data)
    assert (magic, major, minor, link) == (0xA1B23C4D, 2, 4, 1), data[:24]
    at = 24
    while at < len(data):
        seconds, nanoseconds, captured, length = struct.unpack_from("<IIII", data, at)
        assert captured == length and abs(seconds - time.time()) < 3600 and nanoseconds < 10**9
        assert at + 16 + captured <= len(data), "a record is cut off"
        yield data[at + 16 : at + 16 + captured]
        at += 16 + captured


def check_capture(path, address):
    """It has the DHCP request and the server's stream; tcpdump reads it too, where there is one."""
    frames = list(frames_of(path))
    assert any(f[12:14] == b"\x08\0" and f[23] == 17 and f[36:38] == b"\0\x43" for f in frames)
    assert sum(f[12:14] == b"\x08\0" and f[26:30] == address and f[23] == 6 for f in frames) > 100
    if shutil.which("tcpdump"):
        text = subprocess.run(["tcpdump", "-nr", path], capture_output=True, check=True).stdout
        assert text.count(b"\n") == len(frames)
    print(f"# {len(frames)} frames captured" + ("" if shutil.which("tcpdump") else "; no tcpdump here"))


def features(console):
    """The features in use, bit 0 first."""
    match = command(console, "cat /sys/class/net/eth0/device/features", r"\n([01]{64})\r")
    return match.group(1).decode()


def user_mode(transport, cpus, packed, size):
    with Folder(size) as folder:
        port = serve(folder.path)
        capture = folder.path + "/pcap" if size == SMALL else None
        net = "user,host=on,mac=02:00:00:00:12:34" + ("" if packed else ",packed=off")
        with guest(net + (f",pcap={capture}" if capture else ""), transport, cpus) as console:
            assert (features(console)[34] == "1") == packed
            command(console, "cat /sys/class/net/eth0/address", r"\n02:00:00:00:12:34\r")
            ask_for_address(console, r"got 10\.0\.2\.15 from 10\.0\.2\.2\r")
            download(console, f"http://10.0.2.2:{port}/file", folder.digest, size)
            console.expect("guest# ", 20)
            power_off(console)
        if capture:
            check_capture(capture, bytes([10, 0, 2, 2]))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def forwarded_port():
    port = free_port()
    with guest(f"user,restrict=on,forward=tcp:{port}:7000", "pci") as console:
        ask_for_address(console, r"got 10\.0\.2\.15 from 10\.0\.2\.2\r")
        command(console, "nc -l -p 7000 -e cat & sleep 1; echo listen''s", "listens")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            data = os.urandom(300000)
            threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
            answer = b""
            while len(answer) < len(data):
                part = client.recv(65536)
                assert part, f"closed after {len(answer)} bytes"
                answer += part
        assert answer == data
        command(console, "wget -T 3 -q -O - http://10.0.2.2/ || echo restrict''ed", "restricted")
        power_off(console)


def legacy_driver():
    with Folder(SMALL) as folder:
        port = serve(folder.path)
        with guest("user,host=on", "pci-transitional") as console:
            command(console, "rmmod virtio_pci && insmod /modules/*-virtio_pci.ko force_legacy=1 &&"
                    " sleep 1; cat /sys/class/net/eth0/device/features | cut -c33", r"\n0\r")
            ask_for_address(console, r"got 10\.0\.2\.15 from 10\.0\.2\.2\r")
            download(console, f"http://10.0.2.2:{port}/file", folder.digest, SMALL)
            console.expect("guest# ", 20)
            power_off(console)


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True).returncode


class Namespace:
    """A network namespace with an HTTP server for a folder; `inside` runs a program there."""

    inside = ["ip", "netns", "exec", "vmmtest"]

    def __init__(self, folder):
        ip("netns", "del", "vmmtest", check=False)
        ip("netns", "add", "vmmtest")
        ip("-n", "vmmtest", "link", "set", "lo", "up")
        self.server = subprocess.Popen(
            [*self.inside, sys.executable, "-m", "http.server", "-d", folder, "80"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def add_tap(self, name, address):
        ip("-n", "vmmtest", "tuntap", "add", name, "mode", "tap", "vnet_hdr", "multi_queue")
        ip("-n", "vmmtest", "addr", "add", address, "dev", name)
        ip("-n", "vmmtest", "link", "set", name, "up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.kill()
        self.server.wait()
        ip("netns", "del", "vmmtest", check=False)


def tap(transport, cpus, packed, size):
    """A tap with two queues in a network namespace; its server too."""
    with Folder(size) as folder, Namespace(folder.path) as namespace:
        namespace.add_tap("tap0", "10.9.0.1/24")
        capture = folder.path + "/pcap" if size == SMALL else None
        net = "tap:tap0,queues=2" + ("" if packed else ",packed=off")
        net += f",pcap={capture}" if capture else ""
        with guest(net, transport, cpus, namespace.inside) as console:
            used = features(console)
            assert (used[34] == "1") == packed
            # checksums and segments both ways, merged buffers, several queues
            assert all(used[bit] == "1" for bit in (0, 1, 2, 7, 8, 11, 12, 15, 22)), used
            command(console, "ls -d /sys/class/net/eth0/queues/tx-* | wc -l", rf"\n{min(2, cpus)}\r")
            command(console, "ifconfig eth0 10.9.0.2 netmask 255.255.255.0; ping -c 2 10.9.0.1",
                    "2 packets received")
            download(console, "http://10.9.0.1/file", folder.digest, size)
            console.expect("guest# ", 20)
            power_off(console)
        if capture:
            longest = max(len(f) for f in frames_of(capture))
            print(f"# the longest frame had {longest} bytes")
            assert longest > 1514  # segments came whole


def passt(transport):
    """Debian's passt at the other end of a unix socket; its gateway address is the host itself. It
    wants to see an interface with a default route."""
    with Folder(SMALL) as folder, Namespace(folder.path) as namespace:
        os.chmod(folder.path, 0o777)  # passt gives up its rights
        namespace.add_tap("ext0", "10.8.0.2/24")
        ip("-n", "vmmtest", "route", "add", "default", "via", "10.8.0.1", "dev", "ext0")
        path = folder.path + "/passt"
        with open(folder.path + "/log", "w+", encoding="utf-8") as log:
            peer = subprocess.Popen(
                [*namespace.inside, "passt", "-f", "-4", "-i", "ext0", "-s", path, "-t", "none",
                 "-u", "none", "-D", "10.8.0.1"], stdout=log, stderr=log)
            try:
                deadline = time.monotonic() + 20
                while not os.path.exists(path) and peer.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.1)
                log.seek(0)
                assert peer.poll() is None, log.read()
                with guest(f"unix:{path}", transport) as console:
                    ask_for_address(console, r"got 10\.8\.0\.2 from 10\.8\.0\.1\r")
                    download(console, "http://10.8.0.1/file", folder.digest, SMALL)
                    console.expect("guest# ", 20)
                    power_off(console)
            finally:
                peer.kill()
                peer.wait()


def main():
    tests = Tests()
    if not (kernel and os.path.exists(initrd)):
        tests.skip("net", "LIBVMM_KERNELS or LIBVMM_CACHE names no kernel or initramfs")
        tests.end()

    def run(name, function, *arguments, needs=None):
        if only not in name:
            return
        if needs and not shutil.which(needs):
            tests.skip(name, f"there is no {needs}")
            return
        tests.run(name, function, *arguments)

    run("user-mode, mmio, packed, 1 vCPU", user_mode, "mmio", 1, True, SMALL)
    run("user-mode, pci, split, 2 vCPU, large", user_mode, "pci", 2, False, LARGE)
    run("forwarded port, restricted, pci", forwarded_port)
    run("legacy driver", legacy_driver)
    run("tap, pci, packed, 2 vCPU, large", tap, "pci", 2, True, LARGE, needs="ip")
    run("tap, mmio, split, 1 vCPU", tap, "mmio", 1, False, SMALL, needs="ip")
    run("passt, pci", passt, "pci", needs="passt")
    tests.end()


if __name__ == "__main__":
    main()
