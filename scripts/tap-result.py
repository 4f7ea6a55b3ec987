#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Make a result for scripts/summary.py of a program's TAP: tap-result.py NAME FOLDER STATUS reads FOLDER/NAME.tap."""

import json
import sys

name, folder, status = sys.argv[1:4]
with open(f"{folder}/{name}.tap", encoding="utf-8", errors="replace") as tap:
    entry = {"name": name, "result": "OK" if status == "0" else "FAIL", "stdout": tap.read()}
with open(f"{folder}/{name}.json", "w", encoding="utf-8") as out:
    out.write(json.dumps(entry) + "\n")
