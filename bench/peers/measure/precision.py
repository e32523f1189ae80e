"""How exact one peer is, and Cellnorm on the same inputs: as measure.worker, for lines of a case and the input it takes.

    python -m measure.precision PEER THREADS
"""

import json
import os
import sys
import traceback

import numpy as np

from . import arrays as arrays_, ours
from .cases import Case
from .reference import errors, normalize
from .worker import framework

#: the mean of unit-variance data, by name
MEANS = {"N(0,1)": 0.0, "N(1e2,1)": 1e2, "N(1e4,1)": 1e4, "N(1e6,1)": 1e6}
CONSTANT, LARGEST = "constant", "largest"
#: the largest finite number
MOST = {"f32": 3.4028235e38, "f16": 65504.0, "bf16": 3.3895314e38}


def inputs(case, kind):
    """x, dy, gamma and beta."""
    random = np.random.default_rng(7)
    x, dy = (random.standard_normal(case.shape, np.float32) for _ in range(2))
    ones = np.ones(case.channels)
    beta = np.zeros(case.channels)
    if kind == CONSTANT:
        # a number whose sums are not exact in f32, and a beta that must come out to the bit
        x, beta = np.full(case.shape, 3.7, np.float32), np.round(np.linspace(-1, 1, case.channels) * 64) / 64
    elif kind == LARGEST:
        x = np.where(x > 0, MOST[case.dtype], -MOST[case.dtype]).astype(np.float32)
    else:
        x = (random.standard_normal(case.shape) + MEANS[kind]).astype(np.float32)
    exact = lambda a: arrays_.from_storage(arrays_.to_storage(a, case.dtype), case.dtype)
    return exact(x), exact(dy), ones, beta if case.has_beta else None


def measure(case, kind, library, peer):
    x, dy, gamma, beta = given = inputs(case, kind)
    arrays = arrays_.fill(case, *given, np.zeros(case.channels), np.ones(case.channels))
    reference = normalize(case, x, dy, gamma, beta)
    if kind == CONSTANT:
        # y is beta, whatever epsilon is; and RMS has nothing to be constant about
        reference.dx = None
    found = {}
    own = ours.Ours(library, case, arrays)
    if own.supported:
        found["ours"] = errors(own.results(), reference)
    # y of the forward pass, which may be other code than that of training; a peer may have no training
    forward = peer.prepare(Case(case.norm, case.layout, case.shape, case.dtype, "forward"), arrays)
    of_forward = errors(forward[1](), reference) if forward else {}
    training = peer.prepare(case, arrays)
    found["peer"] = (errors(training[1](), reference) if training else {}) | of_forward
    return found


def main():
    name, threads = sys.argv[1], int(sys.argv[2])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    library = ours.load(threads)
    if name in ["burn", "candle"]:
        from .peer_rust import RustPeer

        peer = RustPeer(name, threads)
    else:
        peer = framework(name, threads)
    print(json.dumps({"peer": name, "version": peer.version}), file=out, flush=True)
    for line in sys.stdin:
        key, kind = line.split()
        try:
            result = measure(Case.parse(key), kind, library, peer)
        except Exception as error:
            traceback.print_exc()
            result = {"skipped": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps({"key": key, "kind": kind, "name": name, **result}), file=out, flush=True)


if __name__ == "__main__":
    main()
