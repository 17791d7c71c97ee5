"""Transposed layers whose weights may be packed ahead of the calls for inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._geometry import padding_argument
from .._ops.recorded import NOT_COMPUTED, available
from .._ops.transposed import TransposedCall, is_short, transposed_call
from ..functional import AUTO
from .packed import Prepackable
from .packed_weight import PackedTransposed

if TYPE_CHECKING:
    from ..functional import Algorithm


class PrepackableTransposed(Prepackable):
    """A transposed layer, of images or signals. Its weight is packed for results of its own output_padding."""

    algorithm: Algorithm = AUTO  # there is no other, as yet

    def _call(self) -> TransposedCall:
        """ValueError or TypeError: steps that are no short call's."""
        layer: Any = self
        sides, auto_pad = padding_argument(layer.padding)
        steps = layer.stride, sides, layer.output_padding, layer.dilation
        if len(layer.kernel_size) == 1:  # signals are images of one row
            zeros = sides if auto_pad else (0,) * len(sides) + tuple(sides)
            steps = (1, *layer.stride), zeros, (0, *layer.output_padding), (1, *layer.dilation)
        stride, sides, more, dilation = steps
        return transposed_call(self.oihw, stride, sides, more, layer.groups, dilation, auto_pad, self.finish)

    def _packing(self, weight: torch.nn.Parameter) -> PackedTransposed | None:
        try:
            return PackedTransposed(weight, self._call()) if available else None
        except NOT_COMPUTED:
            return None  # calls say what does not fit

    def transposed_by_packing(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, output_padding: Any
    ) -> Tensor | None:
        """The convolution of images by the packed weight; None where there is none, or somebody looks."""
        layer: Any = self
        if self._packed is None or not is_short(x, weight, bias):
            return None
        if tuple(output_padding) != tuple(layer.output_padding):
            return None  # a size that was asked for
        packed = self.fresh_packing(weight)
        out: Tensor | None = None if packed is None else packed.convolve(x, bias)
        return out
