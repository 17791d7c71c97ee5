"""Weights of a layer, packed ahead of the calls for inference: what gives a layer that, and what takes it away."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _extension
from .._ops import nothing_listens, ops


class PackedWeight:
    """A packed copy of an HWIO view of a parameter, and what the parameter was at that moment."""

    def __init__(self, parameter: torch.nn.Parameter, w: Tensor, groups: int, winograd: bool) -> None:
        # Read first: a change while packing makes this copy stale, not the next one.
        self.parameter, self.state = parameter, state_of(parameter)
        self.memory = parameter.detach()  # else the next weight might come to lie at the same address
        self.size = w.shape
        with torch.no_grad():
            self.tensor = ops.pack_weight(w, groups, winograd)

    def is_of(self, parameter: Tensor) -> bool:
        return parameter is self.parameter and self.state == state_of(parameter)


def state_of(parameter):
    """Whatever changes when a weight is replaced or written to in a way that PyTorch sees."""
    isa = _extension.module.instruction_set() if _extension.available else None
    return parameter._version, parameter.data_ptr(), parameter.dtype, parameter.shape, parameter.stride(), isa


def is_packable(parameter: Tensor | None) -> bool:
    return (
        isinstance(parameter, torch.nn.Parameter)
        and not parameter.is_inference()  # keeps no version
        and parameter.device.type == "cpu"
        and parameter.dtype in (torch.float32, torch.float64)
    )


class Prepackable(torch.nn.Module):
    """A layer whose weight may be packed. Training, loading, moving, copying and pickling drop the packing."""

    _packed: PackedWeight | None = None

    def hwio(self, weight: Tensor) -> Tensor:
        """`weight` as [KH, KW, C/groups, O]."""
        raise NotImplementedError

    def pack(self) -> None:
        """Packs the weight, if it is a plain parameter of a dtype that is computed in C++."""
        weight = self._parameters.get("weight")  # a parametrised layer has another one at every access
        self._packed = None
        if self.algorithm == "auto" and is_packable(weight):
            self._packed = self._pack(weight)

    def _pack(self, weight: Tensor) -> PackedWeight:
        may_be_winograd = self.stride == self.dilation == (1, 1)
        return PackedWeight(weight, self.hwio(weight), self.groups, may_be_winograd)

    def packing_for(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> PackedWeight | None:
        """The packing, anew if the weight has changed; None where a convolution of `x` cannot use one."""
        packed = self._packed
        if (
            packed is None
            or not nothing_listens()
            or self.algorithm != "auto"
            or type(x) is not Tensor
            or type(weight) is not torch.nn.Parameter
            or torch.is_grad_enabled()
            and (x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad))
            or x.dtype != weight.dtype
            or torch.is_autocast_enabled("cpu")
            or torch.overrides._get_current_function_mode() is not None
            or not is_packable(weight)
        ):
            return None
        if not packed.is_of(weight):
            packed = self._packed = self._pack(weight)
        return packed

    def train(self, mode: bool = True):
        if mode:
            self._packed = None
        return super().train(mode)

    def _apply(self, fn, recurse=True):
        self._packed = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args, **kwargs):
        self._packed = None
        return super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k != "_packed"}
