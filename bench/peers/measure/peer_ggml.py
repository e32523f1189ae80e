"""ggml, as pywhispercpp ships it: a graph of its operations on f32, built once over the arrays given.

ggml normalizes without gamma and beta: a multiplication and an addition follow, in place. Forward, ggml
fuses RMS and the multiplication. Of the gradients it has that of RMS.
"""

import ctypes
import importlib.util
from pathlib import Path

import numpy as np

from .arrays import empty
from .cases import EPSILON
from .reference import Results

F32 = 0
NODES = 16


class _Memory(ctypes.Structure):
    """ggml_init_params: room for descriptions of tensors, whose values lie elsewhere."""

    _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Ggml:
    name = "ggml"

    def __init__(self, threads):
        folder = Path(importlib.util.find_spec("pywhispercpp").origin).parent.parent
        base, cpu = (next((folder / "pywhispercpp.libs").glob(f"libggml-{part}-*.so*")) for part in ["base", "cpu"])
        self.base, self.cpu = ctypes.CDLL(str(base), ctypes.RTLD_GLOBAL), ctypes.CDLL(str(cpu))
        for name in ["ggml_tensor_overhead", "ggml_graph_overhead"]:
            getattr(self.base, name).restype = ctypes.c_size_t
        self.base.ggml_version.restype = ctypes.c_char_p
        self.version = self.base.ggml_version().decode()
        self.cpu.ggml_backend_cpu_init.restype = ctypes.c_void_p
        self.backend = ctypes.c_void_p(self.cpu.ggml_backend_cpu_init())
        self.cpu.ggml_backend_cpu_set_n_threads(self.backend, threads)

    def prepare(self, case, arrays):
        lacks = case.layout == "last" or case.norm == "batch" or (case.step == "training" and case.norm != "rms")
        if case.dtype != "f32" or lacks:
            return None
        graph = _Graph(self)
        # ggml_norm is of rows: for instance normalization a row is an image of one channel
        shape = (*case.shape[:2], -1) if case.norm == "instance" else case.shape
        shape = arrays.x.reshape(shape).shape
        across = [1] * len(shape)
        across[-1 if case.is_rows else 1] = case.channels

        def parameter(values):
            held = empty(across, np.float32)
            held[...] = values.reshape(across)
            return graph.tensor(held)

        x, gamma = graph.tensor(arrays.x.reshape(shape)), parameter(arrays.gamma)
        out = {"y": empty(shape, np.float32)}
        epsilon = ctypes.c_float(EPSILON)
        if case.step == "training":
            out |= {"dx": empty(shape, np.float32), "dgamma": empty(across, np.float32)}
            xhat, product = empty(shape, np.float32), empty(shape, np.float32)
            dy = graph.tensor(arrays.dy.reshape(shape))
            normalized = graph.node(xhat, "rms_norm", x, epsilon)
            graph.node(out["y"], "mul", normalized, gamma)
            graph.node(out["dx"], "rms_norm_back", graph.node(product, "mul", dy, gamma), x, epsilon)
            graph.node(out["dgamma"], "repeat_back", graph.node(product, "mul", dy, normalized), gamma)
        else:
            operation = {"rms": "rms_norm", "group": "group_norm"}.get(case.norm, "norm")
            groups = [case.groups] if case.norm == "group" else []
            y = graph.node(out["y"], operation, x, *groups, epsilon)
            y = graph.node(out["y"], "mul", y, gamma)
            if case.has_beta:
                graph.node(out["y"], "add", y, parameter(arrays.beta))

        def results():
            graph.compute()
            return Results(**out)

        return graph.compute, results


class _Graph:
    """Operations in the order in which they were added, each with the array that its result goes to."""

    def __init__(self, peer):
        self.peer, self.base, self.arrays = peer, peer.base, []
        size = NODES * self.base.ggml_tensor_overhead() + self.base.ggml_graph_overhead()
        self.context = self._pointer("ggml_init", _Memory(size, None, True))
        self.graph = self._pointer("ggml_new_graph", self.context)

    def tensor(self, array):
        sizes = (ctypes.c_int64 * array.ndim)(*reversed(array.shape))
        return self._at(array, self._pointer("ggml_new_tensor", self.context, F32, array.ndim, sizes))

    def node(self, array, operation, *operands):
        result = self._at(array, self._pointer(f"ggml_{operation}", self.context, *operands))
        self.base.ggml_build_forward_expand(self.graph, result)
        return result

    def compute(self):
        status = self.base.ggml_backend_graph_compute(self.peer.backend, self.graph)
        if status != 0:
            raise RuntimeError(f"ggml_backend_graph_compute returned {status}: ggml_status says why")

    def _at(self, array, tensor):
        self.arrays.append(array)
        address = ctypes.c_void_p(array.ctypes.data)
        buffer = self._pointer("ggml_backend_cpu_buffer_from_ptr", address, ctypes.c_size_t(array.nbytes))
        self.base.ggml_backend_tensor_alloc(buffer, tensor, address)
        return tensor

    def _pointer(self, function, *arguments):
        call = getattr(self.base, function)
        call.restype = ctypes.c_void_p
        return ctypes.c_void_p(call(*arguments))
