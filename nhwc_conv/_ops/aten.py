"""The ops by aten convolution: for other devices, and on CPU for dtypes without kernels of our own.

Images become NCHW views in channels_last; weights are made contiguous OIHW. Padding of four different sides,
which aten does not know, is added to the image first and cropped from its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._geometry import Geometry, extent, known_ints
from .checked import checked_forward, checked_input, checked_weight
from .schema import completed, library
from .weight_order import HWIO, OIHW


def aten_conv2d(x: Tensor, w: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    g = checked_forward(x, w, bias, *geometry)
    return result(convolution(x, w, bias, g), g.out_shape)


def aten_conv2d_input(grad: Tensor, w: Tensor, input_size: Sequence[int], *geometry: Any) -> Tensor:
    g = checked_input(grad, w, input_size, *geometry)
    return result(input_gradient(grad, w, g), g.x_shape)


def aten_conv2d_weight(grad: Tensor, x: Tensor, kernel_size: Sequence[int], *rest: Any) -> Tensor:
    g, dtype = checked_weight(grad, x, kernel_size, *rest)
    image, symmetric = padded(x, g)

    def gradient(grad: Tensor, image: Tensor) -> Tensor:
        like = image.new_empty(1).expand(g.O, g.C // g.groups, g.KH, g.KW)
        only_weight = [False, True, False]
        return torch.ops.aten.convolution_backward(
            grad, image, like, None, g.stride, symmetric, g.dilation, False, [0, 0], g.groups, only_weight
        )[1]

    grad = nchw(grad)
    if image.is_complex():  # aten has none for those; the gradient is bilinear
        parts = [[gradient(a, b) for b in (image.real, image.imag)] for a in (grad.real, grad.imag)]
        weight = torch.complex(parts[0][0] - parts[1][1], parts[0][1] + parts[1][0])
    else:
        weight = gradient(grad, image)
    # aten has its sums in the dtype of x alone.
    return result(weight.permute(HWIO).to(dtype), g.w_shape)


def convolution(x: Tensor, w: Tensor, bias: Tensor | None, g: Geometry) -> Tensor:
    """The op conv2d of the geometry `g`, as a view that is not contiguous."""
    image, symmetric = padded(x, g)
    kernel = w.permute(OIHW).contiguous()
    return nhwc(F.conv2d(image, kernel, bias, g.stride, symmetric, g.dilation, g.groups), x.dim())


def input_gradient(grad: Tensor, w: Tensor, g: Geometry) -> Tensor:
    """The op conv2d_input of the geometry `g`, as a view that is not contiguous."""
    top, bottom, left, right = g.padding
    # The transposed convolution reaches to the last tap of the last output; the padded image may go on.
    rest = (
        top + g.H + bottom - ((grad.shape[-3] - 1) * g.stride[0] + extent(g.KH, g.dilation[0])),
        left + g.W + right - ((grad.shape[-2] - 1) * g.stride[1] + extent(g.KW, g.dilation[1])),
    )
    known = known_ints(rest)
    image = F.conv_transpose2d(
        nchw(grad),
        w.permute(OIHW).contiguous(),
        stride=g.stride, output_padding=known or 0, groups=g.groups, dilation=g.dilation,
    )  # fmt: skip
    if known is None:
        image = F.pad(image, (0, rest[1], 0, rest[0]))
    return nhwc(image[:, :, top : top + g.H, left : left + g.W], grad.dim())


def padded(x: Tensor, g: Geometry) -> tuple[Tensor, tuple[int, int]]:
    """The NCHW view of x, and the padding left to aten."""
    top, bottom, left, right = known_ints(g.padding) or g.padding
    image = nchw(x)
    # Not by a comparison of symbolic ints, which would hold for the sizes at hand alone.
    if type(top) is int and top == bottom and left == right:
        return image, (top, left)
    return F.pad(image, (left, right, top, bottom)), (0, 0)


def nchw(t: Tensor) -> Tensor:
    return (t if t.dim() == 4 else t.unsqueeze(0)).permute(0, 3, 1, 2)


def nhwc(image: Tensor, dim: int) -> Tensor:
    """The reverse, for images that had `dim` dimensions."""
    t = image.permute(0, 2, 3, 1)
    return t if dim == 4 else t.squeeze(0)


def result(t: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor of this op's making as a contiguous one of `shape`, and no view to autograd."""
    # By way of one dimension: the strides of dimensions of length 1 are free in what contiguous() lets pass.
    # Autograd forbids to change a view that an op returns in place (relu_); nobody holds the base of this one.
    with torch._C._AutoDispatchBelowADInplaceOrView():
        return t.contiguous().view(-1).view(shape)


for _name, _function in (
    ("_aten_conv2d", aten_conv2d),
    ("_aten_conv2d_input", aten_conv2d_input),
    ("_aten_conv2d_weight", aten_conv2d_weight),
):
    library.impl(_name, completed(_name, _function), "CompositeExplicitAutograd")
