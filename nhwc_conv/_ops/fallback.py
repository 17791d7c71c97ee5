"""The ops without the extension: NumPy on CPU for the dtypes that it computes, aten for everything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from .. import reference
from .._geometry import Geometry
from .._geometry.dtypes import ARITHMETIC
from .aten import aten_conv2d, aten_conv2d_input, aten_conv2d_weight, result
from .checked import checked_forward, checked_input, checked_weight, checked_winograd
from .schema import completed, library

ALGORITHMS = {
    "im2col": reference.conv_im2col,
    "matmul": reference.conv_matmul,
    "winograd": reference.conv_winograd,
    "conv2d": reference.conv_matmul,
}


def fallback_forward(algorithm: Callable[..., reference.Array]) -> Callable[..., Tensor]:
    def forward(x: Tensor, w: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        checked = checked_winograd if algorithm is reference.conv_winograd else checked_forward
        g = checked(x, w, bias, *geometry)
        if not _is_for_numpy(x):
            return aten_conv2d(x, w, bias, *geometry)
        b = None if bias is None else _array(bias)
        return _tensor(algorithm(_array(x), _array(w), bias=b, **_explicit(g)), x.dtype)

    return forward


def fallback_input(grad: Tensor, w: Tensor, input_size: Sequence[int], *geometry: Any) -> Tensor:
    g = checked_input(grad, w, input_size, *geometry)
    if not _is_for_numpy(grad):
        return aten_conv2d_input(grad, w, input_size, *geometry)
    return _tensor(
        reference.conv_input_gradient(_array(grad), _array(w), (g.H, g.W), **_explicit(g)), grad.dtype
    )


def fallback_weight(grad: Tensor, x: Tensor, kernel_size: Sequence[int], *rest: Any) -> Tensor:
    g, dtype = checked_weight(grad, x, kernel_size, *rest)
    if not _is_for_numpy(grad):
        return aten_conv2d_weight(grad, x, kernel_size, *rest)
    return _tensor(
        reference.conv_weight_gradient(_array(grad), _array(x), (g.KH, g.KW), **_explicit(g)), dtype
    )


def _is_for_numpy(t: Tensor) -> bool:
    return t.device.type == "cpu" and t.dtype in ARITHMETIC


def _explicit(g: Geometry) -> dict[str, Any]:
    """Keyword arguments with auto_pad resolved."""
    return dict(stride=g.stride, padding=g.padding, dilation=g.dilation, groups=g.groups)


def _array(t: Tensor) -> reference.Array:
    # Halves are computed in float32, as by the extension.
    # Not t.numpy(), which forbids for good to resize the storage: FSDP frees a gathered weight that way.
    return numpy.from_dlpack(t.detach().to(ARITHMETIC[t.dtype]))


def _tensor(array: reference.Array, dtype: torch.dtype) -> Tensor:
    return result(torch.from_numpy(array).to(dtype), array.shape)


FALLBACKS: dict[str, Callable[..., Tensor]] = {
    **{name: fallback_forward(algorithm) for name, algorithm in ALGORITHMS.items()},
    "conv2d_input": fallback_input,
    "conv2d_weight": fallback_weight,
}
for _name, _fallback in FALLBACKS.items():
    library.impl(_name, completed(_name, _fallback), "CompositeExplicitAutograd")
