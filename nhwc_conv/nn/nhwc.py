"""The layer of NHWC tensors and HWIO weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._geometry import EXPLICIT, padding_argument, same_sides
from .._ops import ops
from .._ops.finish import ActivationArgument
from ..functional import Algorithm, check_algorithm, conv2d
from . import exchange
from .drop_in import Conv2d, PaddingMode
from .hwio import HWIOLayer, check_padding_mode
from .packed import Prepackable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from typing_extensions import Self, Unpack


class Options(TypedDict, total=False):
    """What from_kernel passes on."""

    padding_mode: PaddingMode
    algorithm: Algorithm
    activation: ActivationArgument
    activation_first: bool


class NHWCConv2d(Prepackable, HWIOLayer):
    """torch.nn.Conv2d for NHWC tensors, with an HWIO weight: [KH, KW, in_channels/groups, out_channels].

    The arguments are those of torch.nn.Conv2d. `padding` may also be (top, bottom, left, right), and strings
    are those of nhwc_conv.conv2d, for any stride. `algorithm`, `activation` and `activation_first`: see there, too;
    a residual is given to the call. The same seed gives the
    initial values of torch.nn.Conv2d, permuted; for others, see nhwc_conv.nn.init. `.to(memory_format=...)`, which is
    about NCHW, leaves the weight alone. load_state_dict takes state dicts of torch.nn.Conv2d too; where the shape of
    a weight does not tell which it is, see nhwc_conv.weight_layout.

    Input [N, H, W, C] or [H, W, C], output [N, OH, OW, O] or [OH, OW, O], contiguous.

    Raises:
        TypeError: an argument that is no integer or integers.
        ValueError: arguments that do not fit together, or unknown strings. When called: weight_norm or spectral_norm
            over rows or columns of kernels (`dim` 0 or 1; that of torch.nn.Conv2d is 3 here).
    """

    theirs, drop_in = nn.Conv2d, Conv2d
    oihw = False
    shown_unless = dict(
        padding=(0, 0, 0, 0), dilation=(1, 1), groups=1, padding_mode="zeros", algorithm="auto", activation=None,
        activation_first=False,
    )  # fmt: skip

    if TYPE_CHECKING:
        padding_mode: PaddingMode

        def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor: ...

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, int] = 1,
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
        self.set_steps(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self.padding_mode, self.algorithm = padding_mode, algorithm
        self.set_finish(activation, activation_first)
        self.create_parameters(bias, device, dtype)

    def weight_shape(self) -> tuple[int, ...]:
        return (*self.kernel_size, self.in_channels // self.groups, self.out_channels)

    @classmethod
    def from_torch(cls, conv: nn.Conv2d, algorithm: Algorithm = "auto") -> Self:
        """The layer that computes on NHWC tensors what `conv` does on NCHW ones, with a copy of its parameters.

        dtype, device, requires_grad and the training flag are kept; hooks and parametrisations, which see OIHW
        weights, are not: a parametrised layer gives the weight that it has now.

        Raises:
            ValueError: `conv` is no torch.nn.Conv2d, or a lazy one without a shape yet.
        """
        return exchange.from_torch(cls, conv, algorithm=algorithm)

    def to_torch(self) -> nn.Conv2d:
        """The torch.nn.Conv2d that computes the same on NCHW tensors, with a copy of the parameters.

        Raises:
            ValueError: torch.nn.Conv2d has no such padding, "same" with a stride, or opposite sides that differ; or it
                has no activation, and this layer has one.
        """
        conv: nn.Conv2d = exchange.to_torch(self)
        return conv

    @classmethod
    def from_kernel(
        cls,
        kernel: Tensor | ArrayLike,
        bias: Tensor | ArrayLike | None = None,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        **options: Unpack[Options],
    ) -> Self:
        """The layer with the weights of a Keras Conv2D (`kernel`) or Flax Conv (`kernel`), as they are.

        Args:
            kernel: [KH, KW, C/groups, O], a tensor or anything that NumPy takes; copied.
            bias: [O].
            stride, padding, dilation, groups: Keras' strides, padding, dilation_rate, groups; Flax's strides,
                padding ("SAME", "VALID", or ((top, bottom), (left, right)) as (top, bottom, left, right)),
                kernel_dilation, feature_group_count.
            options: `padding_mode`, `algorithm`, `activation`, `activation_first`.

        Raises:
            ValueError: shapes that do not fit together, or unknown strings.
        """
        steps = dict(stride=stride, padding=padding, dilation=dilation)
        return exchange.from_kernel(cls, kernel, bias, groups, **steps, **options)

    @classmethod
    def from_depthwise_kernel(
        cls,
        kernel: Tensor | ArrayLike,
        bias: Tensor | ArrayLike | None = None,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, int] = 1,
        **options: Unpack[Options],
    ) -> Self:
        """The layer with the weights of a Keras DepthwiseConv2D: `kernel` is [KH, KW, C, M], M its depth_multiplier.

        That is [KH, KW, 1, C*M] with C groups, without a transposition. The rest as for `from_kernel`.
        """
        steps = dict(stride=stride, padding=padding, dilation=dilation)
        return exchange.from_depthwise_kernel(cls, kernel, bias, **steps, **options)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        self.check_reparametrised()
        padding: str | int | tuple[int, ...] = self.padding
        if self.padding_mode != "zeros":
            x, padding = self._padded(x), 0
        weight, bias = self.weight_and_bias()
        if self._packed is not None:
            steps = self.stride, padding, self.dilation, self.groups
            out = self.convolve_packed(x, weight, bias, steps, residual)
            if out is not None:
                return out
            packing = self.packing_in_graph(x, weight, bias, residual)
            if packing is not None:
                sides, auto_pad = padding_argument(padding)
                packed, size, *fallback = packing
                geometry = self.stride, sides, self.dilation, self.groups, auto_pad
                rest = *fallback, *self.finish_in_graph(residual)
                return ops.conv2d_packed(x, packed, size, bias, *geometry, *rest)
        return conv2d(
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
            top, bottom, left, right = (0, 0, 0, 0) if isinstance(self.padding, str) else self.padding
        else:
            size = x.shape[-3], x.shape[-2]  # one by one: torch.fx cannot take a shape apart
            (top, bottom), (left, right) = (
                same_sides(*axis, self._auto_pad)
                for axis in zip(size, self.kernel_size, self.stride, self.dilation, strict=True)
            )
        image = F.pad(x.movedim(-1, -3), (left, right, top, bottom), mode=self.padding_mode)
        return image.movedim(-3, -1)
