"""The layer of channels-last signals [N, W, C], and what it has in common with the transposed one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._geometry import EXPLICIT, as_row, same_sides
from .._ops import is_recordable, nchw
from .._ops.finish import ActivationArgument
from ..functional import Algorithm, check_algorithm
from ..functional_1d import conv1d, row_steps
from . import exchange
from .drop_in import PaddingMode
from .drop_in_1d import Conv1d
from .hwio import ChannelsLastLayer, check_padding_mode
from .nhwc import Options
from .packed import Prepackable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from typing_extensions import Self, Unpack


def zeros_of_row(padding: Any) -> tuple[int, int]:
    """(left, right) of an int, (n,) or (left, right)."""
    zeros = as_row("padding", padding, (1, 2))
    return zeros[0], zeros[-1]


class NWCLayer(ChannelsLastLayer):
    """What both have in common: their arguments are those of a convolution along one axis."""

    axes = 1
    as_steps, as_zeros = staticmethod(as_row), staticmethod(zeros_of_row)

    if TYPE_CHECKING:
        kernel_size: tuple[int]
        stride: tuple[int]
        padding: str | tuple[int, int]
        dilation: tuple[int]


class NWCConv1d(Prepackable, NWCLayer):
    """torch.nn.Conv1d for signals [N, W, C], with the weight [K, in_channels/groups, out_channels].

    The arguments are those of torch.nn.Conv1d. `padding` may also be (left, right), and strings are those of
    nhwc_conv.conv1d, for any stride. `algorithm`, `activation` and `activation_first`: see there, too; a residual is
    given to the call. The same seed gives the initial values of torch.nn.Conv1d, permuted; for others, see
    nhwc_conv.nn.init. load_state_dict takes state dicts of torch.nn.Conv1d too; where the shape of a weight does not
    tell which it is (K = out_channels), see nhwc_conv.weight_layout. A packed weight (`prepack`) is not used in graphs
    of torch.compile.

    Input [N, W, C] or [W, C], output [N, OW, O] or [OW, O], contiguous.

    Raises:
        TypeError: an argument that is no integer or integers.
        ValueError: arguments that do not fit together, or unknown strings. When called: weight_norm or spectral_norm
            over the positions of kernels (`dim` 0; that of torch.nn.Conv1d is 2 here).
        RuntimeError: more values than an argument has in one dimension.
    """

    theirs, drop_in = torch.nn.Conv1d, Conv1d
    oihw = False
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
        self.set_finish(activation, activation_first)
        self.set_steps(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self.padding_mode, self.algorithm = padding_mode, algorithm
        self.create_parameters(bias, device, dtype)

    def weight_shape(self) -> tuple[int, ...]:
        return (*self.kernel_size, self.in_channels // self.groups, self.out_channels)

    @classmethod
    def from_torch(cls, conv: torch.nn.Conv1d, algorithm: Algorithm = "auto") -> Self:
        """The layer that computes on [N, W, C] what `conv` does on [N, C, W], with a copy of its parameters.

        What is kept of `conv` is said at NHWCConv2d.from_torch.

        Raises:
            ValueError: `conv` is no torch.nn.Conv1d, or a lazy one without a shape yet.
        """
        return exchange.from_torch(cls, conv, algorithm=algorithm)

    def to_torch(self) -> torch.nn.Conv1d:
        """The torch.nn.Conv1d that computes the same on [N, C, W], with a copy of the parameters.

        Raises:
            ValueError: as NHWCConv2d.to_torch.
        """
        conv: torch.nn.Conv1d = exchange.to_torch(self)
        return conv

    @classmethod
    def from_kernel(
        cls,
        kernel: Tensor | ArrayLike,
        bias: Tensor | ArrayLike | None = None,
        *,
        stride: int | tuple[int] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        **options: Unpack[Options],
    ) -> Self:
        """The layer with the weights of a Keras Conv1D or a Flax Conv of signals (`kernel`), as they are.

        Args:
            kernel: [K, C/groups, O], a tensor or anything that NumPy takes; copied.
            bias: [O].
            stride, dilation, groups, options: as for NHWCConv2d.from_kernel.
            padding: what this layer takes, or Keras' and Flax's "causal", in any case of letters, which is
                (dilation * (K - 1), 0). Flax's ((left, right),) is (left, right).

        Raises:
            As for the layer itself; ValueError: shapes that do not fit together.
        """
        steps = dict(stride=stride, padding=padding, dilation=dilation)
        return exchange.from_kernel(cls, kernel, bias, groups, **steps, **options)

    @classmethod
    def from_depthwise_kernel(
        cls,
        kernel: Tensor | ArrayLike,
        bias: Tensor | ArrayLike | None = None,
        *,
        stride: int | tuple[int] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int] = 1,
        **options: Unpack[Options],
    ) -> Self:
        """The layer with the weights of a Keras DepthwiseConv1D: `kernel` is [K, C, M], M its depth_multiplier.

        That is [K, 1, C*M] with C groups, without a transposition. The rest as for `from_kernel`.
        """
        steps = dict(stride=stride, padding=padding, dilation=dilation)
        return exchange.from_depthwise_kernel(cls, kernel, bias, **steps, **options)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        self.check_reparametrised()
        padding: str | int | tuple[int, ...] = self.padding
        if self.padding_mode != "zeros":
            x, padding = self._padded(x), 0
        weight, bias = self.weight_and_bias()
        if (
            self._packed is not None
            and is_recordable(x, weight, bias)
            and x.dim() > 1
            and (residual is None or residual.dim() > 1)
        ):
            steps, *_ = row_steps(self.stride, padding, self.dilation, self.groups)
            with nchw.without_views(x, weight, bias, residual):
                added = None if residual is None else residual.unsqueeze(-3)
                out = self.convolve_packed(x.unsqueeze(-3), weight, bias, steps, added)
                if out is not None:
                    return out.squeeze(-3)
        return conv1d(
            x,
            weight,
            bias,
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
