"""The arguments of an op, checked, as a Geometry: what every implementation in Python begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .._geometry import (
    Geometry,
    check_tensors,
    check_winograd,
    forward_geometry,
    input_geometry,
    weight_geometry,
)


def checked_forward(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    auto_pad: int,
) -> Geometry:
    check_tensors(x=x, w=w, bias=bias)
    bias_shape = None if bias is None else bias.shape
    return forward_geometry(x.shape, w.shape, bias_shape, stride, padding, dilation, groups, auto_pad)


def checked_winograd(*args: Any) -> Geometry:
    return check_winograd(checked_forward(*args))


def checked_input(
    grad: Tensor,
    w: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    auto_pad: int,
    algorithm: int,
) -> Geometry:
    check_tensors(grad=grad, w=w)
    steps = stride, padding, dilation
    return input_geometry(grad.shape, w.shape, input_size, *steps, groups, auto_pad, algorithm)


def checked_weight(
    grad: Tensor,
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    auto_pad: int,
    algorithm: int,
) -> Geometry:
    check_tensors(grad=grad, x=x)
    steps = stride, padding, dilation
    return weight_geometry(grad.shape, x.shape, kernel_size, *steps, groups, auto_pad, algorithm)
