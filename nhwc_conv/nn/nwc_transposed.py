"""The transposed layer of channels-last signals [N, W, C]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from .._geometry import as_row
from .._ops import nchw
from .._ops.finish import ActivationArgument
from ..functional_1d import conv_transpose1d
from . import exchange
from .drop_in_transposed import ConvTranspose1d
from .hwio import check_transposed
from .nwc import NWCLayer
from .packed_transposed import PrepackableTransposed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from typing_extensions import Self


class NWCConvTranspose1d(PrepackableTransposed, NWCLayer):
    """torch.nn.ConvTranspose1d for signals [N, W, C], with the weight [K, out_channels/groups, in_channels].

    The arguments are those of torch.nn.ConvTranspose1d. `padding` may also be (left, right), "valid", "same" or
    "same_lower" (then the result is `stride` times as long as the input); see nhwc_conv.conv_transpose1d, also for
    `activation`. Initial values and state dicts: as for NWCConv1d.

    Input [N, W, in_channels] or [W, in_channels], output [N, OW, out_channels] or [OW, out_channels], contiguous.

    Raises:
        TypeError, ValueError: as NWCConv1d.
    """

    theirs, drop_in = torch.nn.ConvTranspose1d, ConvTranspose1d
    oihw = False
    shown_unless = dict(padding=(0, 0), output_padding=(0,), dilation=(1,), groups=1, activation=None)

    if TYPE_CHECKING:
        padding_mode: Literal["zeros"]

        def __call__(
            self, x: Tensor, output_size: int | list[int] | tuple[int, ...] | None = None
        ) -> Tensor: ...

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int, ...] | str = 0,
        output_padding: int | tuple[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int] = 1,
        padding_mode: Literal["zeros"] = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        activation: ActivationArgument = None,
    ) -> None:
        super().__init__()
        self.set_finish(activation, False)
        self.set_steps(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self.output_padding: Any = as_row("output_padding", output_padding)
        check_transposed(padding_mode, padding, output_padding, any(self.output_padding))
        self.padding_mode = padding_mode
        self.create_parameters(bias, device, dtype)

    def weight_shape(self) -> tuple[int, ...]:
        return (*self.kernel_size, self.out_channels // self.groups, self.in_channels)

    @classmethod
    def from_torch(cls, conv: torch.nn.ConvTranspose1d) -> Self:
        """As NWCConv1d.from_torch, of a torch.nn.ConvTranspose1d."""
        return exchange.from_torch(cls, conv)

    def to_torch(self) -> torch.nn.ConvTranspose1d:
        """The torch.nn.ConvTranspose1d that computes the same on [N, C, W], with a copy of the parameters.

        Raises:
            ValueError: as NHWCConvTranspose2d.to_torch.
        """
        conv: torch.nn.ConvTranspose1d = exchange.to_torch(self)
        return conv

    @classmethod
    def from_kernel(
        cls,
        kernel: Tensor | ArrayLike,
        bias: Tensor | ArrayLike | None = None,
        *,
        stride: int | tuple[int] = 1,
        padding: int | tuple[int, ...] | str = 0,
        output_padding: int | tuple[int] | None = None,
        dilation: int | tuple[int] = 1,
        transpose_kernel: bool = True,
        activation: ActivationArgument = None,
    ) -> Self:
        """The layer with the weights of a Keras Conv1DTranspose or a Flax ConvTranspose of signals (`kernel`).

        Args:
            kernel: [K, O, C], Keras' and that of a Flax layer with transpose_kernel=True, or, without
                `transpose_kernel`, [K, C, O]; a tensor or anything that NumPy takes; copied.
            bias: [O].
            stride, padding, output_padding, dilation, transpose_kernel, activation: along one axis what they are for
                NHWCConvTranspose2d.from_kernel.

        Raises:
            As for the layer itself; ValueError: shapes that do not fit together.
        """
        steps = stride, padding, output_padding, dilation
        return exchange.from_transposed_kernel(cls, kernel, bias, transpose_kernel, *steps, activation)

    def forward(self, x: Tensor, output_size: int | list[int] | tuple[int, ...] | None = None) -> Tensor:
        """`output_size` is OW, (OW,), or a whole shape of the result; it takes the place of output_padding."""
        self.check_reparametrised()
        if isinstance(output_size, (list, tuple)) and len(output_size) == x.dim():
            output_size = output_size[-2]
        weight, bias = self.weight_and_bias()
        if self._packed is not None and output_size is None and x.dim() > 1:
            with nchw.without_views(x, weight, bias):
                out = self.transposed_by_packing(x.unsqueeze(-3), weight, bias, self.output_padding)
                if out is not None:
                    return out.squeeze(-3)
        return conv_transpose1d(
            x,
            weight,
            bias,
            self.stride,
            self.padding,
            self.output_padding if output_size is None else 0,
            self.groups,
            self.dilation,
            output_size=output_size,
            activation=self.activation,
        )
