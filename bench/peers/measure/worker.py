"""One peer in one process: reads cases from stdin, writes a line of JSON for each to stdout.

    python -m measure.worker PEER THREADS BUDGET
"""

import gc
import json
import os
import sys
import traceback
from importlib import import_module

from . import arrays as arrays_, ours
from .alternate import alternate, timed
from .cases import Case
from .reference import errors, infer, normalize

LIMITS = {"f32": 1e-3, "bf16": 5e-2, "f16": 5e-3}


#: by name: its module, and the class in it
PEERS = {
    "torch": ("torch", "Torch"),
    "compile": ("torch", "Compile"),
    "jax": ("jax", "Jax"),
    "tf": ("tf", "TensorFlow"),
    "xla": ("tf", "Xla"),
    "ort": ("ort", "OnnxRuntime"),
    "onednn": ("onednn", "OneDnn"),
    "onednn-omp": ("onednn", "OneDnnOmp"),
    "ggml": ("ggml", "Ggml"),
    "openvino": ("openvino", "OpenVino"),
}


def framework(name, threads):
    """Imports it only here: importing one may set how threads behave in the whole process."""
    module, of = PEERS[name]
    return getattr(import_module(f"{__package__}.peer_{module}"), of)(threads)


class References:
    """The f64 results of a case, those of the last one kept: the layouts and passes of a case share them."""

    def __init__(self):
        self.key, self.inputs, self.training = None, None, None

    def of(self, case):
        """x, dy and parameters in logical order, and the results."""
        key = case.norm, case.shape, case.dtype
        if key != self.key:
            parameters = arrays_.parameters(case)
            exact = lambda a: arrays_.from_storage(arrays_.to_storage(a, case.dtype), case.dtype)
            self.inputs = [*map(exact, arrays_.inputs(case)), *parameters]
            self.key, self.training = key, normalize(case, *self.inputs[:4])
        x, _, gamma, beta, mean, variance = self.inputs
        inference = case.step == "inference"
        return self.inputs, infer(case, x, gamma, beta, mean, variance) if inference else self.training


def measure(case, library, peer, references, budget):
    inputs, reference = references.of(case)
    arrays = arrays_.fill(case, *inputs)
    own = ours.Ours(library, case, arrays)
    if not own.supported:
        return {"skipped": "Cellnorm does not have it"}
    prepared = peer.prepare(case, arrays)
    if prepared is None:
        return {"skipped": f"{peer.name} does not have it"}
    call, results = prepared
    found = {"ours_errors": errors(own.results(), reference), "peer_errors": errors(results(), reference)}
    for who, of in found.items():
        # a parameter's gradient is a long sum, in the peers often in f32
        wrong = {name: e for name, e in of.items() if e > LIMITS[case.dtype] * (10 if name in ["dgamma", "dbeta"] else 1)}
        if wrong:
            return {"skipped": f"wrong results, {who}: {wrong}", **found}
    timing = alternate(own.run, timed(call), own.stream, budget)
    own.stream(1, False)
    plain = min(own.stream(1, False) for _ in range(3)) * 1e3
    return {**timing, "plain_ms": plain, **found}


def main():
    name, threads, budget = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    # what frameworks print goes to stderr, and lines of JSON to where stdout was
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    library = ours.load(threads)
    peer = framework(name, threads)
    print(json.dumps({"peer": name, "version": peer.version}), file=out, flush=True)
    references = References()
    for line in sys.stdin:
        case = Case.parse(line.strip())
        gc.collect()
        gc.disable()
        try:
            result = measure(case, library, peer, references, budget)
        except Exception as error:
            traceback.print_exc()
            result = {"skipped": f"{type(error).__name__}: {error}"[:200]}
        gc.enable()
        print(json.dumps({"key": case.key, "peer": name, **result}), file=out, flush=True)


if __name__ == "__main__":
    main()
