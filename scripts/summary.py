#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Count the results of all suites: Meson's JSON logs, one object a line, in the folder given.

A program that speaks TAP or CMocka counts with each of its tests. Prints what failed and what was
skipped and why, then the closing line.
"""

import glob
import json
import os
import re
import sys


def count(entry):
    """(passed, failed, skipped, details) of one program's log."""
    out = (entry.get("stdout") or "") + "\n" + (entry.get("stderr") or "")
    result = entry["result"]
    passed = failed = skipped = 0
    details = []
    tap = re.findall(r"^(not ok|ok) \d+ ?-? ?(.*)$", out, re.M)
    cmocka = re.findall(r"^\[\s+(OK|FAILED|SKIPPED|ERROR)\s+\] (\S+)\s*$", out, re.M)
    for verdict, name in tap:
        if verdict == "ok" and "# SKIP" in name.upper():
            skipped += 1
            details.append("skipped: " + name)
        elif verdict == "ok":
            passed += 1
        else:
            failed += 1
            details.append("FAILED: " + name)
    if not tap:
        lines = {}
        for verdict, name in cmocka:
            if not name.endswith("(s)"):
                lines[name] = verdict
        for name, verdict in lines.items():
            if verdict == "OK":
                passed += 1
            elif verdict == "SKIPPED":
                skipped += 1
                details.append("skipped: " + name)
            else:
                failed += 1
                details.append("FAILED: " + name)
    if result == "SKIP" and skipped == 0:
        why = re.search(r"SKIP: (.*)", out)
        skipped += 1
        details.append("skipped: " + (why.group(1) if why else out.strip()[:100]))
    elif result not in ("OK", "EXPECTEDFAIL", "SKIP") and failed == 0:
        failed += 1
        details.append(f"FAILED: {result} {out.strip()[-300:]}")
    elif passed + failed + skipped == 0:
        passed += 1
    return passed, failed, skipped, details


def main():
    totals = [0, 0, 0]
    for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.json"))):
        sums = [0, 0, 0]
        notes = []
        with open(path, encoding="utf-8") as file:
            for line in filter(str.strip, file):
                entry = json.loads(line)
                *numbers, details = count(entry)
                sums = [a + b for a, b in zip(sums, numbers)]
                notes += [f"      {entry['name'].split(' / ')[-1]}: {d}" for d in details]
        suite = os.path.basename(path)[:-5]
        print(f"   {suite:16} {sums[0]:5} passed {sums[1]:3} failed {sums[2]:3} skipped")
        if notes:
            print("\n".join(notes))
        totals = [a + b for a, b in zip(totals, sums)]
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    sys.exit(1 if totals[1] or not totals[0] else 0)


main()
