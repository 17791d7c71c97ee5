"""Layers that take in_channels from their first input, as torch.nn.LazyConv2d does.

A dry run, or the first call, makes each an ordinary layer; from the same seed set before that call, it gets the
initial values of its counterpart in torch.nn.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter

from .._geometry import texts
from .._ops.finish import ActivationArgument
from ..functional import Algorithm, check_algorithm
from .drop_in import Conv2d, PaddingMode, WithAlgorithm
from .drop_in_1d import Conv1d
from .drop_in_transposed import ConvTranspose1d, ConvTranspose2d
from .hwio import ChannelsLastLayer, check_groups
from .nhwc import NHWCConv2d
from .nwc import NWCConv1d
from .nwc_transposed import NWCConvTranspose1d
from .transposed import NHWCConvTranspose2d

Uninitialized: Any = (
    UninitializedParameter  # torch's stub says neither what it takes nor that it is a Parameter
)


class LazyDropIn(WithAlgorithm):
    """What lazy drop-ins take: the arguments of torch.nn's lazy layers, and an algorithm."""

    def __init__(
        self,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        algorithm: Algorithm = "auto",
    ) -> None:
        check_algorithm(algorithm)
        lazy: Any = super()  # the layer of torch.nn, which this stands before
        steps = stride, padding, dilation, groups, bias, padding_mode
        lazy.__init__(out_channels, kernel_size, *steps, device, dtype)
        self.algorithm = algorithm


class LazyConv1d(LazyDropIn, torch.nn.LazyConv1d, Conv1d):  # type: ignore[misc]  # as torch.nn.LazyConv1d's own bases
    """torch.nn.LazyConv1d that becomes an nhwc_conv.Conv1d. Takes its arguments and `algorithm`."""

    cls_to_become = Conv1d


class LazyConv2d(LazyDropIn, torch.nn.LazyConv2d, Conv2d):  # type: ignore[misc]
    """torch.nn.LazyConv2d that becomes an nhwc_conv.Conv2d. Takes its arguments and `algorithm`."""

    cls_to_become = Conv2d


class LazyConvTranspose1d(torch.nn.LazyConvTranspose1d, ConvTranspose1d):  # type: ignore[misc]
    """torch.nn.LazyConvTranspose1d that becomes an nhwc_conv.ConvTranspose1d. Takes its arguments."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(torch.nn.LazyConvTranspose2d, ConvTranspose2d):  # type: ignore[misc]
    """torch.nn.LazyConvTranspose2d that becomes an nhwc_conv.ConvTranspose2d. Takes its arguments."""

    cls_to_become = ConvTranspose2d


class LazyChannelsLast(LazyModuleMixin, ChannelsLastLayer):
    """The lazy half of a layer of channels-last tensors; the other half is the layer it becomes."""

    def leave_open(
        self, out_channels: int, bias: bool, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        """Parameters without a shape, for a layer made with no channels and no bias: nothing was drawn for it."""
        check_groups(self.groups, 0, out_channels)
        self.out_channels = out_channels
        self.weight = Uninitialized(device=device, dtype=dtype)
        self.bias = Uninitialized(device=device, dtype=dtype) if bias else None

    def reset_parameters(self) -> None:
        if self.in_channels and not self.has_uninitialized_params():
            super().reset_parameters()

    def initialize_parameters(self, x: Tensor, *args: Any, **kwargs: Any) -> None:
        """Called with the first input: materialises the parameters and draws their initial values."""
        if not self.has_uninitialized_params():
            return
        least = len(self.kernel_size) + 1
        if x.dim() not in (least, least + 1):
            texts.fail(
                texts.RANK, least=least, most=least + 1, op=type(self).__name__, name="x", size=x.shape
            )
        check_groups(self.groups, x.shape[-1], self.out_channels)
        self.in_channels = x.shape[-1]
        weight: Any = self.weight
        bias: Any = self.bias
        weight.materialize(self.weight_shape())
        if bias is not None:
            bias.materialize((self.out_channels,))
        self.reset_parameters()


class LazyConvolution(LazyChannelsLast):
    """What lazy layers of channels-last tensors take."""

    def __init__(
        self,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        algorithm: Algorithm = "auto",
        activation: ActivationArgument = None,
        activation_first: bool = False,
    ) -> None:
        steps = kernel_size, stride, padding, dilation, groups
        finish: Any = dict(activation=activation, activation_first=activation_first)
        super().__init__(0, 0, *steps, False, padding_mode, device, dtype, algorithm=algorithm, **finish)
        self.leave_open(out_channels, bias, device, dtype)


class LazyNHWCConv2d(LazyConvolution, NHWCConv2d):
    """nhwc_conv.NHWCConv2d without `in_channels`, which it takes from its first input."""

    cls_to_become = NHWCConv2d


class LazyNWCConv1d(LazyConvolution, NWCConv1d):
    """nhwc_conv.NWCConv1d without `in_channels`, which it takes from its first input."""

    cls_to_become = NWCConv1d


class LazyTransposed(LazyChannelsLast):
    """What transposed ones take."""

    def __init__(
        self,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        padding_mode: Literal["zeros"] = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        steps = kernel_size, stride, padding, output_padding, groups
        super().__init__(0, 0, *steps, False, dilation, padding_mode, device, dtype)
        self.leave_open(out_channels, bias, device, dtype)


class LazyNHWCConvTranspose2d(LazyTransposed, NHWCConvTranspose2d):
    """nhwc_conv.NHWCConvTranspose2d without `in_channels`, which it takes from its first input."""

    cls_to_become = NHWCConvTranspose2d


class LazyNWCConvTranspose1d(LazyTransposed, NWCConvTranspose1d):
    """nhwc_conv.NWCConvTranspose1d without `in_channels`, which it takes from its first input."""

    cls_to_become = NWCConvTranspose1d
