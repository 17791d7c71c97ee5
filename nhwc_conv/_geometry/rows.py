"""Images of one row: their arguments in the form that conv2d takes, and what is wrong with them in their own terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import texts
from .arguments import as_int, as_ints
from .operands import check_kernel, check_operands, check_steps
from .sizes import EXPLICIT, extent, output_size, same_output_size, two


def as_row(name: str, value: Any, lengths: tuple[int, ...] = (1,)) -> tuple[int, ...]:
    """An integer as (n,), or a sequence of as many integers as `lengths` has. TypeError otherwise."""
    values = as_ints(name, value) if isinstance(value, (tuple, list)) else (as_int(name, value),)
    if len(values) not in lengths:
        texts.fail(texts.LENGTH, name=name, length=" or ".join(map(str, lengths)), value=values)
    return values


def check_row(
    x: Sequence[int],
    w: Sequence[int],
    bias: Sequence[int] | None,
    residual: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    auto_pad: int,
) -> None:
    """Raises what is wrong with a convolution of shapes `x` [N, W, C], `w` [K, C/groups, O], `bias` and `residual`."""
    (step, _), padding, (apart, _) = check_steps(stride, padding, dilation, groups, auto_pad)
    check_operands(x, w, bias, groups, "conv1d", 1)
    if auto_pad == EXPLICIT:
        left, right = two(padding)
        check_kernel((extent(w[0], apart),), (x[-2] + left + right,))
        width = output_size(x[-2], w[0], step, apart, left, right)
    else:
        width = same_output_size(x[-2], step)
    expected = *x[:-2], width, w[-1]
    if residual is not None and tuple(residual) != expected:
        texts.fail(texts.RESULT_SIZE, name="residual", expected=expected, actual=tuple(residual))
