"""The table, and the summary by class."""

import math
from statistics import median

from .cases import Case

#: by class: the ratio forward and in training, and the share of the streamed copy, that Cellnorm wants to reach
GOALS = {
    "layer": (1.6, 2.2, 0.78, 0.70),
    "rms": (1.4, 3.5, 0.80, 0.75),
    "group cf": (1.4, 2.2, 0.72, 0.68),
    "group cl": (2.0, 4.0, 0.60, 0.55),
    "instance cf": (2.5, 2.3, 0.68, 0.65),
    "instance cl": (2.5, 4.0, 0.60, 0.55),
    "batch cf": (2.5, 2.5, 0.60, 0.55),
    "batch cl": (2.0, 2.0, 0.55, 0.50),
    "batch inference": (1.2, None, 0.90, None),
}
#: smaller tensors live in the caches, where a copy through memory is no measure
LARGE = 12e6
LAYOUTS = {"first": "channels first", "last": "channels last", "rows": "rows"}


def key_of(row):
    return "-".join([row["norm"], row["layout"], row["shape"], row["dtype"], row["pass"]])


def merge(rows):
    """One entry a case: the time of each peer, and ours beside the one that comes nearest."""
    by_key = {}
    for row in rows:
        if row["ratio"]:
            by_key.setdefault(key_of(row), []).append(row)
    merged = []
    for key, of_case in by_key.items():
        nearest = min(of_case, key=lambda row: row["ratio"])
        merged.append({
            "case": Case.parse(key),
            "peers": {row["peer"]: row["peer_ms"] for row in of_case},
            "fastest": nearest["peer"],
            "ours_ms": nearest["ours_ms"],
            "ratio": nearest["ratio"],
            "share": median(row["share"] for row in of_case),
        })
    return merged


def table(merged, peers):
    head = ["norm", "shape", "layout", "type", "pass", *(f"{p}" for p in peers), "ours", "fastest", "ratio", "of copy"]
    lines = [head]
    for entry in merged:
        case = entry["case"]
        times = [_ms(entry["peers"].get(peer)) for peer in peers]
        large = case.tensor_bytes >= LARGE
        lines.append([
            case.norm, "×".join(map(str, case.shape)), LAYOUTS[case.layout], case.dtype, case.step, *times,
            _ms(entry["ours_ms"]), entry["fastest"], f"{entry['ratio']:.2f}×", f"{entry['share']:.0%}" if large else "",
        ])
    return "times in ms\n" + _aligned(lines, left=5)


def classes(merged):
    """By type, class and pass: the median ratio, and the median share among large tensors."""
    found = {}
    for entry in merged:
        case = entry["case"]
        place = found.setdefault((case.dtype, case.family, "training" if case.step == "training" else "forward"), ([], []))
        place[0].append(entry["ratio"])
        if case.tensor_bytes >= LARGE:
            place[1].append(entry["share"])
    return {key: (median(ratios), median(shares) if shares else None, len(ratios)) for key, (ratios, shares) in found.items()}


def summary(merged):
    if not merged:
        return "nothing was measured"
    lines = [["type", "class", "pass", "cases", "ratio", "goal", "", "of copy", "goal", ""]]
    order = {family: i for i, family in enumerate(GOALS)}
    found = classes(merged)
    for dtype, family, step in sorted(found, key=lambda k: (k[0] != "f32", order.get(k[1], 99), k[2])):
        ratio, share, count = found[dtype, family, step]
        goals = GOALS.get(family, (None,) * 4)
        goal, share_goal = goals[step == "training"], goals[2 + (step == "training")]
        lines.append([
            dtype, family, step, str(count), f"{ratio:.2f}×", f"{goal}×", _reached(ratio, goal),
            "" if share is None else f"{share:.0%}", f"{share_goal:.0%}", _reached(share, share_goal),
        ])
    mean = math.exp(sum(math.log(entry["ratio"]) for entry in merged) / len(merged))
    lowest = min(merged, key=lambda entry: entry["ratio"])
    below = sum(entry["ratio"] < 1 for entry in merged)
    return (
        "medians by class: the fastest peer's time ÷ ours; copies are of tensors of 12 MB and more\n"
        + _aligned(lines, left=3)
        + f"\ngeometric mean of {len(merged)} cases: {mean:.2f}×; lowest: {lowest['case'].key}, {lowest['ratio']:.2f}×"
        + f" ({lowest['fastest']}); below 1: {below}"
    )


def _reached(value, goal):
    return "" if value is None or goal is None else "yes" if value >= goal else "NO"


def _ms(value):
    return "" if value is None else f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _aligned(lines, left):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    place = lambda i, text: text.ljust(widths[i]) if i < left else text.rjust(widths[i])
    text = ["  ".join(place(i, text) for i, text in enumerate(line)).rstrip() for line in lines]
    return "\n".join([text[0], "─" * len(text[0]), *text[1:]])
