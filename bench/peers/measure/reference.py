"""Every normalization in f64, by its formula.

y = (x - mean) * r * gamma + beta with r = 1 / sqrt(variance + epsilon); for RMS the mean is 0 and the variance the mean square.
With g = dy * gamma and xhat = (x - mean) * r:  dx = r * (g - mean(g) - xhat * mean(g * xhat)), for RMS without mean(g).
"""

from dataclasses import dataclass

import numpy as np

from .cases import EPSILON


@dataclass
class Results:
    """In logical order; a framework leaves out what it does not give."""

    y: np.ndarray | None = None
    dx: np.ndarray | None = None
    dgamma: np.ndarray | None = None
    dbeta: np.ndarray | None = None


def view(case):
    """The shape to see the tensor in, the axes that share statistics, and the shape of the parameters."""
    if case.is_rows:
        width = case.shape[-1]
        return (-1, width), (1,), (1, width)
    n, c = case.shape[:2]
    if case.norm == "batch":
        return (n, c, -1), (0, 2), (1, c, 1)
    if case.norm == "instance":
        return (n, c, -1), (2,), (1, c, 1)
    groups = case.groups
    return (n, groups, c // groups, -1), (2, 3), (1, groups, c // groups, 1)


def normalize(case, x, dy, gamma, beta):
    """Results of training; without dy, y alone."""
    shape, shared, of_parameters = view(case)
    x = np.asarray(x, np.float64).reshape(shape)
    gamma = gamma.reshape(of_parameters)
    beta = 0.0 if beta is None else beta.reshape(of_parameters)
    mean = 0.0 if case.norm == "rms" else x.mean(axis=shared, keepdims=True)
    xhat = x - mean
    r = 1 / np.sqrt(np.mean(xhat * xhat, axis=shared, keepdims=True) + EPSILON)
    xhat *= r
    results = Results(y=(xhat * gamma + beta).reshape(case.shape))
    if dy is not None:
        dy = np.asarray(dy, np.float64).reshape(shape)
        apart = tuple(axis for axis, length in enumerate(of_parameters) if length == 1)
        dy_xhat = dy * xhat
        results.dgamma = dy_xhat.sum(axis=apart).reshape(-1)
        results.dbeta = dy.sum(axis=apart).reshape(-1)
        dy_xhat *= gamma
        xhat *= dy_xhat.mean(axis=shared, keepdims=True)
        g = dy * gamma
        if case.norm != "rms":
            g -= g.mean(axis=shared, keepdims=True)
        g -= xhat
        results.dx = (g * r).reshape(case.shape)
    return results


def infer(case, x, gamma, beta, mean, variance):
    """y of batch normalization with given statistics."""
    shape, _, of_parameters = view(case)
    scale = gamma / np.sqrt(variance + EPSILON)
    offset = beta - mean * scale
    y = np.asarray(x, np.float64).reshape(shape) * scale.reshape(of_parameters) + offset.reshape(of_parameters)
    return Results(y=y.reshape(case.shape))


def errors(results, reference):
    """The largest error of each result, relative to the largest value of the reference."""
    found = {}
    for name, value in vars(results).items():
        expected = getattr(reference, name)
        if value is None or expected is None:
            continue
        difference = np.asarray(value).reshape(expected.shape) - expected
        error = max(difference.max(), -difference.min()) / max(expected.max(), -expected.min(), 1e-300)
        found[name] = float(error) if np.isfinite(error) else float("inf")
    return found
