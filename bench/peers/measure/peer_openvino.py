"""OpenVINO's plugin for processors: a model of one normalization, forward, between tensors bound beforehand.

Its operations are of channels first. For channels last, group and instance normalization stand
between two transpositions, and batch normalization is what OpenVINO makes of its own operation: a
multiplication and an addition.
"""

import numpy as np
import openvino
from openvino import opset15 as operations

from .arrays import empty, from_storage, logical
from .cases import EPSILON
from .reference import Results

TYPES = {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16}


class OpenVino:
    name = "openvino"

    def __init__(self, threads):
        self.core = openvino.Core()
        self.settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        self.version = openvino.get_version().split("-")[0]

    def prepare(self, case, arrays):
        if case.dtype not in TYPES or case.step == "training" or (case.norm == "batch" and case.step == "forward"):
            return None
        kind = TYPES[case.dtype]
        settings = self.settings | {"INFERENCE_PRECISION_HINT": kind}
        request = self.core.compile_model(_model(case, arrays, kind), "CPU", settings).create_infer_request()
        out = empty(arrays.y.shape, arrays.y.dtype)
        request.set_input_tensor(openvino.Tensor(arrays.x, arrays.x.shape, kind))
        request.set_output_tensor(openvino.Tensor(out, out.shape, kind))
        # shared: not copied once more
        call = lambda: request.infer(share_outputs=True)

        def results():
            call()
            return Results(y=logical(case, from_storage(out, case.dtype)))

        return call, results


def _model(case, arrays, kind):
    """Takes and gives tensors of the kind; the plugin computes in what its precision hint says."""
    x = operations.parameter(arrays.x.shape, openvino.Type.f32)
    last = case.layout == "last" and case.norm != "batch"
    y = _normalized(case, arrays, _permuted(x, 0, 3, 1, 2) if last else x)
    model = openvino.Model([operations.result(_permuted(y, 0, 2, 3, 1) if last else y)], [x], case.key)
    steps = openvino.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(kind)
    steps.output().tensor().set_element_type(kind)
    return steps.build()


def _permuted(tensor, *axes):
    return operations.transpose(tensor, np.array(axes))


def _normalized(case, arrays, x):
    constant = lambda values: operations.constant(np.asarray(values, np.float32))
    add, multiply, divide = operations.add, operations.multiply, operations.divide
    gamma, beta = constant(arrays.gamma), None if arrays.beta is None else constant(arrays.beta)
    mean, variance = constant(arrays.mean), constant(arrays.variance)
    deviation = lambda square: operations.sqrt(add(square, constant([EPSILON])))
    last = np.array([-1])
    if case.norm == "rms":
        square = operations.reduce_mean(operations.power(x, constant([2.0])), last, True)
        return multiply(multiply(x, divide(constant([1.0]), deviation(square))), gamma)
    if case.norm == "layer":
        return add(multiply(operations.mvn(x, last, True, EPSILON, "inside_sqrt"), gamma), beta)
    if case.norm == "batch" and case.layout == "last":
        return add(multiply(operations.subtract(x, mean), divide(gamma, deviation(variance))), beta)
    if case.norm == "batch":
        return operations.batch_norm_inference(x, gamma, beta, mean, variance, EPSILON)
    return operations.group_normalization(x, gamma, beta, case.channels if case.norm == "instance" else case.groups, EPSILON)
