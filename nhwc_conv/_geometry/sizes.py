"""The size formulas. Sizes are ints or torch.SymInts; strides, paddings and dilations are ints."""

from __future__ import annotations

from collections.abc import Sequence

import torch

EXPLICIT, SAME, SAME_LOWER = 0, 1, 2


def holds(condition: bool | torch.SymBool) -> bool:
    """Whether `condition` is known to hold. Sizes that depend on data a compiler cannot know; the op asks again."""
    if condition is True or condition is False:
        return condition
    if not (isinstance(condition, torch.SymBool) or torch.compiler.is_compiling()):
        return bool(condition)  # of NumPy's numbers, say
    from torch.fx.experimental.symbolic_shapes import guard_or_false  # with it comes sympy

    return guard_or_false(condition)


def known_ints(values: Sequence[int]) -> tuple[int, ...] | None:
    """`values` as ints if none of them depends on a symbolic size; asking is no guard."""
    if all(type(v) is int for v in values):
        return tuple(values)
    from torch.fx.experimental.symbolic_shapes import is_concrete_int

    return tuple(map(int, values)) if all(map(is_concrete_int, values)) else None


def extent(kernel: int, dilation: int) -> int:
    """Pixels from the first tap to the last one."""
    return dilation * (kernel - 1) + 1


def output_size(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """Number of outputs along an axis with explicit padding."""
    return (size + before + after - extent(kernel, dilation)) // stride + 1


def same_output_size(size: int, stride: int) -> int:
    """Number of outputs along an axis under auto_pad: ceil(size / stride), TensorFlow's rule for SAME."""
    return (size - 1) // stride + 1


def same_sides(size: int, kernel: int, stride: int, dilation: int, auto_pad: int) -> tuple[int, int]:
    """(before, after) under auto_pad: as little as it takes. The odd pixel goes after (1) or before (2)."""
    total = (same_output_size(size, stride) - 1) * stride + extent(kernel, dilation) - size
    # torch.jit.trace has tensors for sizes.
    total = total.clamp(min=0) if isinstance(total, torch.Tensor) else torch.sym_max(total, 0)
    small = total // 2
    return (small, total - small) if auto_pad == SAME else (total - small, small)


def four_sides(padding: Sequence[int]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of the ops' list of one, two or four values."""
    if len(padding) == 4:
        top, bottom, left, right = padding
        return top, bottom, left, right
    h, w = two(padding)
    return (h, h, w, w)


def two(values: Sequence[int]) -> tuple[int, int]:
    """(h, w) of the ops' list of one or two values."""
    h, w = (*values, *values) if len(values) == 1 else values
    return h, w
