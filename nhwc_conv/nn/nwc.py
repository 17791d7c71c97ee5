"""The layers of channels-last signals [N, W, C]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .._geometry import EXPLICIT, as_row, padding_argument, same_sides
from .._ops.finish import ActivationArgument, finish_argument
from ..functional import Algorithm, check_algorithm
from ..functional_1d import conv1d, conv_transpose1d
from .drop_in import PaddingMode
from .hwio import ChannelsLastLayer, check_groups, check_padding_mode, check_transposed


class NWCLayer(ChannelsLastLayer):
    """What both have in common: the arguments of a convolution along one axis."""

    if TYPE_CHECKING:
        kernel_size: tuple[int]
        stride: tuple[int]
        padding: str | tuple[int, int]
        dilation: tuple[int]

    def set_steps(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
    ) -> None:
        check_groups(groups, in_channels, out_channels)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        sizes: Any = (
            as_row("kernel_size", kernel_size),
            as_row("stride", stride),
            as_row("dilation", dilation),
        )
        self.kernel_size, self.stride, self.dilation = sizes
        sides, self._auto_pad = padding_argument(padding)
        zeros = as_row("padding", sides, (1, 2))
        self.padding = padding.lower() if isinstance(padding, str) else (zeros[0], zeros[-1])


class NWCConv1d(NWCLayer):
    """torch.nn.Conv1d for signals [N, W, C], with the weight [K, in_channels/groups, out_channels].

    The arguments are those of torch.nn.Conv1d. `padding` may also be (left, right), and strings are those of
    nhwc_conv.conv1d, for any stride. `algorithm`, `activation` and `activation_first`: see there, too; a residual is
    given to the call. The same seed gives the initial values of torch.nn.Conv1d, permuted; for others, see
    nhwc_conv.nn.init. load_state_dict takes state dicts of torch.nn.Conv1d too; where the shape of a weight does not
    tell which it is (K = out_channels), see nhwc_conv.weight_layout. `prepack` leaves it as it is.

    Input [N, W, C] or [W, C], output [N, OW, O] or [OW, O], contiguous.

    Raises:
        TypeError: an argument that is no integer or integers.
        ValueError: arguments that do not fit together, or unknown strings. When called: weight_norm or spectral_norm
            over the positions of kernels (`dim` 0; that of torch.nn.Conv1d is 2 here).
        RuntimeError: more values than an argument has in one dimension.
    """

    shown_unless = dict(
        padding=(0, 0), dilation=(1,), groups=1, padding_mode="zeros", algorithm="auto", activation=None,
        activation_first=False,
    )  # fmt: skip

    if TYPE_CHECKING:

        def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor: ...

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int] = 1,
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
        super().__init__()
        check_padding_mode(padding_mode)
        check_algorithm(algorithm)
        finish_argument(activation, activation_first)
        self.set_steps(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self.padding_mode, self.algorithm = padding_mode, algorithm
        self.activation, self.activation_first = activation, activation_first
        self.create_parameters(bias, device, dtype)

    def weight_shape(self) -> tuple[int, ...]:
        return (*self.kernel_size, self.in_channels // self.groups, self.out_channels)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        self.check_reparametrised()
        padding: str | int | tuple[int, ...] = self.padding
        if self.padding_mode != "zeros":
            x, padding = self._padded(x), 0
        return conv1d(
            x,
            self.weight,
            self.bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            algorithm=self.algorithm,
            activation=self.activation,
            residual=residual,
            activation_first=self.activation_first,
        )

    def _padded(self, x: Tensor) -> Tensor:
        if self._auto_pad == EXPLICIT:
            sides = (0, 0) if isinstance(self.padding, str) else self.padding
        else:
            steps = self.kernel_size[0], self.stride[0], self.dilation[0]
            sides = same_sides(x.shape[-2], *steps, self._auto_pad)
        return F.pad(x.movedim(-1, -2), sides, mode=self.padding_mode).movedim(-2, -1)


class NWCConvTranspose1d(NWCLayer):
    """torch.nn.ConvTranspose1d for signals [N, W, C], with the weight [K, out_channels/groups, in_channels].

    The arguments are those of torch.nn.ConvTranspose1d. `padding` may also be (left, right), "valid", "same" or
    "same_lower" (then the result is `stride` times as long as the input); see nhwc_conv.conv_transpose1d. Initial
    values and state dicts: as for NWCConv1d.

    Input [N, W, in_channels] or [W, in_channels], output [N, OW, out_channels] or [OW, out_channels], contiguous.

    Raises:
        As NWCConv1d.
    """

    shown_unless = dict(padding=(0, 0), output_padding=(0,), dilation=(1,), groups=1)

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
    ) -> None:
        super().__init__()
        self.set_steps(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self.output_padding: Any = as_row("output_padding", output_padding)
        check_transposed(padding_mode, padding, output_padding, any(self.output_padding))
        self.padding_mode = padding_mode
        self.create_parameters(bias, device, dtype)

    def weight_shape(self) -> tuple[int, ...]:
        return (*self.kernel_size, self.out_channels // self.groups, self.in_channels)

    def forward(self, x: Tensor, output_size: int | list[int] | tuple[int, ...] | None = None) -> Tensor:
        """`output_size` is OW, (OW,), or a whole shape of the result; it takes the place of output_padding."""
        self.check_reparametrised()
        if isinstance(output_size, (list, tuple)) and len(output_size) == x.dim():
            output_size = output_size[-2]
        return conv_transpose1d(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding if output_size is None else 0,
            self.groups,
            self.dilation,
            output_size=output_size,
        )
