"""What was measured, one line a case and peer, as CSV."""

import csv
import json
from datetime import date
from pathlib import Path

COLUMNS = ["norm", "layout", "shape", "dtype", "pass", "peer", "version", "peer_ms", "ours_ms", "ratio", "stream_ms"]
COLUMNS += ["plain_ms", "share", "ours_cpus", "peer_cpus", "blocks", "ours_error", "peer_error", "skipped"]


def flat(result, versions):
    """A line of the table from what a worker said."""
    norm, layout, shape, dtype, step = result["key"].split("-")
    row = dict(norm=norm, layout=layout, shape=shape, dtype=dtype, version=versions.get(result["peer"]), **{"pass": step})
    for name in COLUMNS:
        value = result.get(name)
        if isinstance(value, float):
            value = float(f"{value:.5g}")
        row.setdefault(name, value)
    for who in ["ours", "peer"]:
        # y and dx; the parameters' gradients were checked, but are long sums
        errors = result.get(f"{who}_errors", {})
        worst = max((errors[name] for name in ["y", "dx"] if name in errors), default=None)
        row[f"{who}_error"] = None if worst is None else float(f"{worst:.2g}")
    return row


def write(path, rows, about):
    with open(path, "w", newline="") as file:
        for name, value in about.items():
            file.write(f"# {name}: {value}\n")
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path):
    """The rows, numbers as numbers, and what was said about the run."""
    lines = Path(path).read_text().splitlines()
    about = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    for row in rows:
        for name, value in row.items():
            row[name] = _number(value) if name not in ["norm", "layout", "shape", "version"] else value
    return rows, about


def _number(text):
    if text == "":
        return None
    try:
        return float(text)
    except ValueError:
        return text


def machine(threads):
    """What this machine is, as far as it tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    first = lambda name: next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "unknown")
    flags = set(first("flags").split())
    kinds = [("avx512_bf16", "AVX-512 with bf16"), ("avx512f", "AVX-512"), ("avx2", "AVX2")]
    vectors = next((name for flag, name in kinds if flag in flags), "no AVX2")
    cpu = f"{first('model name')}, family {first('cpu family')} model {first('model')}"
    return {"cpu": cpu, "caches": _caches(), "vectors": vectors, "threads": threads, "date": date.today().isoformat()}


def _caches():
    """Size of each level, and how many cores share it."""
    found = []
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size, shared = ((cache / name).read_text().strip() for name in ["level", "type", "size", "shared_cpu_map"])
        if kind != "Instruction":
            cores = int(shared.replace(",", ""), 16).bit_count()
            found.append(f"L{level}{'d' if kind == 'Data' else ''} {size} {'a core' if cores == 1 else f'for {cores} cores'}")
    return ", ".join(found) or "unknown"


def dump(rows, about):
    return json.dumps({"about": about, "rows": rows}, indent=1)
