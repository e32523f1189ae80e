"""oneDNN, called directly: a primitive forward and one backward, created once, executed over the
arrays given. Nothing is destroyed: a process measures a hundred cases and ends."""

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np

from .arrays import empty, from_storage, logical
from .cases import EPSILON
from .reference import Results

# the numbers of dnnl_types.h
CPU, IN_ORDER = 1, 1
TYPES = {"float16": 1, "uint16": 2, "float32": 3}  # bf16 is held in uint16
FORWARD_TRAINING, FORWARD_INFERENCE, BACKWARD = 64, 96, 128
GIVEN_STATISTICS, SCALE, SHIFT, RMS = 1, 2, 4, 32
ARGUMENTS = {
    "src": 1, "dst": 17, "mean": 49, "variance": 50, "scale": 51, "shift": 52,
    "diff_src": 129, "diff_dst": 145, "diff_scale": 255, "diff_shift": 256,
}
OPERATIONS = {"batch": "batch", "group": "group", "instance": "group", "layer": "layer", "rms": "layer"}


class _Argument(ctypes.Structure):
    _fields_ = [("what", ctypes.c_int), ("memory", ctypes.c_void_p)]


class OneDnn:
    """As oneAPI ships it: its engine for processors goes through SYCL, its threads are TBB's."""

    name = "onednn"

    def __init__(self, threads):
        del threads  # TBB takes as many as this process may use, OpenMP what OMP_NUM_THREADS says
        self.library = self._load()
        self.library.dnnl_version.restype = ctypes.POINTER(ctypes.c_int * 3)
        self.version = ".".join(map(str, self.library.dnnl_version().contents))
        self.engine = self._new("engine_create", CPU, ctypes.c_size_t(0))
        self.stream = self._new("stream_create", self.engine, IN_ORDER)

    def _load(self):
        folder = Path(sys.prefix) / "lib"
        os.environ["OCL_ICD_FILENAMES"] = str(folder / "libintelocl.so")
        for needed in ["libintlc.so.5", "libimf.so", "libsvml.so", "libtbb.so.12", "libsycl.so.9"]:
            ctypes.CDLL(str(folder / needed), ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(folder / "libdnnl.so.3"))

    def prepare(self, case, arrays):
        if (case.norm, case.step, case.dtype) == ("rms", "training", "bf16"):
            # its gradient subtracts the mean of dy * gamma, which only the check of f32 sees
            return None
        values = _values(case, arrays)
        forward, backward = self._descriptions(case, values)
        parameters = ["src", "scale", "mean", "variance"]
        runs = [self._execution(forward, values, [*parameters, "shift", "dst"])]
        if backward:
            gradients = ["diff_dst", "diff_src", "diff_scale", "diff_shift"]
            # no gradient depends on the shift: rows want it all the same, images refuse it
            shift = ["shift"] if case.is_rows else []
            runs.append(self._execution(backward, values, [*parameters, *shift, *gradients]))

        def call():
            for run in runs:
                self._check("primitive_execute", self.library.dnnl_primitive_execute(*run))
            self._check("stream_wait", self.library.dnnl_stream_wait(self.stream))

        def results():
            call()
            tensor = lambda name: from_storage(values[name], case.dtype) if name in values else None
            return Results(tensor("dst"), tensor("diff_src"), values.get("diff_scale"), values.get("diff_shift"))

        return call, results

    def _descriptions(self, case, values):
        """What the forward primitive is and, in training, the backward one."""
        tensor = self._description(values["src"])
        flags = SCALE | (SHIFT if case.has_beta else RMS) | (GIVEN_STATISTICS if case.step == "inference" else 0)
        numbers = [ctypes.c_float(EPSILON), flags]
        if OPERATIONS[case.norm] == "group":
            numbers.insert(0, ctypes.c_int64(_groups(case)))
        if OPERATIONS[case.norm] == "layer":
            numbers.insert(0, self._description(np.empty(values["src"].shape[:-1], np.float32)))
        create = f"{OPERATIONS[case.norm]}_normalization_%s_primitive_desc_create"
        training = case.step == "training"
        step = FORWARD_TRAINING if training else FORWARD_INFERENCE
        forward = self._new(create % "forward", self.engine, step, tensor, tensor, *numbers, None)
        if not training:
            return forward, None
        return forward, self._new(create % "backward", self.engine, BACKWARD, *[tensor] * 3, *numbers, forward, None)

    def _execution(self, description, values, names):
        """The arguments of dnnl_primitive_execute."""
        primitive = self._new("primitive_create", description)
        found = [(ARGUMENTS[name], self._memory(values[name])) for name in names if name in values]
        return primitive, self.stream, len(found), (_Argument * len(found))(*found)

    def _memory(self, array):
        return self._new("memory_create", self._description(array), self.engine, ctypes.c_void_p(array.ctypes.data))

    def _description(self, array):
        numbers = lambda values: (ctypes.c_int64 * 12)(*values)
        strides = numbers(stride // array.itemsize for stride in array.strides)
        kind = TYPES[array.dtype.name]
        return self._new("memory_desc_create_with_strides", array.ndim, numbers(array.shape), kind, strides)

    def _new(self, function, *arguments):
        """The object that a function of oneDNN makes."""
        made = ctypes.c_void_p()
        self._check(function, getattr(self.library, f"dnnl_{function}")(ctypes.byref(made), *arguments))
        return made

    def _check(self, function, status):
        if status != 0:
            raise RuntimeError(f"dnnl_{function} returned {status}: dnnl_status_t says why")


class OneDnnOmp(OneDnn):
    """As PaddlePaddle ships it: an older version, with OpenMP's threads."""

    name = "onednn-omp"

    def _load(self):
        package = Path(importlib.util.find_spec("paddle").origin).parent
        return ctypes.CDLL(str(package / "libs/libdnnl.so.3"))

    def prepare(self, case, arrays):
        # RMS came with oneDNN 3.9
        return None if case.norm == "rms" else super().prepare(case, arrays)


def _groups(case):
    return case.channels if case.norm == "instance" else case.groups


def _values(case, arrays):
    """The arrays of a case by the names of oneDNN's arguments, tensors in logical order."""
    single = lambda a: a.astype(np.float32)
    view = lambda a: a.reshape(-1, case.channels) if case.is_rows else logical(case, a)
    values = {"src": view(arrays.x), "dst": view(empty(arrays.x.shape, arrays.x.dtype)), "scale": single(arrays.gamma)}
    if case.has_beta:
        values["shift"] = single(arrays.beta)
    if case.step == "inference":
        values |= {"mean": single(arrays.mean), "variance": single(arrays.variance)}
    if case.step == "training":
        of_images = [case.channels] if case.norm == "batch" else [case.shape[0], _groups(case)]
        shape = values["src"].shape[:-1] if case.is_rows else of_images
        zeros = {"variance": shape, "diff_scale": case.channels}
        if case.has_beta:
            zeros |= {"mean": shape, "diff_shift": case.channels}
        values |= {name: np.zeros(shape, np.float32) for name, shape in zeros.items()}
        values |= {"diff_dst": view(arrays.dy), "diff_src": view(empty(arrays.x.shape, arrays.x.dtype))}
    return values
