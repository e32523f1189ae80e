"""JAX, compiled. The formulas are those of Flax's layers with their defaults (statistics as E[x^2] - E[x]^2 in f32), which Flax
itself has for channels last only."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from .arrays import logical
from .cases import EPSILON
from .reference import Results


class Jax:
    name = "jax"

    def __init__(self, threads):
        del threads  # as many as this process may use
        self.version = jax.__version__

    def prepare(self, case, arrays):
        stored = lambda a: jax.device_put(a.view(ml_dtypes.bfloat16) if case.dtype == "bf16" else a)
        parameter = lambda a: None if a is None else jnp.asarray(a, jnp.float32)
        x, dy = stored(arrays.x), stored(arrays.dy)
        given = [parameter(arrays.gamma)] + ([parameter(arrays.beta)] if case.has_beta else [])
        fixed = parameter(arrays.mean), parameter(arrays.variance)
        forward = _forward(case)

        def train(x, dy, *given):
            y, pull = jax.vjp(forward, x, *given)
            return y, *pull(dy)

        if case.step == "training":
            step, inputs = jax.jit(train), (x, dy, *given)
        elif case.step == "inference":
            step, inputs = jax.jit(lambda x, g, b, m, v: _apply(case, x, m, v, g, b)), (x, *given, *fixed)
        else:
            step, inputs = jax.jit(forward), (x, *given)
        call = lambda: jax.block_until_ready(step(*inputs))

        def results():
            out = call()
            y, dx, *gradients = out if case.step == "training" else (out, None)
            tensor = lambda a: None if a is None else logical(case, np.asarray(a, np.float32))
            return Results(tensor(y), tensor(dx), *map(np.asarray, gradients))

        return call, results


def _channels(case, rank):
    return rank - 1 if case.layout != "first" else 1


def _forward(case):
    """y of x, gamma and beta."""

    def forward(x, gamma, beta=None):
        axis = _channels(case, x.ndim)
        spatial = tuple(a for a in range(1, x.ndim) if a != axis)
        if case.norm == "group":
            shape = x.shape[:axis] + (case.groups, case.channels // case.groups) + x.shape[axis + 1 :]
            shared = tuple(a for a in range(1, len(shape)) if a != axis)
            mean, variance = _statistics(x.reshape(shape), shared, "group")
            # one number a group, for each channel of it
            spread = lambda s: jnp.repeat(s.reshape(x.shape[0], case.groups), case.channels // case.groups, axis=1)
            place = [x.shape[0] if a == 0 else case.channels if a == axis else 1 for a in range(x.ndim)]
            mean, variance = (spread(s).reshape(place) for s in (mean, variance))
        else:
            shared = {"batch": (0, *spatial), "instance": spatial}.get(case.norm, (x.ndim - 1,))
            mean, variance = _statistics(x, shared, case.norm)
        return _apply(case, x, mean, variance, gamma, beta)

    return forward


def _statistics(x, shared, norm):
    x = x.astype(jnp.float32)
    square = jnp.mean(jnp.square(x), shared, keepdims=True)
    if norm == "rms":
        return jnp.zeros_like(square), square
    mean = jnp.mean(x, shared, keepdims=True)
    return mean, jnp.maximum(0.0, square - jnp.square(mean))


def _apply(case, x, mean, variance, gamma, beta):
    place = [1] * x.ndim
    place[_channels(case, x.ndim)] = case.channels
    if mean.ndim == 1:
        mean, variance = mean.reshape(place), variance.reshape(place)
    y = (x - mean) * (jax.lax.rsqrt(variance + EPSILON) * gamma.reshape(place))
    return (y if beta is None else y + beta.reshape(place)).astype(x.dtype)
