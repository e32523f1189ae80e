"""The arrays of a case, in large aligned pages, and half-precision numbers as numpy can hold them."""

import mmap
from dataclasses import dataclass

import numpy as np

HUGE = 2 << 20


def empty(shape, dtype):
    """An array at a multiple of 2 MB, in huge pages where the system grants them, touched once."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, count + HUGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(memory, np.uint8)
    start = -whole.ctypes.data % HUGE
    array = whole[start : start + count].view(dtype).reshape(shape)
    array.view(np.uint8).reshape(-1)[::4096] = 0
    return array


def to_storage(values, dtype):
    """f32 values as they are stored: f32 and f16 as themselves, bf16 as the bits of the nearest one, in uint16."""
    if dtype == "bf16":
        bits = values.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return values.astype({"f32": np.float32, "f16": np.float16}[dtype])


def from_storage(stored, dtype):
    """The values of `to_storage`, exactly, in f32."""
    if dtype == "bf16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


@dataclass
class Arrays:
    """x and dy, room for y and dx (all as stored, in the order of memory), and the parameters in f64."""

    x: np.ndarray
    dy: np.ndarray
    y: np.ndarray
    dx: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray | None
    mean: np.ndarray
    variance: np.ndarray


def memory_shape(case):
    n, c, *rest = case.shape if not case.is_rows else (0, 0)
    return (n, *rest, c) if case.layout == "last" else case.shape


def logical(case, array):
    """An array in the order of memory, seen as [N, C, ...]."""
    return np.moveaxis(array, -1, 1) if case.layout == "last" else array


def fill(case, x, dy, gamma, beta, mean, variance):
    """Arrays of a case from f32 values in logical order."""
    shape = memory_shape(case)
    storage = to_storage(np.zeros(1, np.float32), case.dtype).dtype
    arrays = Arrays(*(empty(shape, storage) for _ in range(4)), gamma, beta, mean, variance)
    for to, values in [(arrays.x, x), (arrays.dy, dy)]:
        logical(case, to)[...] = to_storage(values, case.dtype)
    return arrays


def parameters(case):
    """gamma, beta, mean and variance: f64, but representable in every type."""
    random = np.random.default_rng(case.channels)
    draw = lambda low, high: np.round(random.uniform(low, high, case.channels) * 64) / 64
    return draw(0.5, 1.5), draw(-1, 1) if case.has_beta else None, draw(0, 1), draw(1, 5)


def inputs(case):
    """x and dy in logical order, the same for each normalization and layout of a shape."""
    random = np.random.default_rng(case.elements)
    x = random.standard_normal(case.shape, np.float32) * 2 + 0.5
    return x, random.standard_normal(case.shape, np.float32)
