# SPDX-License-Identifier: BSD-3-Clause
"""Figures of the benchmarks written in Python: the same lines and the same JSON as bench/bench.h."""

import json
import os
import statistics


def report(group, name, unit, samples, peer=None, peer_samples=None, more_is_better=False,
           limit=None, min_ratio=None, how=""):
    """Print a figure, and append it to the file that LIBVMM_BENCH_OUT names."""
    value = statistics.median(samples)
    figure = {"group": group, "name": name, "unit": unit, "more_is_better": more_is_better,
              "value": value, "low": min(samples), "high": max(samples), "samples": len(samples),
              "how": how}
    line = f"{group:10} {name:44} {value:10.5g} {unit:8}"
    met = limit is None or (value >= limit if more_is_better else value <= limit)
    if peer and peer_samples:
        theirs = statistics.median(peer_samples)
        ratio = (value / theirs if more_is_better else theirs / value) if value and theirs else 0
        figure.update(peer=peer, peer_value=theirs, peer_low=min(peer_samples),
                      peer_high=max(peer_samples), ratio=ratio)
        line += f" {peer} {theirs:.5g}, {ratio:.2f} times as good"
        met = met and (min_ratio is None or ratio >= min_ratio)
    if limit is not None or min_ratio is not None:
        figure["met"] = met
        if limit is not None:
            figure["limit"] = limit
        if min_ratio is not None:
            figure["min_ratio"] = min_ratio
        line += "  [goal met]" if met else "  [goal MISSED]"
    print(line, flush=True)
    out = os.environ.get("LIBVMM_BENCH_OUT")
    if out:
        with open(out, "a", encoding="utf-8") as file:
            file.write(json.dumps(figure) + "\n")
