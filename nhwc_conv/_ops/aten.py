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

from .._geometry import Geometry
from .checked import checked_forward, checked_input, checked_weight
from .schema import library


def aten_conv2d(x: Tensor, w: Tensor, bias: Tensor | None = None, *geometry: Any) -> Tensor:
    g = checked_forward(x, w, bias, *geometry)
    image, symmetric = _image(x, g)
    kernel = w.permute(3, 2, 0, 1).contiguous()
    return _nhwc(F.conv2d(image, kernel, bias, g.stride, symmetric, g.dilation, g.groups), g.out_shape)


def aten_conv2d_input(grad: Tensor, w: Tensor, input_size: Sequence[int], *geometry: Any) -> Tensor:
    g = checked_input(grad, w, input_size, *geometry)
    top, bottom, left, right = g.padding
    # The transposed convolution reaches to the last tap of the last output; the padded image may go on.
    rest = (
        top + g.H + bottom - ((g.OH - 1) * g.stride[0] + (g.KH - 1) * g.dilation[0] + 1),
        left + g.W + right - ((g.OW - 1) * g.stride[1] + (g.KW - 1) * g.dilation[1] + 1),
    )
    image = F.conv_transpose2d(
        _nchw(grad, g.N, g.OH, g.OW, g.O),
        w.permute(3, 2, 0, 1).contiguous(),
        stride=g.stride, output_padding=rest, groups=g.groups, dilation=g.dilation,
    )  # fmt: skip
    return _nhwc(image[:, :, top : top + g.H, left : left + g.W], g.x_shape)


def aten_conv2d_weight(grad: Tensor, x: Tensor, kernel_size: Sequence[int], *geometry: Any) -> Tensor:
    g = checked_weight(grad, x, kernel_size, *geometry)
    image, symmetric = _image(x, g)

    def gradient(grad: Tensor, image: Tensor) -> Tensor:
        like = image.new_empty(1).expand(g.O, g.C // g.groups, g.KH, g.KW)
        only_weight = [False, True, False]
        return torch.ops.aten.convolution_backward(
            grad, image, like, None, g.stride, symmetric, g.dilation, False, [0, 0], g.groups, only_weight
        )[1]

    grad = _nchw(grad, g.N, g.OH, g.OW, g.O)
    if image.is_complex():  # aten has none for those; the gradient is bilinear
        parts = [[gradient(a, b) for b in (image.real, image.imag)] for a in (grad.real, grad.imag)]
        weight = torch.complex(parts[0][0] - parts[1][1], parts[0][1] + parts[1][0])
    else:
        weight = gradient(grad, image)
    return result(weight.permute(2, 3, 1, 0), g.w_shape)


def _image(x: Tensor, g: Geometry) -> tuple[Tensor, tuple[int, int]]:
    """The NCHW view of x, and the padding left to aten."""
    top, bottom, left, right = g.padding
    image = _nchw(x, g.N, g.H, g.W, g.C)
    if top == bottom and left == right:
        return image, (top, left)
    return F.pad(image, (left, right, top, bottom)), (0, 0)


def _nchw(t: Tensor, *shape: int) -> Tensor:
    return t.reshape(shape).permute(0, 3, 1, 2)


def _nhwc(image: Tensor, shape: Sequence[int]) -> Tensor:
    return result(image.permute(0, 2, 3, 1), shape)


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
    library.impl(_name, _function, "CompositeExplicitAutograd")
