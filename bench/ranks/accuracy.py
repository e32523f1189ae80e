#!/usr/bin/env python3
"""Test accuracy against batch per rank: batch, synchronized batch, group and layer normalization at one global batch.

    cargo build --release -p cellnorm-cli --features mpi
    python3 bench/ranks/accuracy.py --cellnorm target/release/cellnorm

Runs `mpirun -n R cellnorm compare` for each R with the whole batch divided among the ranks, with and without --sync, and prints a
Markdown table of means over seeds, which it also writes as CSV. An interrupted run goes on where it was. Needs no package.
"""
import argparse
import csv
import json
import pathlib
import statistics
import subprocess

COLUMNS = ["batch", "synchronized batch", "group", "layer"]


def accuracies(options, ranks, sync):
    """Test accuracies of each normalization, one for each seed."""
    norms = "batch" if sync else "batch,group,layer"
    out = options.folder / f"{ranks}-ranks{'-sync' if sync else ''}"
    if not (out / "results.json").exists():
        launch = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"]
        words = ["compare", "--norms", norms, "--batch-sizes", str(options.batch), "--seeds", str(options.seeds)]
        words += ["--epochs", str(options.epochs), "--threads", "1", "--out", str(out), "--quiet", "--resume"]
        words += ["--sync"] * sync + (["--data", options.data] if options.data else [])
        subprocess.run([*launch, "-n", str(ranks), options.cellnorm, *words], check=True)
    found = {}
    for run in json.loads((out / "results.json").read_text())["runs"]:
        name = "synchronized batch" if sync else run["normalization"]
        found.setdefault(name, []).append(run["epochs"][-1]["test_accuracy"])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cellnorm", required=True, help="the program, built with --features mpi")
    parser.add_argument("--ranks", default="1,2,4,8,16", help="numbers of ranks")
    parser.add_argument("--batch", type=int, default=32, help="samples of all ranks in a step")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--data", help="folder of MNIST or Fashion-MNIST; without it, the images that come with the program")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("cellnorm-ranks"), help="for the comparisons' results")
    parser.add_argument("--csv", type=pathlib.Path, help="the table as CSV, one line for each seed")
    options = parser.parse_args()

    options.folder.mkdir(parents=True, exist_ok=True)
    lines, rows = [], []
    for ranks in map(int, options.ranks.split(",")):
        found = {}
        for sync in (False, True):
            found |= accuracies(options, ranks, sync)
        cells = []
        for column in COLUMNS:
            values = [100 * value for value in found[column]]
            error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
            cells.append(f"{statistics.mean(values):.1f} ± {error:.1f}")
            rows += [[ranks, options.batch // ranks, column, seed + 1, f"{value:.2f}"] for seed, value in enumerate(values)]
        lines.append(f"| {ranks} | {options.batch // ranks} | " + " | ".join(cells) + " |")
    print("| ranks | batch per rank | " + " | ".join(COLUMNS) + " |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    print("\n".join(lines))
    if options.csv:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["ranks", "batch per rank", "normalization", "seed", "test accuracy %"])
            writer.writerows(rows)


if __name__ == "__main__":
    main()
