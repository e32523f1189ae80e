"""How far Cellnorm and other libraries are from f64 on the same f32 inputs, near zero and far from it.

    python accuracy.py --python torch=/path/python,jax=/path/python,tf=/path/python [--out results/accuracy]

Writes OUT.csv and OUT.md: the largest error of y and of dx, relative to the largest |y| and |dx| in f64, with gamma 1, beta 0
and epsilon 1e-5.
"""

import argparse
import csv
import sys
from pathlib import Path

from measure import launch
from run import peers_named as peers_of

CASES = ["batch-first-4x16x112x112", "batch-last-4x16x112x112", "group-first-4x16x112x112", "group-last-4x16x112x112"]
CASES += ["instance-first-4x16x112x112", "instance-last-4x16x112x112", "layer-rows-512x768", "rms-rows-512x768"]
NORMAL = ["N(0,1)", "N(1e2,1)", "N(1e4,1)", "N(1e6,1)"]
COLUMNS = ["library", "norm", "layout", "shape", "dtype", "input", "y", "dx"]


def keys():
    """Cases and inputs, as measure.precision takes them."""
    for case in CASES:
        kinds = NORMAL + ([] if case.startswith("rms") else ["constant"])
        yield from (f"{case}-f32-training {kind}" for kind in kinds)
    for dtype in ["f16", "bf16"]:
        yield from (f"{norm}-rows-512x768-{dtype}-training largest" for norm in ["layer", "rms"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pythons = lambda text: dict(pair.split("=", 1) for pair in text.split(",") if pair)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", type=peers_of, default=launch.PEERS)
    parser.add_argument("--python", type=pythons, default={})
    parser.add_argument("--out", type=Path, default=launch.ROOT / "results/accuracy")
    options = parser.parse_args()
    launch.build(options.peers)
    found, versions = {}, {}
    for peer in options.peers:
        command = [launch.python_of(peer, options.python), "-m", "measure.precision", peer, str(options.threads)]
        for answer in launch.converse(peer, command, list(keys()), options.threads):
            if "key" not in answer:
                versions[peer] = answer.get("version") or answer["skipped"]
                continue
            if "skipped" in answer:
                print(f"{peer} {answer['key']}: {answer['skipped']}", file=sys.stderr)
                continue
            for name, errors in [("cellnorm", answer.get("ours")), (peer, answer["peer"])]:
                if errors:
                    found[name, answer["key"], answer["kind"]] = errors
        print(f"{peer}: {versions.get(peer)}", file=sys.stderr)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    names = ["cellnorm", *options.peers]
    _write_csv(options.out.with_suffix(".csv"), names, found)
    text = _markdown(names, found, versions)
    options.out.with_suffix(".md").write_text(text)
    print(text)


def _ordered(names, found):
    for line in keys():
        key, kind = line.split()
        for name in names:
            if (name, key, kind) in found:
                yield name, key, kind, found[name, key, kind]


def _write_csv(path, names, found):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, key, kind, errors in _ordered(names, found):
            numbers = [f"{errors[of]:.2g}" if of in errors else "" for of in ["y", "dx"]]
            writer.writerow([name, *key.split("-")[:4], kind, *numbers])


def _markdown(names, found, versions):
    head = ["normalization", "library", *(f"y, {kind}" for kind in NORMAL), *(f"dx, {kind}" for kind in NORMAL), "constant"]
    lines = [head, ["---"] * len(head)]
    show = lambda errors, of: "" if errors is None or of not in errors else f"{errors[of]:.1e}"
    for case in CASES:
        for name in names:
            of = {kind: found.get((name, f"{case}-f32-training", kind)) for kind in [*NORMAL, "constant"]}
            if any(of.values()):
                numbers = [show(of[kind], result) for result in ["y", "dx"] for kind in NORMAL]
                constant = of["constant"]
                exact = "" if constant is None else "exact" if constant["y"] == 0 else show(constant, "y")
                lines.append([case.replace("-", " "), name, *numbers, exact])
    text = ["# Distance from f64", "", "Largest error relative to the largest value of the result; constant: of y from beta.", ""]
    text += ["| " + " | ".join(line) + " |" for line in lines]
    half = [entry for entry in _ordered(names, found) if entry[2] == "largest"]
    if half:
        text += ["", "Rows of the largest finite number and its negative:", "", "| type | norm | library | y | dx |"]
        text += ["| --- | --- | --- | --- | --- |"]
        for name, key, _, errors in half:
            norm, _, _, dtype, _ = key.split("-")
            text.append(f"| {dtype} | {norm} | {name} | {show(errors, 'y')} | {show(errors, 'dx')} |")
    said = ", ".join(f"{peer} {version}" for peer, version in versions.items())
    return "\n".join([*text, "", f"Versions: {said}.", ""])


if __name__ == "__main__":
    main()
