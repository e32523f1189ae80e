"""A training loop of one layer in PyTorch at its default allocator settings: what a program meets that tunes nothing.

    python loop20.py [--threads 2] [--steps 20]

Each step runs forward and backward into fresh outputs, as training does; the last step's stay alive while the next one runs, as
a network's activations do. Prints JSON: milliseconds of each step, of the first, the median of the rest, and the total.
"""

import argparse
import json
import os
import sys
import time
from statistics import median

CASES = [
    ("batch", (64, 16, 112, 112)),
    ("batch", (32, 64, 56, 56)),
    ("group", (64, 16, 112, 112)),
    ("group", (32, 64, 56, 56)),
    ("layer", (8, 512, 768)),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    bound = {"OMP_PROC_BIND": "true", "OMP_NUM_THREADS": str(options.threads)}
    if any(os.environ.get(name) != value for name, value in bound.items()):
        # OpenMP reads them once, when it is loaded; the allocator's variables must not be set
        tuned = ["MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"]
        kept = {name: value for name, value in os.environ.items() if name not in tuned}
        os.execve(sys.executable, [sys.executable, *sys.argv], kept | bound)
    import torch

    torch.set_num_threads(options.threads)
    for norm, _ in CASES:
        # what PyTorch itself starts at its first step is no cost of the layer's
        _loop(torch, norm, (2, 8, 4) if norm == "layer" else (2, 8, 4, 4), 2)
    runs = [_loop(torch, norm, shape, options.steps) for norm, shape in CASES]
    print(json.dumps({"torch": torch.__version__, "threads": options.threads, "runs": runs}, indent=1))


def _loop(torch, norm, shape, steps):
    channels = shape[-1] if norm == "layer" else shape[1]
    layer = {
        "batch": lambda: torch.nn.BatchNorm2d(channels),
        "group": lambda: torch.nn.GroupNorm(32 if channels % 32 == 0 else 4, channels),
        "layer": lambda: torch.nn.LayerNorm(channels),
    }[norm]()
    torch.manual_seed(0)
    x, dy = torch.randn(shape).requires_grad_(), torch.randn(shape)
    wanted = [x, *layer.parameters()]
    times, alive = [], None
    for _ in range(steps):
        start = time.perf_counter()
        y = layer(x)
        alive = y, torch.autograd.grad(y, wanted, dy)
        times.append((time.perf_counter() - start) * 1e3)
    del alive
    rounded = [round(t, 4) for t in times]
    return {
        "norm": norm, "shape": list(shape), "step_ms": rounded, "first_ms": rounded[0],
        "median_of_rest_ms": round(median(times[1:]), 4), "total_ms": round(sum(times), 3),
    }


if __name__ == "__main__":
    main()
