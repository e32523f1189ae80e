"""The table, and the summary by class."""

import math
from dataclasses import replace
from statistics import median

from .cases import Case

#: how many times as long as Cellnorm the fastest other library is to take: the median of each class
RATIO = 1.2
#: by class: the share of the streamed copy, forward and in training, that Cellnorm wants to reach on f32
SHARES = {
    "layer": (0.78, 0.70), "rms": (0.78, 0.70),
    "group cf": (0.72, 0.65), "group cl": (0.60, 0.55),
    "instance cf": (0.72, 0.65), "instance cl": (0.60, 0.55),
    "batch cf": (0.72, 0.65), "batch cl": (0.60, 0.55),
    "batch inference": (0.90, None),
}
#: elements a second of bf16, relative to those of f32
SPEED_OF_BF16 = 1.5
#: smaller tensors live in the caches, where a copy through memory is no measure
LARGE = 12e6
#: bytes of f32 above which bf16 too is past the caches
LARGE_F32 = 25e6
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
            "ours": {row["peer"]: row["ours_ms"] for row in of_case},
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
    """By type, class and pass: the median ratio, the median share among large tensors, and the number of cases."""
    found = {}
    for entry in merged:
        case = entry["case"]
        place = found.setdefault(_place(case), ([], []))
        place[0].append(entry["ratio"])
        if case.tensor_bytes >= LARGE:
            place[1].append(entry["share"])
    return {key: (median(ratios), median(shares) if shares else None, len(ratios)) for key, (ratios, shares) in found.items()}


def speeds_of_bf16(merged):
    """By type, class and pass: elements a second in bf16 relative to f32, for each large tensor."""
    found, f32 = {}, {}
    for entry in merged:
        case = entry["case"]
        if case.dtype == "f32" and case.tensor_bytes >= LARGE_F32:
            f32[case] = entry["ours"]
    for entry in merged:
        case = entry["case"]
        same = replace(case, dtype="f32")
        if case.dtype == "bf16" and same in f32:
            # of one process both times, where it measured both
            common = f32[same].keys() & entry["ours"].keys()
            if common:
                found.setdefault(_place(case), []).append(median(f32[same][peer] / entry["ours"][peer] for peer in common))
    return found


def _place(case):
    return case.dtype, case.family, "training" if case.step == "training" else "forward"


def summary(merged):
    if not merged:
        return "nothing was measured"
    lines = [["type", "class", "pass", "cases", "ratio", "goal", "", "of copy", "goal", "", "of f32", "goal", ""]]
    order = {family: i for i, family in enumerate(SHARES)}
    found, speeds = classes(merged), speeds_of_bf16(merged)
    for place in sorted(found, key=lambda k: (k[0] != "f32", order[k[1]], k[2])):
        dtype, family, step = place
        ratio, share, count = found[place]
        share_goal = SHARES[family][step == "training"] if dtype == "f32" else None
        speed = median(speeds[place]) if place in speeds else None
        lines.append([
            *place, str(count), f"{ratio:.2f}×", f"{RATIO}×", _reached(ratio, RATIO), *_against(share, share_goal, ".0%", ""),
            *_against(speed, SPEED_OF_BF16, ".2f", "×"),
        ])
    mean = math.exp(sum(math.log(entry["ratio"]) for entry in merged) / len(merged))
    lowest = min(merged, key=lambda entry: entry["ratio"])
    below = sum(entry["ratio"] < 1 for entry in merged)
    text = "medians by class: the fastest peer's time ÷ ours; copies are of tensors of 12 MB and more; "
    text += "of f32: elements a second, for tensors above 25 MB of f32\n" + _aligned(lines, left=3)
    text += f"\ngeometric mean of {len(merged)} cases: {mean:.2f}×; lowest: {lowest['case'].key}, {lowest['ratio']:.2f}×"
    text += f" ({lowest['fastest']}); below 1: {below}"
    every = [speed for of_class in speeds.values() for speed in of_class]
    if every:
        speed, goal, reached = _against(median(every), SPEED_OF_BF16, ".2f", "×")
        text += f"\nbf16: {speed} the elements a second of f32, the median of {len(every)} cases; goal {goal}: {reached}"
    return text


def _against(value, goal, form, unit):
    """The value, its goal, and whether it reaches it."""
    if value is None:
        return "", "", ""
    return f"{value:{form}}{unit}", "" if goal is None else f"{goal:{form}}{unit}", _reached(value, goal)


def _reached(value, goal):
    return "" if goal is None else "yes" if value >= goal else "NO"


def _ms(value):
    return "" if value is None else f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _aligned(lines, left):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    place = lambda i, text: text.ljust(widths[i]) if i < left else text.rjust(widths[i])
    text = ["  ".join(place(i, text) for i, text in enumerate(line)).rstrip() for line in lines]
    return "\n".join([text[0], "─" * len(text[0]), *text[1:]])
