#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Run Meson's tests that want a complete KVM: here, or in nested machines where the host's KVM is incomplete.

    run.py BUILD RESULTS SUITE... [--here] [--machines N] [--name NAME]...

Each stock-Linux test gets a nested machine of its own (tests/nested/nested-kvm), N of them at a time; the
short tests of suite kvm share one. A machine that fails itself (its emulated SVM locks up now and then) is
started again for what it had not finished, twice at most, and the output says so. The same emulation now and then
gives a guest kernel a triple fault, in another place each time: such a test is repeated once, visibly. Any other
failure is not repeated. Writes RESULTS/nested-SUITE.json in the form of Meson's logs, for scripts/summary.py.
"""

import argparse
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys
import time

TRIES = 3
SLOWER = 3  # the emulated machine beside a real one, for the tests' time limits
MACHINE_FAILED = 75

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("build")
parser.add_argument("results")
parser.add_argument("suites", nargs="+", metavar="SUITE")
parser.add_argument("--here", action="store_true", help="this machine's own KVM is complete: no nested machines")
parser.add_argument("--machines", type=int, default=0, help="nested machines at a time; 0: as the host allows")
parser.add_argument("--name", action="append", help="only these tests")
args = parser.parse_args()
args.build = os.path.abspath(args.build)
work = os.path.join(os.path.abspath(args.results), "nested")
nested_kvm = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nested-kvm")


def tests():
    """Meson's tests of the suites: dictionaries as `meson introspect --tests` has them, suite made one name."""
    listed = subprocess.run(["meson", "introspect", "--tests", args.build], check=True, stdout=subprocess.PIPE)
    for test in json.loads(listed.stdout):
        suites = {name.split(":")[-1] for name in test["suite"]} & set(args.suites)
        if suites and (not args.name or test["name"] in args.name):
            test["suite"] = suites.pop()
            yield test


def jobs():
    """(name, lines to run first, tests): each job is one machine's work."""
    small = [test for test in tests() if test["suite"] == "kvm"]
    if small:
        yield "kvm", "", small
        backing = [test for test in small if test["name"] == "memory-backing"]
        if backing and not args.here:  # a kernel of our own: huge pages can be set aside in it
            again = dict(backing[0], name="memory-backing-huge")
            yield "huge-pages", "echo 32 >/proc/sys/vm/nr_hugepages\nexport LIBVMM_HUGE_PAGES=1\n", [again]
    for test in tests():
        if test["suite"] != "kvm":
            yield test["name"], "", [test]


def path(test, kind):
    return os.path.join(work, f"{test['name']}.{kind}")


def limit(test):
    return test["timeout"] * (1 if args.here else SLOWER)


def script(before, todo):
    """Runs the tests one after the other; for each a log, and at its end a file with its status."""
    lines = [before] + [f"export {key}={shlex.quote(value)}" for key, value in os.environ.items()
                        if key.startswith("LIBVMM_")]
    for test in todo:
        setting = " ".join(f"{key}={shlex.quote(value)}" for key, value in test["env"].items())
        command = " ".join(map(shlex.quote, test["cmd"]))
        lines.append(f"echo '   {test['name']} …'")
        lines.append(f"cd {shlex.quote(test['workdir'] or args.build)}")
        lines.append(f"date +%s.%N >{shlex.quote(path(test, 'start'))}")
        lines.append(f"env {setting} timeout -k 10 {limit(test)} {command} >{shlex.quote(path(test, 'log'))} 2>&1")
        lines.append(f"status=$?; date +%s.%N >{shlex.quote(path(test, 'end'))}")
        lines.append(f"sync; echo $status >{shlex.quote(path(test, 'status'))}; sync")
    return "\n".join(lines) + "\n"


def finished(test):
    return os.path.exists(path(test, "status")) and os.path.getsize(path(test, "status")) > 0


def forget_triple_faults(todo):
    """Let tests whose guest fell back to the state after a reset (which KVM shows at a triple fault) run again."""
    again = [test for test in todo if test["suite"] != "kvm" and read(test, "status").strip() not in ("", "0", "77")
             and "cs  f000 base 00000000ffff0000" in read(test, "log")]
    for test in again:
        print(f"   {test['name']}: a guest had a triple fault; once more, in a new machine", flush=True)
        os.replace(path(test, "log"), path(test, "first-log"))
        os.unlink(path(test, "status"))
    return bool(again)


