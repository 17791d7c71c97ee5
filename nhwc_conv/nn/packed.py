"""Layers whose weights may be packed ahead of the calls for inference: what gives them that, and what takes it away."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._C import _is_any_autocast_enabled as autocast_enabled
from torch._C import _len_torch_function_stack as function_modes
from torch.compiler import is_compiling

from .._ops import is_recordable, is_transformed
from .._ops.finish import NOTHING, ActivationArgument, Finish, finish_argument
from .._ops.listeners import PLAIN, needs_gradient
from .._ops.recorded import NOT_COMPUTED
from .._ops.weight_order import hwio_size
from .packed_weight import PackedWeight, Packing, is_packable

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..functional import Algorithm


class HoldsPacked(torch.nn.Module):
    """A module that holds something packed: training, loading, moving, copying and pickling drop it."""

    _packed: Any = None

    def train(self, mode: bool = True) -> Self:
        if mode:
            self._packed = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._packed = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._packed = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_packed"}


class Prepackable(HoldsPacked):
    """A layer whose weight may be packed: `_packed` is a Packing, of the kind that `_packing` makes."""

    # The weight is [O, C/groups, KH, KW], else [KH, KW, C/groups, O]; of signals without KH.
    oihw: bool

    if TYPE_CHECKING:  # at run time torch.jit would read these, and take the text of an annotation for a type
        groups: int
        algorithm: Algorithm

    activation: ActivationArgument = None
    activation_first = False
    finish: Finish = NOTHING  # both, as conv2d_packed takes them

    def set_finish(self, activation: ActivationArgument, activation_first: bool) -> None:
        """ValueError: no such activation."""
        self.finish = finish_argument(activation, activation_first)
        self.activation, self.activation_first = activation, activation_first

    def pack(self) -> None:
        """Packs the weight, if it is a plain parameter of a dtype that is computed in C++."""
        weight = self._parameters.get("weight")  # a parametrised layer has another one at every access
        self._packed = None
        if self.algorithm == "auto" and is_packable(weight):
            self._packed = self._packing(weight)

    def _packing(self, weight: torch.nn.Parameter) -> Packing | None:
        """None where nothing can be packed."""
        may_be_winograd = self.stride == self.dilation == (1, 1)
        return PackedWeight(weight, self.groups, may_be_winograd, self.oihw)

    def fresh_packing(self, weight: Tensor) -> Any:
        """The packing of a weight, made anew if the parameter has changed. None where there is none of `weight`."""
        packed = self._packed
        # Another parameter may be gone with the call (torch.func.functional_call), or be written to uncounted.
        if packed is None or weight is not packed.parameter:
            return None
        if packed.is_stale():
            if not is_packable(weight):
                return None
            packed = self._packed = self._packing(weight)
        return packed

    def weight_and_bias(self) -> tuple[Tensor, Tensor | None]:
        """The attributes, from where they are mostly: nn.Module's own lookup takes ten times as long."""
        parameters: dict[str, Any] = self._parameters
        if "weight" in parameters and "bias" in parameters:
            return parameters["weight"], parameters["bias"]
        layer: Any = self
        return layer.weight, layer.bias  # parametrised

    def convolve_packed(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        steps: tuple[Any, ...],
        residual: Tensor | None,
    ) -> Tensor | None:
        """The convolution by the packed weight, which is packed anew if the parameter has changed.

        `steps` are stride, padding, dilation and groups. None where nothing is packed of `weight`, somebody but
        autograd looks, or a gradient is to come.
        """
        if (
            self._packed is None
            or not is_recordable(x, weight, bias)
            or needs_gradient(x, weight, bias, residual)
            or self.algorithm != "auto"
            or x.dtype != weight.dtype
            or autocast_enabled()
            or (residual is not None and type(residual) not in PLAIN)
        ):
            return None
        packed = self.fresh_packing(weight)
        if packed is None:
            return None
        try:
            out: Tensor = packed.convolve(x, bias, steps, self.finish, residual)
            return out
        except NOT_COMPUTED:
            return None  # computed in another way, or refused in words that fit

    def packing_in_graph(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None
    ) -> tuple[Any, ...] | None:
        """What conv2d_packed takes in place of `weight` where a graph is made: after x, and behind its other arguments.

        None where a convolution of `x` cannot use a packing. Whether it is of the weight when the graph runs is for
        conv2d_packed to see, so it gets the weight, too. A graph that is exported holds no packing: see prepack.
        """
        packed = self._packed
        if packed is None or not is_compiling():
            return None
        exporting = torch.compiler.is_exporting()
        if (
            # To an exporter all tensors are of classes of its own, under function modes of its own.
            not exporting
            and (type(x) is not Tensor or type(weight) is not torch.nn.Parameter or function_modes())
            or is_transformed()
            or self.algorithm != "auto"
            or needs_gradient(x, weight, bias, residual)
            or x.dtype != weight.dtype
            or torch.is_autocast_enabled("cpu")
            or packed.tensor.dtype != weight.dtype
        ):
            return None
        tensor = packed.nothing if exporting else packed.tensor
        # The parameter itself: Inductor's views of it would have versions of their own.
        return tensor, hwio_size(weight, self.oihw), weight, self.oihw

    def finish_in_graph(self, residual: Tensor | None) -> tuple[Any, ...]:
        """The last arguments of conv2d_packed. None where nothing is done: a compiler takes numbers for variables."""
        return (False, residual, *self.finish) if self.finish.activation or residual is not None else ()
