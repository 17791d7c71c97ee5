"""Drop-in subclasses of torch.nn.ConvTranspose1d and ConvTranspose2d."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._geometry import EXPLICIT, Sides, as_pair
from .._ops import nchw
from .._ops.transposed import is_short, short_transposed
from ..functional import REFUSED, conv_transpose2d
from .drop_in import as_torch, check_convolution
from .drop_in_1d import as_contiguous_row, as_row, beside
from .limits import Limited
from .packed_transposed import PrepackableTransposed
from .twin import twin

if TYPE_CHECKING:
    from typing_extensions import Self

TRANSPOSED_HWIO = 2, 3, 1, 0  # dimensions of [C, O/groups, KH, KW] in the order of conv_transpose2d


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
    rest = output_padding, groups, dilation
    try:
        # Of other forms torch has a pair alone, neither four sides nor strings.
        sides = padding if isinstance(padding, Sides) else as_pair("padding", padding)
        short = short_transposed(True, input, weight, bias, stride, sides, *rest, EXPLICIT)
        if short is not None:
            return short
        with nchw.without_views(input, weight, bias):
            x, w = nchw.to_nhwc(input), weight.permute(TRANSPOSED_HWIO)
            return nchw.result(conv_transpose2d(x, w, bias, stride, sides, *rest), input, weight)
    except REFUSED:
        # In words that users know, of NCHW shapes.
        F.conv_transpose2d(input, weight, bias, stride, padding, *rest)
        raise


@torch.fx.wrap
def conv_transpose1d_ncl(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    """F.conv_transpose1d likewise: [N, C, L] (or [C, L]) input, weight [C, O/groups, K], a contiguous result."""
    try:
        with nchw.without_views(input, weight, bias):
            sizes = beside(1, stride), beside(0, padding), beside(0, output_padding)
            steps = *sizes, groups, beside(1, dilation)
            row = as_contiguous_row(input) if is_short(input, weight, bias) else as_row(input)
            out = conv_transpose2d_nchw(row, weight.unsqueeze(2), bias, *steps)
            return out.squeeze(-2).contiguous()
    except REFUSED:
        F.conv_transpose1d(input, weight, bias, stride, padding, output_padding, groups, dilation)
        raise


class TransposedDropIn(PrepackableTransposed, Limited):
    """What the drop-ins share: `theirs`, a class of torch.nn, `axes` of its images, and `compute`, its function."""

    theirs: Any = torch.nn.ConvTranspose2d
    axes = 2
    oihw = True
    compute = staticmethod(conv_transpose2d_nchw)

    @classmethod
    def from_torch(cls, module: torch.nn.Module) -> Self:
        """The layer that shares the parameters, the hooks and everything else of `module`, but not its `compile()`.

        Raises:
            ValueError: a `module` that computes something else than the layer of torch.nn of that name.
        """
        check_convolution(module, cls.theirs, cls)
        layer: Any = cls
        twin_of_it: Self = twin(module, layer)
        return twin_of_it

    def to_torch(self) -> Any:
        """The layer of torch.nn that shares the parameters, the hooks and everything else of this one."""
        layer: Any = self
        check_convolution(layer, self.theirs, type(self))
        return as_torch(layer, self.theirs)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """`output_size` is that of the images, or a whole shape of the result; it takes output_padding's place."""
        layer: Any = self
        sizes = layer.stride, layer.padding, layer.kernel_size
        more = layer._output_padding(input, output_size, *sizes, self.axes, layer.dilation)
        weight, bias = self.weight_and_bias()
        if self._packed is not None:
            with nchw.without_views(input, weight, bias):
                images = input if self.axes == 2 else as_contiguous_row(input)
                out = self.transposed_by_packing(images, weight, bias, more)
                if out is not None:
                    return out if self.axes == 2 else out.squeeze(-2)
        steps = layer.stride, layer.padding, more, layer.groups, layer.dilation
        return self.finish.of(self.compute(input, weight, bias, *steps), None)


class ConvTranspose2d(TransposedDropIn, torch.nn.ConvTranspose2d):
    """torch.nn.ConvTranspose2d computed by nhwc_conv.

    Arguments, parameters, initial values, state_dict, shapes, dtypes and memory formats of results are those of
    torch.nn.ConvTranspose2d; input in channels_last is used in place. A packed weight (`prepack`) is not used in graphs
    of torch.compile.

    Raises:
        Exception: whatever torch.nn.ConvTranspose2d raises.
    """

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, output_size: list[int] | None = None) -> Tensor: ...


class ConvTranspose1d(TransposedDropIn, torch.nn.ConvTranspose1d):
    """torch.nn.ConvTranspose1d computed by nhwc_conv.

    Arguments, parameters, initial values, state_dict, shapes and dtypes of results are those of
    torch.nn.ConvTranspose1d; results are contiguous. A packed weight (`prepack`) is not used by
    torch.compile.

    Raises:
        Exception: whatever torch.nn.ConvTranspose1d raises.
    """

    theirs = torch.nn.ConvTranspose1d
    axes = 1
    compute = staticmethod(conv_transpose1d_ncl)

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, output_size: list[int] | None = None) -> Tensor: ...
