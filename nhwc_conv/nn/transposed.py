"""The transposed layers: of NHWC tensors, and the drop-in subclass of torch.nn.ConvTranspose2d."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .._geometry import EXPLICIT, as_pair, as_sides, padding_argument
from .._ops import nchw
from ..functional import conv_transpose2d
from .drop_in import as_torch, check_convolution
from .hwio import HWIOLayer, check_groups
from .limits import Limited
from .twin import twin

if TYPE_CHECKING:
    from typing_extensions import Self

TRANSPOSED_HWIO = 2, 3, 1, 0  # dimensions of [C, O/groups, KH, KW] in the order of conv_transpose2d


class NHWCConvTranspose2d(HWIOLayer):
    """torch.nn.ConvTranspose2d for NHWC tensors, with the weight [KH, KW, out_channels/groups, in_channels].

    The arguments are those of torch.nn.ConvTranspose2d. `padding` may also be (top, bottom, left, right), "valid",
    "same" or "same_lower" (then the result is `stride` times as large as the input); see
    nhwc_conv.conv_transpose2d. The same seed gives the initial values of torch.nn.ConvTranspose2d, permuted; for
    others, see nhwc_conv.nn.init. `.to(memory_format=...)`, which is about NCHW, leaves the weight alone.
    load_state_dict takes state dicts of torch.nn.ConvTranspose2d too; see nhwc_conv.weight_layout. torch.jit.trace
    fixes the size of images.

    Input [N, H, W, in_channels] or [H, W, in_channels], output [N, OH, OW, out_channels] or [OH, OW, out_channels].

    Raises:
        TypeError: an argument that is no integer or integers.
        ValueError: arguments that do not fit together, or unknown strings. When called: weight_norm or spectral_norm
            over rows or columns of kernels (`dim` 0 or 1; those of torch.nn.ConvTranspose2d are 3 and 2 here).
    """

    shown_unless = dict(padding=(0, 0, 0, 0), output_padding=(0, 0), dilation=(1, 1), groups=1)

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
    ) -> None:
        super().__init__()
        if padding_mode != "zeros":
            raise ValueError(
                f"only padding_mode 'zeros' has a transposed convolution, but got padding_mode={padding_mode!r}"
            )
        check_groups(groups, in_channels, out_channels)
        sides, auto_pad = padding_argument(padding)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = as_pair("kernel_size", kernel_size)
        self.stride, self.dilation = as_pair("stride", stride), as_pair("dilation", dilation)
        self.padding = padding.lower() if isinstance(padding, str) else as_sides(sides)
        self.output_padding, self.padding_mode = as_pair("output_padding", output_padding), padding_mode
        if auto_pad != EXPLICIT and any(self.output_padding):
            raise ValueError(
                f"output_padding must be 0 where padding={padding!r}, but got output_padding={output_padding}; "
                f"call the layer with output_size"
            )
        self.create_parameters(bias, device, dtype)

    def weight_shape(self) -> tuple[int, ...]:
        return (*self.kernel_size, self.out_channels // self.groups, self.in_channels)

    def forward(self, x: Tensor, output_size: list[int] | tuple[int, ...] | None = None) -> Tensor:
        """`output_size` is (OH, OW), or a whole shape of the result; it takes the place of output_padding."""
        self.check_reparametrised()
        if output_size is not None and len(output_size) == x.dim():
            output_size = output_size[-3:-1]
        return conv_transpose2d(
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


@torch.fx.wrap
def conv_transpose2d_nchw(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    """F.conv_transpose2d by nhwc_conv.conv_transpose2d: NCHW (or CHW) input, weight [C, O/groups, KH, KW]."""
    arguments = stride, padding, output_padding, groups, dilation
    try:
        with nchw.without_views(input, weight, bias):
            x, w = nchw.to_nhwc(input), weight.permute(TRANSPOSED_HWIO)
            return nchw.result(conv_transpose2d(x, w, bias, *arguments), input, weight)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        F.conv_transpose2d(input, weight, bias, *arguments)  # has the words that users know, of NCHW shapes
        raise


class ConvTranspose2d(Limited, torch.nn.ConvTranspose2d):
    """torch.nn.ConvTranspose2d computed by nhwc_conv.

    Arguments, parameters, initial values, state_dict, shapes, dtypes and memory formats of results are those of
    torch.nn.ConvTranspose2d; input in channels_last is used in place. `prepack` leaves it as it is.

    Raises:
        Whatever torch.nn.ConvTranspose2d raises.
    """

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, output_size: list[int] | None = None) -> Tensor: ...

    @classmethod
    def from_torch(cls, module: torch.nn.ConvTranspose2d) -> Self:
        """The layer that shares the parameters, the hooks and everything else of `module`, but not its `compile()`.

        Raises:
            ValueError: a `module` that computes something else than torch.nn.ConvTranspose2d.
        """
        check_convolution(module, torch.nn.ConvTranspose2d, ConvTranspose2d)
        return twin(module, cls)

    def to_torch(self) -> torch.nn.ConvTranspose2d:
        """The torch.nn.ConvTranspose2d that shares the parameters, the hooks and everything else of this layer."""
        check_convolution(self, torch.nn.ConvTranspose2d, ConvTranspose2d)
        return as_torch(self, torch.nn.ConvTranspose2d)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """`output_size` is (OH, OW), or a whole shape of the result; it takes the place of output_padding."""
        layer: Any = self
        sizes = layer.stride, layer.padding, layer.kernel_size
        more = layer._output_padding(input, output_size, *sizes, 2, layer.dilation)
        steps = layer.stride, layer.padding, more, layer.groups, layer.dilation
        return conv_transpose2d_nchw(input, layer.weight, layer.bias, *steps)
