"""ONNX Runtime: one operator of ONNX a case, forward, into arrays bound beforehand."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from .cases import EPSILON
from .reference import Results


class OnnxRuntime:
    name = "ort"

    def __init__(self, threads):
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.version = onnxruntime.__version__

    def prepare(self, case, arrays):
        # its operators on processors are of channels first and f32, and have no training
        if case.dtype != "f32" or case.layout == "last" or case.step == "training":
            return None
        if case.norm == "batch" and case.step != "inference":
            return None
        model = _model(case, arrays)
        session = onnxruntime.InferenceSession(model, self.options, providers=["CPUExecutionProvider"])
        out = np.zeros_like(arrays.y)
        binding = session.io_binding()
        binding.bind_input("x", "cpu", 0, np.float32, case.shape, arrays.x.ctypes.data)
        binding.bind_output("y", "cpu", 0, np.float32, case.shape, out.ctypes.data)
        call = lambda: session.run_with_iobinding(binding)

        def results():
            call()
            return Results(y=out)

        return call, results


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
