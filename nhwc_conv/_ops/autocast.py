"""torch.autocast: forward ops compute in the dtype that is active for their device, as F.conv2d does.

A float32 weight that wants a gradient is rounded below autograd, so that its gradient is not: sums are float32, and
stay so on their way into the parameter. torch.library.register_autocast would fix one dtype for all time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet, _ExcludeDispatchKeyGuard

from .autograd import EAGER, is_exporting_to_onnx
from .derivatives import ForwardRule, overload
from .listeners import has_tangents
from .mixed_precision import MixedOp, cast_to_active, is_mixed
from .schema import FORWARD_OPS, completed, library

KEYS = {
    "AutocastCPU": "cpu",
    "AutocastCUDA": "cuda",
    "AutocastMPS": "mps",
    "AutocastXPU": "xpu",
    "AutocastPrivateUse1": None,  # whatever it is called by then
}


def autocast_kernel(name: str, key: str) -> Callable[..., Tensor]:
    op, mixed = overload(name), MixedOp(overload(name))
    apply: Callable[..., Any] = EAGER[ForwardRule].apply
    excluded = DispatchKeySet(getattr(DispatchKey, key))

    def kernel(x: Tensor, w: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        device_type = KEYS[key] or torch._C._get_privateuse1_backend_name()
        cast = cast_to_active((x, w, bias), device_type)
        with _ExcludeDispatchKeyGuard(excluded):
            if is_mixed(cast[0], w) and not has_tangents() and not is_exporting_to_onnx(x):
                return apply(mixed, cast[0], w, bias, geometry)
            return op(*cast, *geometry)

    return completed(name, kernel)


for _key in KEYS:
    for _name in FORWARD_OPS:
        library.impl(_name, autocast_kernel(_name, _key), _key)
