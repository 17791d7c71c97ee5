"""Ops without derivatives: where one would be needed they raise, since the fallback would be silently zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._geometry import texts
from .autograd import is_exporting_to_onnx
from .onnx_export import FORMS
from .schema import library, ops

NAMES = ("pack_weight", "conv2d_packed", "_aten_conv2d", "_aten_conv2d_input", "_aten_conv2d_weight")


def autograd_kernel(name: str) -> Callable[..., Tensor]:
    overload = getattr(ops, name).default

    def kernel(*args: Any) -> Tensor:
        if name in FORMS and is_exporting_to_onnx(args[0]):
            return FORMS[name](*args)
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            texts.fail(texts.NO_GRADIENT, op=name)
        if forward_ad._current_level >= 0 and any(map(_has_tangent, tensors)):
            texts.fail(texts.NO_TANGENT, op=name)
        with torch._C._AutoDispatchBelowAutograd():
            return overload(*args)

    return kernel


def _has_tangent(t: Tensor) -> bool:
    return forward_ad.unpack_dual(t).tangent is not None


for _name in NAMES:
    library.impl(_name, autograd_kernel(_name), "Autograd")
