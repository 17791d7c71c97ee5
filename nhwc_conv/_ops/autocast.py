"""torch.autocast: forward ops compute in the dtype that is active for their device, as F.conv2d does.

torch.library.register_autocast would fix one dtype for all time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet, _ExcludeDispatchKeyGuard
from torch._C import _is_any_autocast_enabled as autocast_enabled

from .derivatives import overload
from .schema import FORWARD_OPS, library

KEYS = {
    "AutocastCPU": "cpu",
    "AutocastCUDA": "cuda",
    "AutocastMPS": "mps",
    "AutocastXPU": "xpu",
    "AutocastPrivateUse1": None,  # whatever it is called by then
}


def autocast_kernel(name: str, key: str) -> Callable[..., Tensor]:
    op = overload(name)
    excluded = DispatchKeySet(getattr(DispatchKey, key))

    def kernel(*args: Any) -> Tensor:
        device_type = KEYS[key] or torch._C._get_privateuse1_backend_name()
        tensors, geometry = _cast(args[:3], device_type), args[3:]
        with _ExcludeDispatchKeyGuard(excluded):
            return op(*tensors, *geometry)

    return kernel


def cast_as_active(*tensors: Any) -> tuple[Any, ...]:
    """The tensors of a forward op in the dtype that it will be computed in: as they are without autocast."""
    device_type = tensors[0].device.type
    # "meta" and its like are no device types to ask about.
    if autocast_enabled() and torch.amp.is_autocast_available(device_type):
        return _cast(tensors, device_type) if torch.is_autocast_enabled(device_type) else tensors
    return tensors


def _cast(tensors: tuple[Any, ...], device_type: str) -> tuple[Any, ...]:
    """float64, integers and complex numbers are left alone by autocast, and so are tensors elsewhere."""
    dtype = torch.get_autocast_dtype(device_type)

    def eligible(t: Tensor) -> bool:
        return t.is_floating_point() and t.dtype != torch.float64 and t.device.type == device_type

    return tuple(t.to(dtype) if t is not None and eligible(t) else t for t in tensors)


for _key in KEYS:
    for _name in FORWARD_OPS:
        library.impl(_name, autocast_kernel(_name, _key), _key)
