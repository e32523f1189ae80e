"""PyTorch, eager or compiled."""

import numpy as np
import torch
import torch.nn.functional as F

from .arrays import memory_shape
from .cases import EPSILON
from .reference import Results


class Torch:
    name = "torch"
    compiled = False

    def __init__(self, threads):
        torch.set_num_threads(threads)
        self.version = torch.__version__

    def prepare(self, case, arrays):
        """A function that runs the case once, and one that gives the results of a run."""
        torch._dynamo.reset() if self.compiled else None
        x, dy = (_tensor(case, a) for a in [arrays.x, arrays.dy])
        # the kernels of half precision take f32 parameters, as mixed precision has them, all but that of RMS
        dtype = x.dtype if case.norm == "rms" else torch.float32
        parameter = lambda a: None if a is None else torch.tensor(a, dtype=dtype)
        gamma, beta, mean, variance = map(parameter, [arrays.gamma, arrays.beta, arrays.mean, arrays.variance])
        forward = _forward(case, mean, variance)
        if self.compiled:
            forward = torch.compile(forward, dynamic=False)
        if case.step == "training":
            wanted = [x, gamma] + ([beta] if case.has_beta else [])
            for tensor in wanted:
                tensor.requires_grad_()

            def call():
                y = forward(x, gamma, beta)
                return y, *torch.autograd.grad(y, wanted, dy)
        else:
            guard = torch.inference_mode if case.step == "inference" else torch.no_grad

            def call():
                with guard():
                    return (forward(x, gamma, beta),)

        return call, lambda: Results(*(t.detach().float().numpy() for t in call()))


class Compile(Torch):
    name = "compile"
    compiled = True


def _tensor(case, array):
    tensor = torch.from_numpy(array.view(np.int16) if case.dtype == "bf16" else array)
    if case.dtype == "bf16":
        tensor = tensor.view(torch.bfloat16)
    assert tuple(array.shape) == tuple(memory_shape(case))
    return tensor.movedim(-1, 1) if case.layout == "last" else tensor


def _forward(case, mean, variance):
    """y of x, gamma and beta."""
    width = [case.shape[-1]]
    if case.step == "inference":
        return lambda x, g, b: F.batch_norm(x, mean, variance, g, b, False, 0.1, EPSILON)
    return {
        "batch": lambda x, g, b: F.batch_norm(x, mean, variance, g, b, True, 0.1, EPSILON),
        "group": lambda x, g, b: F.group_norm(x, case.groups, g, b, EPSILON),
        "instance": lambda x, g, b: F.instance_norm(x, None, None, g, b, True, 0.1, EPSILON),
        "layer": lambda x, g, b: F.layer_norm(x, width, g, b, EPSILON),
        "rms": lambda x, g, b: F.rms_norm(x, width, g, EPSILON),
    }[case.norm]
