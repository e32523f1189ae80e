"""Cellnorm, through its C interface."""

import ctypes
import os
from pathlib import Path

import numpy as np

from .arrays import from_storage, logical
from .cases import EPSILON, PASSES
from .reference import Results

ROOT = Path(__file__).resolve().parent.parent
NORMS = ["batch", "group", "instance", "layer", "rms"]
DTYPES = ["f32", "f64", "bf16", "f16"]

_pointer, _size, _double = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_double


def load(threads):
    """Loads the library and starts its threads. To be called before any framework is imported: a framework may pin this
    thread to one processor, and threads that start later would inherit that."""
    where = os.environ.get("CELLNORM_PEERS_LIBRARY", ROOT / "target/release/libcellnorm_peers.so")
    library = ctypes.CDLL(str(where))
    library.cellnorm_case.restype = _pointer
    library.cellnorm_case.argtypes = [ctypes.c_uint32] * 3 + [_pointer, _size, _size, _double, _pointer]
    library.cellnorm_free.argtypes = [_pointer]
    library.cellnorm_run.restype = _double
    library.cellnorm_run.argtypes = [_pointer, ctypes.c_uint32, _pointer, _size]
    library.cellnorm_copy.restype = library.cellnorm_add.restype = _double
    library.cellnorm_copy.argtypes = [_pointer] * 2 + [_size, ctypes.c_bool, _size]
    library.cellnorm_add.argtypes = [_pointer] * 3 + [_size, ctypes.c_bool, _size]
    if library.cellnorm_threads(_size(threads)) != 0:
        raise RuntimeError("the threads had started already")
    return library


class Ours:
    """A case of Cellnorm over the arrays given."""

    def __init__(self, library, case, arrays):
        self.library, self.case, self.arrays = library, case, arrays
        double = lambda a: None if a is None else np.ascontiguousarray(a, np.float64)
        self.parameters = [double(a) for a in [arrays.gamma, arrays.beta, arrays.mean, arrays.variance]]
        self.dgamma = np.zeros(case.channels)
        self.dbeta = np.zeros(case.channels) if case.has_beta else None
        shape = (_size * len(case.shape))(*case.shape)
        layout = 1 if case.layout == "last" else 0
        codes = NORMS.index(case.norm), layout, DTYPES.index(case.dtype)
        self.handle = library.cellnorm_case(
            *codes, shape, len(case.shape), case.groups, EPSILON, (_pointer * 4)(*map(_address, self.parameters))
        )
        buffers = [arrays.x, arrays.dy, arrays.y, arrays.dx, self.dgamma, self.dbeta]
        self.buffers = (_pointer * 6)(*map(_address, buffers))
        self.step = PASSES.index(case.step)

    @property
    def supported(self):
        return self.handle is not None

    def run(self, times):
        """Runs that many times; the seconds of all, taken in Rust."""
        return self.library.cellnorm_run(self.handle, self.step, self.buffers, times)

    def results(self):
        """Of one run."""
        self.run(1)
        value = lambda array: logical(self.case, from_storage(array, self.case.dtype))
        if self.case.step != "training":
            return Results(y=value(self.arrays.y))
        return Results(value(self.arrays.y), value(self.arrays.dx), self.dgamma, self.dbeta)

    def stream(self, times, streamed=True):
        """What the case must move at least, moved by a copy forward and a sum of two arrays backward; seconds."""
        floats = self.case.tensor_bytes // 4
        x, dy, y, dx = self.buffers[:4]
        seconds = self.library.cellnorm_copy(x, y, floats, streamed, times)
        if self.case.step == "training":
            seconds += self.library.cellnorm_add(x, dy, dx, floats, streamed, times)
        return seconds

    def __del__(self):
        if self.handle is not None:
            self.library.cellnorm_free(self.handle)


def _address(array):
    return None if array is None else array.ctypes.data
