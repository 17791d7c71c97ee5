"""The transposed layer of NHWC tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .._geometry import as_pair
from .._ops.finish import ActivationArgument
from ..functional import conv_transpose2d
from . import exchange
from .drop_in_transposed import ConvTranspose2d
from .hwio import HWIOLayer, check_transposed
from .packed_transposed import PrepackableTransposed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from typing_extensions import Self


class NHWCConvTranspose2d(PrepackableTransposed, HWIOLayer):
    """torch.nn.ConvTranspose2d for NHWC tensors, with the weight [KH, KW, out_channels/groups, in_channels].

    The arguments are those of torch.nn.ConvTranspose2d. `padding` may also be (top, bottom, left, right), "valid",
    "same" or "same_lower" (then the result is `stride` times as large as the input); see
    nhwc_conv.conv_transpose2d, also for `activation`. The same seed gives the initial values of
    torch.nn.ConvTranspose2d, permuted; for others, see nhwc_conv.nn.init. `.to(memory_format=...)`, which is about
    NCHW, leaves the weight alone. load_state_dict takes state dicts of torch.nn.ConvTranspose2d too; see
    nhwc_conv.weight_layout. torch.jit.trace fixes the size of images.

    Input [N, H, W, in_channels] or [H, W, in_channels], output [N, OH, OW, out_channels] or [OH, OW, out_channels].

    Raises:
        TypeError: an argument that is no integer or integers.
        ValueError: arguments that do not fit together, or unknown strings. When called: weight_norm or spectral_norm
            over rows or columns of kernels (`dim` 0 or 1; those of torch.nn.ConvTranspose2d are 3 and 2 here).
    """

    theirs, drop_in = torch.nn.ConvTranspose2d, ConvTranspose2d
    oihw = False
    shown_unless = dict(
        padding=(0, 0, 0, 0), output_padding=(0, 0), dilation=(1, 1), groups=1, activation=None
    )

    if TYPE_CHECKING:
        output_padding: tuple[int, int]
        padding_mode: Literal["zeros"]

        def __call__(self, x: Tensor, output_size: list[int] | tuple[int, ...] | None = None) -> Tensor: ...

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, ...] | str = 0,
        output_padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        padding_mode: Literal["zeros"] = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        activation: ActivationArgument = None,
    ) -> None:
        super().__init__()
        self.set_finish(activation, False)
        self.set_steps(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self.output_padding, self.padding_mode = as_pair("output_padding", output_padding), padding_mode
        check_transposed(padding_mode, padding, output_padding, any(self.output_padding))
        self.create_parameters(bias, device, dtype)

    def weight_shape(self) -> tuple[int, ...]:
        return (*self.kernel_size, self.out_channels // self.groups, self.in_channels)

    @classmethod
    def from_torch(cls, conv: torch.nn.ConvTranspose2d) -> Self:
        """The layer that computes on NHWC tensors what `conv` does on NCHW ones, with a copy of its parameters.

        What is kept of `conv` is said at NHWCConv2d.from_torch.

        Raises:
            ValueError: `conv` is no torch.nn.ConvTranspose2d, or a lazy one without a shape yet.
        """
        return exchange.from_torch(cls, conv)

    def to_torch(self) -> torch.nn.ConvTranspose2d:
        """The torch.nn.ConvTranspose2d that computes the same on NCHW tensors, with a copy of the parameters.

        What strings and opposite sides that differ take off becomes `padding` and `output_padding`.

        Raises:
            ValueError: this layer has an activation; or torch.nn.ConvTranspose2d has no such padding: it cannot take
                off more at the bottom or the right than at the top or the left, nor less by as much as stride and
                dilation.
        """
        conv: torch.nn.ConvTranspose2d = exchange.to_torch(self)
        return conv

    @classmethod
    def from_kernel(
        cls,
        kernel: Tensor | ArrayLike,
        bias: Tensor | ArrayLike | None = None,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, ...] | str = 0,
        output_padding: int | tuple[int, int] | None = None,
        dilation: int | tuple[int, int] = 1,
        transpose_kernel: bool = True,
        activation: ActivationArgument = None,
    ) -> Self:
        """The layer with the weights of a Keras Conv2DTranspose or a Flax ConvTranspose (`kernel`).

        Args:
            kernel: [KH, KW, O, C], Keras' and that of a Flax layer with transpose_kernel=True, or, without
                `transpose_kernel`, [KH, KW, C, O]; a tensor or anything that NumPy takes; copied.
            bias: [O].
            stride, dilation: Keras' strides and dilation_rate, Flax's strides and kernel_dilation.
            padding: Keras' and Flax's "same" and "valid", in any case of letters, or what this layer takes. With
                k = dilation * (KH - 1) + 1 for the extent of the kernel, "same" has H * stride rows, and of all rows of
                the result max(k - stride, 0) are left out, the odd one at the bottom; "valid" has
                H * stride + max(k - stride, 0), where this layer's has (H - 1) * stride + k: `output_padding` adds
                stride - k zeros to those of a shorter kernel. Flax's ((top, bottom), (left, right)) are zeros
                around its dilated input; here they are (k - 1 - top, k - 1 - bottom, ...) of each axis' k.
            output_padding: Keras'. None leaves the size to `padding`; with it "same" has
                (H - 1) * stride + k % 2 + output_padding rows and "valid" (H - 1) * stride + k + output_padding.
            transpose_kernel: Flax's argument of that name; its default, False, is not the one here. Kernels
                without it are not flipped as torch's are: they are flipped here.
            activation: what this layer takes, such as "relu" for Keras' `activation="relu"`.

        Raises:
            TypeError: an argument that is no integer or integers.
            ValueError: shapes that do not fit together, or unknown strings.
        """
        steps = stride, padding, output_padding, dilation
        return exchange.from_transposed_kernel(cls, kernel, bias, transpose_kernel, *steps, activation)

    def forward(self, x: Tensor, output_size: list[int] | tuple[int, ...] | None = None) -> Tensor:
        """`output_size` is (OH, OW), or a whole shape of the result; it takes the place of output_padding."""
        self.check_reparametrised()
        if output_size is not None and len(output_size) == x.dim():
            output_size = output_size[-3:-1]
        weight, bias = self.weight_and_bias()
        if self._packed is not None and output_size is None:
            out = self.transposed_by_packing(x, weight, bias, self.output_padding)
            if out is not None:
                return out
        return conv_transpose2d(
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
