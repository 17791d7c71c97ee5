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
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
    auto_pad: int = 0,
) -> Geometry:
    check_tensors(x=x, w=w, bias=bias)
    bias_shape = None if bias is None else bias.shape
    return forward_geometry(x.shape, w.shape, bias_shape, stride, padding, dilation, groups, auto_pad)


def checked_winograd(x: Tensor, w: Tensor, *args: Any, **kwargs: Any) -> Geometry:
    return check_winograd(checked_forward(x, w, *args, **kwargs))


def checked_input(
    grad: Tensor,
    w: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
    auto_pad: int = 0,
    algorithm: int = 0,
) -> Geometry:
    check_tensors(grad=grad, w=w)
    steps = stride, padding, dilation
    return input_geometry(grad.shape, w.shape, input_size, *steps, groups, auto_pad, algorithm)


def checked_weight(
    grad: Tensor,
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
    auto_pad: int = 0,
    algorithm: int = 0,
) -> Geometry:
    check_tensors(grad=grad, x=x)
    steps = stride, padding, dilation
    return weight_geometry(grad.shape, x.shape, kernel_size, *steps, groups, auto_pad, algorithm)
