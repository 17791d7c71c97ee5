"""A weight packed ahead of the calls, and whether the parameter that it came from is still what was packed."""

from __future__ import annotations

import weakref
from functools import cache
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch._compile import _disable_dynamo as disable_dynamo
from torch.autograd.graph import increment_version
from torch.optim.optimizer import register_optimizer_step_post_hook

from .. import _extension
from .._geometry import padding_argument
from .._geometry.dtypes import COMPUTED
from .._ops import ops
from .._ops.finish import Finish
from .._ops.recorded import convolve_finished, convolve_packed, short_call
from .._ops.transposed import TransposedCall, convolve_transposed, pack_transposed
from .._ops.weight_order import hwio_size


class Packing:
    """A packed copy of a parameter, `tensor`, and what the parameter was at that moment."""

    tensor: Tensor

    def __init__(self, parameter: torch.nn.Parameter) -> None:
        # Read first: a change while packing makes this copy stale, not the next one.
        self.parameter, self.state = parameter, state_of(parameter)
        self.memory = parameter.detach()  # else the next weight might come to lie at the same address
        PACKED.add(self)
        watch_optimizers()

    def is_stale(self) -> bool:
        return self.state != state_of(self.parameter)

    def of_images(self, oihw: bool) -> Tensor:
        """The parameter with four dimensions."""
        weight = self.memory
        if (
            weight.dim() == 3
        ):  # of signals, [O, C/groups, K] or [K, C/groups, O]: as that of images of one row
            return weight.unsqueeze(2 if oihw else 0)
        return weight.t()[None, None] if weight.dim() == 2 else weight  # of a linear layer, [O, C]: as HWIO


class PackedTransposed(Packing):
    """That of a transposed convolution."""

    def __init__(self, parameter: torch.nn.Parameter, call: TransposedCall) -> None:
        super().__init__(parameter)
        self.call, self.weight = call, self.of_images(bool(call.nchw))
        self.tensor = pack_transposed(self.weight, call)

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor | None:
        """The convolution of a tensor that is short; None where it is computed in another way, or refused."""
        return convolve_transposed(x, self.weight, bias, self.call, self.tensor)


class PackedWeight(Packing):
    """That of a convolution."""

    def __init__(self, parameter: torch.nn.Parameter, groups: int, winograd: bool, oihw: bool) -> None:
        super().__init__(parameter)
        weight = self.of_images(oihw)
        self.size = hwio_size(weight, oihw)
        self.tensor = ops.pack_weight(weight, groups, winograd, oihw)
        self.nothing = parameter.new_empty(0)  # no packing: what an exported program holds in its place
        self.nchw = oihw
        self.geometry: tuple[Any, ...] = ()
        self.short_call: tuple[int, ...] = ()

    def convolve(
        self,
        x: Tensor,
        bias: Tensor | None,
        geometry: tuple[Any, ...],
        finish: Finish,
        residual: Tensor | None,
    ) -> Tensor:
        """The convolution of a recordable tensor. `geometry` is what `self.geometry` was at the last call, mostly."""
        if geometry != self.geometry:
            stride, padding, dilation, groups = geometry
            sides, auto_pad = padding_argument(padding)
            self.short_call = short_call(self.nchw, stride, sides, dilation, groups, auto_pad)
            self.geometry = geometry
        if not finish.activation and residual is None:
            return convolve_packed(x, self.tensor, bias, *self.short_call)
        kind, *rest = self.short_call
        call = kind | finish.kind, *rest, residual, finish.alpha, finish.beta
        return convolve_finished(x, self.tensor, bias, *call)


PACKED: weakref.WeakSet[Packing] = weakref.WeakSet()


def is_packable(parameter: Tensor | None) -> TypeGuard[torch.nn.Parameter]:
    return (
        parameter is not None
        and not parameter.is_inference()  # keeps no version; raises for a parameter without a shape yet
        and type(parameter) is torch.nn.Parameter  # no DTensor, for one
        and parameter.device.type == "cpu"
        and parameter.dtype in COMPUTED
    )


def state_of(parameter: Tensor) -> tuple[Any, ...]:
    """Whatever changes when a weight is replaced or written to in a way that PyTorch sees."""
    isa = None if _extension.module is None else _extension.module.instruction_set()
    return parameter._version, parameter.data_ptr(), parameter.dtype, parameter.shape, parameter.stride(), isa


@cache
def watch_optimizers() -> None:
    """From the first packing on: until then torch.optim stays as it is."""
    register_optimizer_step_post_hook(count_writes)


@disable_dynamo  # a compiled step does not count them either, and breaks its graph in torch.optim anyway
def count_writes(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Counts what a step wrote to packed parameters: the kernels of fused optimisers do not."""
    packed = {id(weight.parameter) for weight in PACKED}
    for group in optimizer.param_groups if packed else ():
        fused = group.get("fused")
        # Fused ones are not asked for a gradient: a hook of the optimiser's own may have freed it.
        increment_version(
            p
            for p in group["params"]
            if id(p) in packed and (fused and p.requires_grad or p.grad is not None)
        )
