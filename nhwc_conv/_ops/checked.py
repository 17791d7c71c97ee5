"""The arguments of an op, checked, as a Geometry: what every implementation in Python begins with.

`geometry` is what follows in the schemas; _geometry/checks.py names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._geometry import (
    Geometry,
    check_out_dtype,
    check_tensors,
    check_winograd,
    forward_geometry,
    input_geometry,
    weight_geometry,
)


def checked_forward(x: Tensor, w: Tensor, bias: Tensor | None, *geometry: Any) -> Geometry:
    check_tensors(x=x, w=w, bias=bias)
    return forward_geometry(x.shape, w.shape, None if bias is None else bias.shape, *geometry)


def checked_winograd(*args: Any) -> Geometry:
    return check_winograd(checked_forward(*args))


def checked_input(grad: Tensor, w: Tensor, input_size: Sequence[int], *geometry: Any) -> Geometry:
    check_tensors(grad=grad, w=w)
    return input_geometry(grad.shape, w.shape, input_size, *geometry)


def checked_weight(
    grad: Tensor, x: Tensor, kernel_size: Sequence[int], *rest: Any
) -> tuple[Geometry, torch.dtype]:
    """And the result's dtype."""
    *geometry, out_dtype = rest
    check_tensors(grad=grad, x=x)
    g = weight_geometry(grad.shape, x.shape, kernel_size, *geometry)
    return g, check_out_dtype(out_dtype, x.dtype)
