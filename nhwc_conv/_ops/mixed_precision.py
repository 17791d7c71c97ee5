"""What autocast makes of the tensors of a forward op, and of the gradient of a weight that stays float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._C import _is_any_autocast_enabled as autocast_enabled
from torch._ops import OpOverload

from .._geometry.dtypes import ARITHMETIC


def cast_as_active(*tensors: Any) -> tuple[Any, ...]:
    """The tensors of a forward op in the dtype that it will be computed in: as they are without autocast."""
    device_type = tensors[0].device.type
    # "meta" and its like are no device types to ask about.
    if autocast_enabled() and torch.amp.is_autocast_available(device_type):
        return cast_to_active(tensors, device_type) if torch.is_autocast_enabled(device_type) else tensors
    return tensors


def cast_to_active(tensors: tuple[Any, ...], device_type: str) -> tuple[Any, ...]:
    """float64, integers and complex numbers are left alone by autocast, and so are tensors elsewhere."""
    dtype = torch.get_autocast_dtype(device_type)

    def eligible(t: Tensor) -> bool:
        return t.is_floating_point() and t.dtype != torch.float64 and t.device.type == device_type

    return tuple(t.to(dtype) if t is not None and eligible(t) else t for t in tensors)


class MixedOp:
    """A forward op that rounds its weight and bias to the dtype of x, in place of the op where `is_mixed`.

    To autograd the weight stays what it is, and its gradient gets that dtype: ForwardRule.gradients.
    """

    def __init__(self, op: OpOverload) -> None:
        self._opname, self._wrapped = op._opname, op._op

    def _op(self, x: Tensor, w: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        return self._wrapped(x, w.to(x.dtype), None if bias is None else bias.to(x.dtype), *geometry)

    __call__ = _op


def is_mixed(x: Tensor, w: Tensor) -> bool:
    """Whether `w`, as autocast found it, is to get a gradient that is not rounded to the dtype in which x is."""
    return (
        torch.is_grad_enabled()
        and w.requires_grad
        and w.dtype != x.dtype
        and w.dtype == ARITHMETIC.get(x.dtype)
    )
