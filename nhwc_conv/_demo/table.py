"""The notebook's convolution by everything that can compute it, side by side."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .. import _extension, reference
from .._ops import FORWARD_OPS, ops
from ..reference import Array

Z_SHAPE, W_SHAPE = (10, 32, 32, 8), (3, 3, 8, 16)
BASELINE = "F.conv2d"


class Row(NamedTuple):
    name: str
    by: str
    shape: tuple[int, ...]
    seconds: float
    norm: float


def notebook_data(dtype: str, seed: int = 0) -> tuple[Array, Array]:
    """Z and W of the notebook, uniform in [0, 1)."""
    generator = np.random.default_rng(seed)
    Z, W = (generator.random(shape).astype(dtype) for shape in (Z_SHAPE, W_SHAPE))
    return Z, W


def contenders(Z: Array, W: Array) -> Iterator[tuple[str, str, Callable[[], Array]]]:
    """(name, computed by, function without arguments that returns the result as an NHWC array)."""
    x, w = torch.from_numpy(Z), torch.from_numpy(W)
    image, kernel = x.permute(0, 3, 1, 2).contiguous(), w.permute(3, 2, 0, 1).contiguous()
    by = "C++" if _extension.available else "NumPy"
    yield BASELINE, "PyTorch", lambda: F.conv2d(image, kernel).permute(0, 2, 3, 1).numpy()
    yield "conv_reference", "PyTorch", lambda: reference.conv_reference(Z, W)
    yield "conv_naive", "Python", lambda: reference.conv_naive(Z, W)
    for name in ("conv_matmul", "conv_im2col"):
        yield name, "NumPy", partial(getattr(reference, name), Z, W)
    for name in FORWARD_OPS:
        yield f"ops.{name}", by, partial(of_op, name, x, w)


def of_op(name: str, x: torch.Tensor, w: torch.Tensor) -> Array:
    return getattr(ops, name)(x, w).numpy()


def timed(function: Callable[[], Array], budget: float = 0.2) -> tuple[Array, float]:
    """(result, median seconds) of the calls that `budget` seconds allow after the first, or of the first."""
    start = time.perf_counter()
    out = function()
    times = [time.perf_counter() - start]
    if times[0] < budget:
        times.clear()  # that one was to warm up
    while sum(times) < budget:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return out, statistics.median(times)


def rows(Z: Array, W: Array) -> Iterator[Row]:
    answer = None
    for name, by, function in contenders(Z, W):
        out, seconds = timed(function)
        answer = out if answer is None else answer
        yield Row(name, by, out.shape, seconds, float(np.linalg.norm((out - answer).astype(np.float64))))


def norm_limit(Z: Array, W: Array) -> float:
    """Rounding errors of n additions come to about sqrt(n) half units in the last place of every element."""
    n = math.prod(W_SHAPE[:3])
    answer = reference.conv_reference(Z, W).astype(np.float64)
    return math.sqrt(n) * np.finfo(Z.dtype).eps / 2 * float(np.linalg.norm(answer))


def run(dtype: str) -> list[str]:
    """Prints the table for one dtype; returns what is wrong with it."""
    Z, W = notebook_data(dtype)
    limit = norm_limit(Z, W)
    print(f"\nZ {list(Z_SHAPE)}, W {list(W_SHAPE)}, {Z.dtype}: the norms must not exceed {limit:.1e}")
    print(
        f"{'':16}{'by':9}{'output shape':20}{'time':>11}{'speed':>10}  norm of the difference from F.conv2d"
    )
    wrong, baseline = [], None
    for row in rows(Z, W):
        baseline = baseline or row.seconds
        print(
            f"{row.name:16}{row.by:9}{str(list(row.shape)):20}{row.seconds * 1e3:8.3f} ms"
            f"{baseline / row.seconds:9.2{'f' if row.seconds < 100 * baseline else 'g'}}x  {row.norm:.3e}",
            flush=True,
        )
        if not row.norm <= limit:
            wrong.append(f"{row.name} in {Z.dtype}: norm {row.norm:.3e}, shape {row.shape}")
    return wrong
