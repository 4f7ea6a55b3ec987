# SPDX-License-Identifier: BSD-3-Clause
"""Bars as SVG: for each group, how many times as good as its peer each figure is, on a log scale."""

import html
import math
import os

WIDTH, LEFT, ROW = 860, 380, 20
COLOURS = {True: "#3a7d44", False: "#b33939"}


def scale(ratio, most):
    """Where a ratio is on an axis that has 1 in its middle."""
    middle, half = LEFT + (WIDTH - LEFT - 70) / 2, (WIDTH - LEFT - 90) / 2
    return middle + half * max(-1, min(1, math.log(ratio) / math.log(most)))


def bars(title, figures):
    most = max(2, *(max(f["ratio"], 1 / f["ratio"]) for f in figures))
    height = 50 + ROW * len(figures)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
           ' font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           f'<text x="8" y="20" font-size="15">{html.escape(title)}: times as good as the peer</text>']
    one = scale(1, most)
    for i, f in enumerate(figures):
        y, x = 36 + i * ROW, scale(f["ratio"], most)
        out.append(f'<text x="{LEFT - 6}" y="{y + 13}" text-anchor="end">'
                   f'{html.escape(f["name"][:44])} ({html.escape(f["peer"])})</text>')
        out.append(f'<rect x="{min(one, x):.1f}" y="{y + 2}" width="{max(abs(x - one), 1):.1f}"'
                   f' height="{ROW - 5}" fill="{COLOURS[f["ratio"] >= 1]}"/>')
        out.append(f'<text x="{max(one, x) + 4:.1f}" y="{y + 13}">{f["ratio"]:.2f}</text>')
    out.append(f'<line x1="{one:.1f}" x2="{one:.1f}" y1="30" y2="{height - 10}" stroke="#333"/>')
    out.append("</svg>")
    return "\n".join(out)


def draw_groups(figures, folder):
    """Write GROUP-WHERE.svg for each group that has peers; their paths."""
    groups = {}
    for f in figures:
        if f.get("ratio"):
            groups.setdefault((f["group"], f["where"]), []).append(f)
    paths = []
    for (group, where), members in groups.items():
        path = os.path.join(folder, f"{group}-{where}.svg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(bars(f"{group} ({where})", members))
        paths.append(path)
    return paths
