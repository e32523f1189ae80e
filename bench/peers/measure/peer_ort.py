"""ONNX Runtime: one operator of ONNX a case, forward, into arrays bound beforehand. Its threads spin
after their work or sleep, whichever is faster in the case."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from .alternate import faster
from .cases import EPSILON
from .reference import Results


class OnnxRuntime:
    name = "ort"

    def __init__(self, threads):
        self.options = [_options(threads, spinning) for spinning in ["1", "0"]]
        self.version = onnxruntime.__version__

    def prepare(self, case, arrays):
        # its operators on processors are of channels first and f32, and have no training
        if case.dtype != "f32" or case.layout == "last" or case.step == "training":
            return None
        if case.norm == "batch" and case.step != "inference":
            return None
        model, out = _model(case, arrays), np.zeros_like(arrays.y)
        call = faster([_bound(model, options, case, arrays.x, out) for options in self.options])

        def results():
            call()
            return Results(y=out)

        return call, results


def _options(threads, spinning):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    return options


def _bound(model, options, case, x, y):
    """A function that runs the model from x to y."""
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, case.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, case.shape, y.ctypes.data)
    return lambda: session.run_with_iobinding(binding)


def _model(case, arrays):
    operator, attributes = {
        "batch": ("BatchNormalization", {"epsilon": EPSILON}),
        "group": ("GroupNormalization", {"epsilon": EPSILON, "num_groups": case.groups}),
        "instance": ("InstanceNormalization", {"epsilon": EPSILON}),
        "layer": ("LayerNormalization", {"epsilon": EPSILON, "axis": -1}),
        "rms": ("RMSNormalization", {"epsilon": EPSILON, "axis": -1}),
    }[case.norm]
    values = {"gamma": arrays.gamma, "beta": arrays.beta}
    if case.norm == "batch":
        values |= {"mean": arrays.mean, "variance": arrays.variance}
    values = {name: v.astype(np.float32) for name, v in values.items() if v is not None}
    tensor = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, case.shape)
    node = helper.make_node(operator, ["x", *values], ["y"], **attributes)
    constants = [numpy_helper.from_array(v, name) for name, v in values.items()]
    graph = helper.make_graph([node], "norm", [tensor("x")], [tensor("y")], initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()
