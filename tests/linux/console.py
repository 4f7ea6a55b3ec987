# SPDX-License-Identifier: BSD-3-Clause
"""Drive a guest's serial console: start a launcher on a pseudo-terminal, wait for text, type."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time


# A nested machine whose host is busy is slow; a test that waits longer there fails for the same reasons.
PATIENCE = 3 if os.environ.get("LIBVMM_NESTED") else 1


class Timeout(Exception):
    pass


class Console:
    """A program on a terminal of its own, and all that it has printed so far."""

    def __init__(self, command, echo=None):
        self.master, slave = pty.openpty()
        self.output = b""
        self.at = 0  # what expect() has consumed
        self.echo = echo
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=subprocess.STDOUT, start_new_session=True
        )
        os.close(slave)

    def _read(self, seconds):
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other end has been closed
            data = b""
        if not data:
            time.sleep(0.02)
            return False
        self.output += data
        if self.echo:
            self.echo.write(data.decode("utf-8", "replace"))
            self.echo.flush()
        return True

    def expect(self, pattern, seconds):
        """Wait for a regular expression; returns the match and consumes up to its end."""
        seconds *= PATIENCE
        deadline = time.monotonic() + seconds
        expression = re.compile(pattern.encode() if isinstance(pattern, str) else pattern)
        start = self.at
        while True:
            length = len(self.output)
            match = expression.search(self.output, start)
            if match:
                self.at = match.end()
                return match
            left = deadline - time.monotonic()
            if left <= 0 or (self.process.poll() is not None and not self._read(0.05)):
                raise Timeout(
                    f"waited {seconds} s for {pattern!r}; the last lines were:\n{self.tail()}"
                )
            start = max(self.at, length - 4096)  # what has been searched is not searched again
            if self._read(min(left, 0.5)):
                while len(self.output) < length + 65536 and self._read(0):
                    pass

    def seen(self, pattern, seconds):
        """Does the text come within so long? It is not consumed."""
        at = self.at
        try:
            self.expect(pattern, seconds / PATIENCE)  # most who ask hope not to see it
            return True
        except Timeout:
            return False
        finally:
            self.at = at

    def type(self, text):
        os.write(self.master, text.encode())

    def wait(self, seconds):
        """Wait for the program's end; returns its exit status."""
        seconds *= PATIENCE
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise Timeout(f"still running after {seconds} s; the last lines:\n{self.tail()}")
            self._read(0.1)
        while self._read(0.05):
            pass
        return self.process.returncode

    def tail(self, lines=15):
        text = self.output.decode("utf-8", "replace").replace("\r", "")
        return "\n".join(text.splitlines()[-lines:])

    def text(self):
        return self.output.decode("utf-8", "replace").replace("\r", "")

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self.master)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def ask(path, line):
    """A command to vmm-run's control socket at a path (docs/control.md); its answer, which is not an error."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30 * PATIENCE)
        s.connect(path)
        s.sendall(line.encode() + b"\n")
        with s.makefile() as answers:
            answer = json.loads(answers.readline())
    assert "error" not in answer, f"{line}: {answer}"
    return answer


class Tests:
    """A few named checks in one program: prints TAP, and the plan at the end."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def run(self, name, function, *args):
        self.count += 1
        start = time.monotonic()
        try:
            function(*args)
            verdict = "ok"
        except Exception as problem:  # a test may fail in any way
            self.failed += 1
            verdict = "not ok"
            for line in f"{type(problem).__name__}: {problem}".splitlines():
                print("# " + line)
        print(f"{verdict} {self.count} - {name} ({time.monotonic() - start:.1f} s)", flush=True)

    def skip(self, name, why):
        self.count += 1
        print(f"ok {self.count} - {name} # SKIP {why}", flush=True)

    def end(self):
        print(f"1..{self.count}", flush=True)
        sys.exit(1 if self.failed else 0)
