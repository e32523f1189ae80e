"""TensorFlow, as a tf.function, and compiled by XLA. Batch normalization of channels last is its fused operation; all others are
tf.nn.moments and tf.nn.batch_normalization, as Keras has them."""

import numpy as np
import tensorflow as tf

from .arrays import logical
from .cases import EPSILON
from .reference import Results


class TensorFlow:
    name = "tf"
    xla = False

    def __init__(self, threads):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self.version = tf.__version__

    def prepare(self, case, arrays):
        stored = lambda a: tf.constant(a.view(tf.bfloat16.as_numpy_dtype) if case.dtype == "bf16" else a)
        parameter = lambda a: None if a is None else tf.constant(a, tf.float32)
        x, dy = stored(arrays.x), stored(arrays.dy)
        given = [parameter(arrays.gamma)] + ([parameter(arrays.beta)] if case.has_beta else [])
        fixed = [parameter(arrays.mean), parameter(arrays.variance)]
        forward = _inference(case) if case.step == "inference" else _forward(case)

        def train(x, dy, *given):
            with tf.GradientTape() as tape:
                tape.watch([x, *given])
                y = forward(x, *given)
            return y, *tape.gradient(y, [x, *given], output_gradients=dy)

        compiled = tf.function(train if case.step == "training" else forward, jit_compile=self.xla or None)
        inputs = {"training": (x, dy, *given), "inference": (x, *given, *fixed)}.get(case.step, (x, *given))
        step = compiled.get_concrete_function(*inputs)
        call = lambda: step(*inputs)

        def results():
            out = call()
            y, dx, *gradients = out if case.step == "training" else (out, None)
            tensor = lambda a: None if a is None else logical(case, tf.cast(a, tf.float32).numpy())
            return Results(tensor(y), tensor(dx), *(g.numpy() for g in gradients))

        return call, results


class Xla(TensorFlow):
    name = "xla"
    xla = True


def _axis(case):
    return 1 if case.layout == "first" else len(case.shape) - 1


def _place(case, values):
    """Values of the channels, in the tensor's rank."""
    place = [1] * len(case.shape)
    place[_axis(case)] = case.channels
    return tf.reshape(values, place)


def _fused(case, x, gamma, beta, **statistics):
    training = not statistics
    y, *_ = tf.compat.v1.nn.fused_batch_norm(
        x, gamma, beta, epsilon=EPSILON, is_training=training, data_format="NHWC", **statistics
    )
    return y


def _inference(case):
    if case.layout == "last":
        return lambda x, g, b, m, v: _fused(case, x, g, b, mean=m, variance=v)
    place = lambda values: _place(case, values)

    def infer(x, g, b, m, v):
        m, v, b, g = (tf.cast(place(s), x.dtype) for s in (m, v, b, g))
        return tf.nn.batch_normalization(x, m, v, b, g, EPSILON)

    return infer


def _forward(case):
    """y of x, gamma and beta."""
    if case.norm == "batch" and case.layout == "last":
        return lambda x, gamma, beta: _fused(case, x, gamma, beta)
    axis, rank = _axis(case), len(case.shape)
    spatial = [a for a in range(1, rank) if a != axis]

    def forward(x, gamma, beta=None):
        wide = tf.cast(x, tf.float32)
        gamma, beta = _place(case, gamma), None if beta is None else _place(case, beta)
        if case.norm == "rms":
            y = wide * tf.math.rsqrt(tf.reduce_mean(tf.square(wide), -1, keepdims=True) + EPSILON) * gamma
        elif case.norm == "group":
            size = case.channels // case.groups
            split = lambda t: tf.reshape(t, [*t.shape[:axis], case.groups, size, *t.shape[axis + 1 :]])
            mean, variance = tf.nn.moments(split(wide), [a for a in range(1, rank + 1) if a != axis], keepdims=True)
            y = tf.nn.batch_normalization(split(wide), mean, variance, split(beta), split(gamma), EPSILON)
            y = tf.reshape(y, x.shape)
        else:
            shared = {"batch": [0, *spatial], "instance": spatial}.get(case.norm, [rank - 1])
            mean, variance = tf.nn.moments(wide, shared, keepdims=True)
            y = tf.nn.batch_normalization(wide, mean, variance, beta, gamma, EPSILON)
        return tf.cast(y, x.dtype)

    return forward
