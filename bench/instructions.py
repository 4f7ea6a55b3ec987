#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Instructions of hot paths, counted by callgrind: the same program gives the same number each time.

    instructions.py BUILD_FOLDER [--record]

Each path of bench-hotpaths (and, where /dev/kvm can be used, an exit's of bench-exits) is run with two
counts; the difference, divided, is what one operation costs, start-up left out. The counts are compared
with bench/instructions.json: more than 3 per cent above it is a failure, with the functions named that
grew. --record writes that file anew, for a change that is meant.

Counts depend on the compiler, so those of another one are measured and not compared: that is a skip.
Prints TAP.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter

here = os.path.dirname(os.path.abspath(__file__))
record_path = os.path.join(here, "instructions.json")
LIMIT = 1.03
LOW, HIGH = 1024, 3072


def compiler(build):
    """What made the programs, such as "gcc 12.2.0 optimized"."""
    return subprocess.run([os.path.join(build, "bench/bench-hotpaths"), "--compiler"], check=True,
                          capture_output=True, text=True).stdout.strip()


def self_costs(path):
    """Self cost of each function in a callgrind file that has no compressed names."""
    costs, name, called = Counter(), None, False
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("fn="):
                name = line[3:].strip()
            elif line.startswith("calls="):
                called = True  # the next line is the callee's cost
            elif re.match(r"^[+\-*\d]", line):
                if not called and name:
                    costs[name] += int(line.split()[1])
                called = False
    return costs


def run(command):
    """Self costs of one run, or None with what the program said."""
    with tempfile.NamedTemporaryFile(suffix=".callgrind") as out:
        done = subprocess.run(
            ["valgrind", "-q", "--tool=callgrind", "--compress-strings=no", "--compress-pos=no",
             f"--callgrind-out-file={out.name}", *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            return None, (done.stdout + done.stderr).strip().splitlines()[-1:]
        return self_costs(out.name), None


def each(program, path, *more):
    """Instructions of one operation by function; None and why, where it cannot be run."""
    low, why = run([program, str(LOW), path, *more])
    if low is None:
        return None, why
    high, why = run([program, str(HIGH), path, *more])
    if high is None:
        return None, why
    grown = {name: (high[name] - low[name]) / (HIGH - LOW) for name in high}
    return {name: cost for name, cost in grown.items() if cost > 0.05}, None


def base_name(function):
    """Callgrind numbers recursions ("insert'2") and adds the object."""
    return re.sub(r"'\d+$", "", function)


def measure(build):
    """Path -> {function: instructions}."""
    hot = os.path.join(build, "bench/bench-hotpaths")
    exits = os.path.join(build, "bench/bench-exits")
    paths = subprocess.run([hot, "--list"], check=True, capture_output=True,
                           text=True).stdout.split()
    found = {}
    for path in paths:
        costs, why = each(hot, path)
        if costs is None:
            sys.exit(f"bench-hotpaths {path}: {why}")
        found[path] = costs
    if os.path.exists(exits) and os.access("/dev/kvm", os.R_OK | os.W_OK):
        for kind in ("port-write", "mmio-write"):
            for side in ("ours", "floor"):
                costs, why = each(exits, kind, side)
                if costs is None:
                    print(f"# {kind}: not measured: {why}")
                    continue
                found[f"exit-{kind}-{side}"] = costs
    return found


def total(costs):
    return sum(costs.values())


def growth(old, new):
    """The functions that grew, most first."""
    by_name = Counter()
    for name, cost in new.items():
        by_name[base_name(name)] += cost
    for name, cost in old.items():
        by_name[base_name(name)] -= cost
    return ", ".join(f"{name} +{cost:.1f}" for name, cost in by_name.most_common(4) if cost > 0.5)


def main():
    build = sys.argv[1]
    found = measure(build)
    made_by = compiler(build)
    if "--record" in sys.argv:
        with open(record_path, "w", encoding="utf-8") as file:
            json.dump({"compiler": made_by, "paths": {
                path: {name: round(cost, 2) for name, cost in sorted(costs.items())}
                for path, costs in found.items()}}, file, indent=1)
            file.write("\n")
    with open(record_path, encoding="utf-8") as file:
        recorded = json.load(file)
    same = recorded["compiler"] == made_by
    failed = 0
    print(f"1..{len(found) + 1}")
    for number, (path, costs) in enumerate(found.items(), 1):
        now, before = total(costs), total(recorded["paths"].get(path, {}))
        told = f"{number} - {path}: {now:.1f} instructions, recorded {before:.1f}"
        if not same:
            print(f"ok {told} # SKIP recorded with {recorded['compiler']}, this is {made_by}")
        elif path.startswith("exit-"):
            print(f"ok {told}")  # KVM decides how often it comes back; judged below
        elif now > before * LIMIT + 0.5:
            failed += 1
            print(f"not ok {told}: {growth(recorded['paths'].get(path, {}), costs)}")
        else:
            print(f"ok {told}")
    failed += exit_goal(len(found) + 1, found)
    out = os.environ.get("LIBVMM_BENCH_OUT")
    if out:
        write_figures(out, found)
    return 1 if failed else 0


def exit_goal(number, found):
    """A port exit: at most 150 instructions beyond the bare loop."""
    ours, floor = found.get("exit-port-write-ours"), found.get("exit-port-write-floor")
    if not ours or not floor:
        print(f"ok {number} - a port exit beyond the floor # SKIP no usable /dev/kvm")
        return 0
    beyond = total(ours) - total(floor)
    verdict = "ok" if beyond <= 150 else "not ok"
    print(f"{verdict} {number} - a port exit: {beyond:.0f} instructions beyond the floor, at most 150")
    return verdict != "ok"


def write_figures(out, found):
    """The same for bench/run."""
    with open(out, "a", encoding="utf-8") as file:
        for path, costs in found.items():
            figure = {"group": "instructions", "name": path, "unit": "instr", "more_is_better": False,
                      "value": round(total(costs), 1), "low": round(total(costs), 1),
                      "high": round(total(costs), 1), "samples": 1,
                      "how": "user instructions of one operation, counted by callgrind"}
            if path.endswith("-floor"):
                continue
            floor = found.get(path.replace("-ours", "-floor"))
            if path.startswith("exit-") and floor:
                figure.update(peer="bare KVM_RUN", peer_value=round(total(floor), 1),
                              peer_low=round(total(floor), 1), peer_high=round(total(floor), 1),
                              ratio=round(total(floor) / total(costs), 3))
                if path.startswith("exit-port"):
                    figure.update(limit=round(total(floor) + 150, 1),
                                  met=total(costs) <= total(floor) + 150)
            file.write(json.dumps(figure) + "\n")


sys.exit(main())
