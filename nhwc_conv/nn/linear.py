"""torch.nn.Linear as a 1x1 convolution of one row of pixels: convert(model, inference=True) makes such layers."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_compiling

from .._ops.finish import ActivationArgument
from ..functional import AUTO
from .drop_in import as_torch
from .fused import FusedLayer, LayerAndActivation
from .twin import shallow_copy

if TYPE_CHECKING:
    from typing_extensions import Self


class FusedLinear(FusedLayer, torch.nn.Linear):
    """torch.nn.Linear with an activation and, where a call has one, a residual, as FusedConv2d has them.

    Input [..., in_features], result and residual [..., out_features]. Where the weight is packed (nhwc_conv.prepack),
    nothing is recorded for a gradient and nobody but autograd looks, it is a convolution of this package; else what
    torch.nn.Linear and the activations of torch compute.

    Raises:
        ValueError: unknown `activation`.
    """

    oihw, groups, algorithm = False, 1, AUTO  # [O, C] is a view of [1, 1, C, O]
    stride = dilation = (1, 1)

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, residual: Tensor | None = None) -> Tensor: ...

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        activation: ActivationArgument = None,
        activation_first: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.set_finish(activation, activation_first)

    @classmethod
    def from_torch(cls, module: torch.nn.Linear) -> Self:
        """The layer that shares the parameters, the hooks and everything else of `module`."""
        layer = shallow_copy(module, cls)
        layer.set_finish(None, False)
        return layer

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        weight, bias = self.weight_and_bias()
        if self._packed is not None and not is_compiling() and input.dim() > 0:
            size = (*input.shape[:-1], self.out_features)
            if residual is None or residual.shape == size:
                rows = prod(size[:-1])
                x = input.reshape(1, 1, rows, input.shape[-1])
                added = None if residual is None else residual.reshape(1, 1, rows, self.out_features)
                out = self.convolve_packed(
                    x, weight, bias, (self.stride, 0, self.dilation, self.groups), added
                )
                if out is not None:
                    return out.view(size)
        return self.finish.of(F.linear(input, weight, bias), residual)

    def to_torch(self) -> LayerAndActivation:
        """A torch.nn.Linear that shares everything with this layer, and its activation behind it."""
        return LayerAndActivation(as_torch(self, torch.nn.Linear), self.finish)
