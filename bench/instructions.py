#!/usr/bin/env python3
"""Instructions that each small layer takes for a call, counted by callgrind, against those of bench/instructions.json.

    python3 bench/instructions.py            # compare; exit status 1 if a case grew by more than 2 %
    python3 bench/instructions.py --record   # count again and write the file

Needs valgrind. One thread and AVX2 (valgrind knows no AVX-512), so the counts are nearly the same on any machine that has AVX2. The
compiler is part of the file: with another one, record first and compare then.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = ROOT / "bench" / "instructions.json"
CALLS = 10  # as in crates/cellnorm/benches/instructions.rs
MOST = 1.02


def build():
    """The path of the benchmark's executable."""
    command = ["cargo", "bench", "-p", "cellnorm", "--bench", "instructions", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    paths = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "instructions"]
    return paths[-1]


def count(executable, case):
    """Instructions of one call."""
    command = ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=instructions::measured*",
               "--callgrind-out-file=/dev/null", executable, case]
    environment = {**os.environ, "CELLNORM_MACHINE": "instruction_set=avx2", "RAYON_NUM_THREADS": "1"}
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stderr
    if "CELLNORM_MACHINE: instruction_set is avx2" in said:
        sys.exit("this machine has no AVX2, and the counts of other instruction sets do not compare")
    collected = re.search(r"Collected : (\d+)", said)
    if not collected or collected[1] == "0":
        sys.exit(f"callgrind collected nothing of {case}:\n{said}")
    return round(int(collected[1]) / CALLS)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--record", action="store_true", help="write bench/instructions.json")
    record = arguments.parse_args().record
    executable = build()
    cases = subprocess.run([executable], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    compiler = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    recorded = json.loads(FILE.read_text()) if FILE.exists() else {"compiler": compiler, "instructions": {}}
    before = recorded["instructions"]
    if recorded["compiler"] != compiler:
        print(f"recorded with {recorded['compiler']}, now {compiler}")
    now, grown = {}, []
    print(f"{'case':38} {'instructions':>12} {'recorded':>12} {'ratio':>7}")
    for case in cases:
        now[case] = count(executable, case)
        ratio = now[case] / before[case] if case in before else None
        if ratio and ratio > MOST:
            grown.append(case)
        shown = f"{before[case]:12,} {ratio:7.3f}" if ratio else f"{'-':>12} {'-':>7}"
        print(f"{case:38} {now[case]:12,} {shown}", flush=True)
    if record:
        FILE.write_text(json.dumps({"compiler": compiler, "instructions": now}, indent=1) + "\n")
        return
    missing = [case for case in cases if case not in before] + [case for case in before if case not in now]
    if missing:
        sys.exit(f"not in both the file and the benchmark, so record again: {', '.join(missing)}")
    if grown:
        sys.exit(f"grew by more than {MOST - 1:.0%}: {', '.join(grown)}")


if __name__ == "__main__":
    main()
