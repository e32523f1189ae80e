"""Draws two figures from the results of run.py: the ratios by class, and the shares of what a copy reaches.

    python plot.py results/MACHINE.csv      writes results/MACHINE-ratio.svg and results/MACHINE-copy.svg
"""

import math
import sys
from html import escape
from pathlib import Path

from measure import records, report

STYLE = """text { font: 12px system-ui, sans-serif; fill: #333 } .title { font-size: 15px; font-weight: 600 }
.small { font-size: 11px; fill: #666 } .forward { fill: #4878a8 } .training { fill: #d98a3d }
.grid { stroke: #ddd } .one { stroke: #666; stroke-dasharray: 4 3 } .back { fill: #fff }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .small { fill: #aaa } .grid { stroke: #3a3a3a }
.one { stroke: #aaa } .back { fill: #161616 } .forward { fill: #6b9bd0 } .training { fill: #e0a060 } }"""
NAMES = {
    "layer": "layer", "rms": "RMS", "group cf": "group, channels first", "group cl": "group, channels last",
    "instance cf": "instance, channels first", "instance cl": "instance, channels last",
    "batch cf": "batch, channels first", "batch cl": "batch, channels last", "batch inference": "batch, inference",
}
LEFT, RIGHT, TOP, BAR, GAP, WIDTH = 170, 70, 74, 13, 10, 720


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    path = Path(sys.argv[1])
    rows, about = records.read(path)
    found = report.classes(report.merge(rows))
    machine = f"{about['cpu'].split(',')[0]}, {about['threads']} threads, f32"
    ratio = _chart(
        "Time of the fastest other library ÷ time of Cellnorm",
        f"median over shapes; logarithmic; {machine}", found, 0, lambda v: f"{v:.2g}×", logarithmic=True,
    )
    copy = _chart(
        "Share of the speed of a copy",
        f"a copy past the cache of the same bytes, same run; tensors of 12 MB and more; {machine}", found, 1,
        lambda v: f"{v:.0%}", logarithmic=False,
    )
    for name, drawing in [("ratio", ratio), ("copy", copy)]:
        to = path.with_name(f"{path.stem}-{name}.svg")
        to.write_text(drawing)
        print(to)


def _chart(title, subtitle, found, which, show, logarithmic):
    """Bars of the classes, forward over training, with a line at 1."""
    classes = [(family, [(step, found["f32", family, step][which]) for step in ["forward", "training"]
                         if ("f32", family, step) in found]) for family in report.SHARES]
    classes = [(family, [(s, v) for s, v in bars if v]) for family, bars in classes]
    classes = [(family, bars) for family, bars in classes if bars]
    values = [value for _, bars in classes for _, value in bars]
    if not values:
        values = [1.0]
    ticks = [0.5, 1, 2, 4, 8, 16, 32, 64, 128] if logarithmic else [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]
    low = min([1.0, *values]) / 1.1 if logarithmic else 0.0
    high = max([1.0, *values]) * (1.1 if logarithmic else 1.02)
    scale = math.log if logarithmic else float
    x = lambda v: LEFT + (scale(v) - scale(low)) / (scale(high) - scale(low)) * (WIDTH - LEFT - RIGHT)
    parts, y = [], TOP
    for family, bars in classes:
        middle = y + len(bars) * BAR / 2 + 4
        parts.append(f'<text x="{LEFT - 8}" y="{middle:.1f}" text-anchor="end">{NAMES[family]}</text>')
        for step, value in bars:
            # a bar of a logarithm starts where the two are equal
            start, end = sorted([x(1.0) if logarithmic else LEFT, x(value)])
            parts.append(f'<rect class="{step}" x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" height="{BAR - 2}"/>')
            parts.append(f'<text class="small" x="{end + 5:.1f}" y="{y + 9.5}">{show(value)}</text>')
            y += BAR
        y += GAP
    lines = [
        f'<line class="{"one" if tick == 1 else "grid"}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP - 6}" y2="{y}"/>'
        f'<text class="small" x="{x(tick):.1f}" y="{y + 14}" text-anchor="middle">{show(tick)}</text>'
        for tick in ticks if low <= tick <= high
    ]
    legend = "".join(
        f'<rect class="{step}" x="{at}" y="50" width="11" height="11"/><text class="small" x="{at + 16}" y="60">{words}</text>'
        for step, at, words in [("forward", LEFT, "forward"), ("training", LEFT + 80, "forward and backward")]
    )
    height = y + 26
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", f'<rect class="back" width="{WIDTH}" height="{height}"/>',
        f'<text class="title" x="16" y="24">{escape(title)}</text>',
        f'<text class="small" x="16" y="41">{escape(subtitle)}</text>', legend, *lines, *parts, "</svg>\n",
    ])


if __name__ == "__main__":
    main()