def run_job(job):
    """Everything of one job, with the tries that it needs. Returns how often a machine failed."""
    name, before, todo = job
    for attempt in range(1 if args.here else TRIES):
        todo = [test for test in todo if not finished(test)]
        if not todo:
            return attempt
        file = os.path.join(work, f"{name}.sh")
        with open(file, "w", encoding="utf-8") as out:
            out.write(script(before, todo))
        command = ["bash", file]
        if not args.here:
            whole = sum(limit(test) for test in todo) + 300
            command = [nested_kvm, "-t", str(whole)] + command
        with open(os.path.join(work, f"{name}.machine-{attempt}"), "w", encoding="utf-8") as out:
            status = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False,
                                    stdin=subprocess.DEVNULL).returncode
        if status != MACHINE_FAILED:
            if attempt or args.here or not forget_triple_faults(todo):
                break
            continue
        print(f"   the nested machine of {name} failed (try {attempt + 1} of {TRIES}):", flush=True)
        with open(os.path.join(work, f"{name}.machine-{attempt}"), encoding="utf-8", errors="replace") as said:
            print("".join("      | " + line for line in said.readlines()[-8:]), end="", flush=True)
    return 0


def read(test, kind):
    try:
        with open(path(test, kind), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def verdict(test):
    """A line of Meson's log for the test."""
    log, status = read(test, "log"), read(test, "status").strip()
    if not status:
        result, log = "FAIL", log + "\nits machine ended before the test did"
    elif status in ("124", "137"):
        result = "TIMEOUT"
    elif status == "77" or re.search(r"^1\.\.0 # SKIP", log, re.M):
        result = "SKIP"
    else:
        result = "OK" if status == "0" and not re.search(r"^not ok", log, re.M) else "FAIL"
    try:
        took = float(read(test, "end")) - float(read(test, "start"))
    except ValueError:
        took = 0.0
    return {"name": f"{test['suite']} / {test['name']}", "result": result, "duration": took, "stdout": log}


def report(entry):
    print(f"   {entry['name'].split(' / ')[-1]:24} {entry['result']:8} {entry['duration']:7.1f} s", flush=True)
    if entry["result"] not in ("OK", "SKIP"):
        print("".join(f"      | {line}\n" for line in entry["stdout"].splitlines()[-40:]), end="", flush=True)


def machines_at_once():
    if args.here:
        return 1
    if args.machines:
        return args.machines
    with open("/proc/meminfo", encoding="ascii") as file:
        available = int(re.search(r"MemAvailable:\s+(\d+)", file.read()).group(1)) >> 20
    return 2 if (os.cpu_count() or 1) >= 2 and available >= 8 else 1  # each takes up to 3.5 GiB


def main():
    os.makedirs(work, exist_ok=True)
    for old in os.listdir(work):
        os.unlink(os.path.join(work, old))
    started = time.time()
    entries = {suite: [] for suite in args.suites}
    # The longest first, as far as their time limits tell, so that none is left over at the end.
    waiting = sorted(jobs(), key=lambda job: -sum(test["timeout"] for test in job[2]))
    if not waiting:
        sys.exit(f"run.py: no tests of {' '.join(args.suites)} in {args.build}")
    with concurrent.futures.ThreadPoolExecutor(machines_at_once()) as pool:
        running = {pool.submit(run_job, job): job for job in waiting}
        for done in concurrent.futures.as_completed(running):
            done.result()
            for test in running[done][2]:
                entry = verdict(test)
                report(entry)
                entries[test["suite"]].append(entry)
    for suite, lines in entries.items():
        with open(os.path.join(args.results, f"nested-{suite}.json"), "w", encoding="utf-8") as out:
            out.writelines(json.dumps(line) + "\n" for line in lines)
    print(f"   {sum(map(len, entries.values()))} tests in {time.time() - started:.0f} s", flush=True)


main()
