"""The forward ops on NCHW images and OIHW weights, with results and gradients in F.conv2d's memory formats.

Where the extension computes them and nobody but autograd looks, it takes the tensors as they are: recorded.py. Else the
NHWC ops are given views.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from torch import Tensor
from torch._C import _AutoDispatchBelowADInplaceOrView as BelowViews

from .listeners import needs_gradient, nothing_listens
from .memory_format import in_format, is_result_channels_last
from .weight_order import HWIO


def to_nhwc(t: Tensor) -> Tensor:
    return t.movedim(-3, -1)


def to_nchw(t: Tensor) -> Tensor:
    return t.movedim(-1, -3)


def without_views(input: Tensor, weight: Tensor, *others: Tensor | None) -> Any:
    """A context in which results are no views to autograd, which would forbid to change them in place later on."""
    recorded = needs_gradient(input, weight, *others)
    return BelowViews() if nothing_listens() and not recorded else nullcontext()


def views(input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return to_nhwc(input), weight.permute(HWIO)


def result(out: Tensor, input: Tensor, weight: Tensor) -> Tensor:
    """NHWC `out` as F.conv2d would return it."""
    return in_format(to_nchw(out), is_result_channels_last(input, weight))
