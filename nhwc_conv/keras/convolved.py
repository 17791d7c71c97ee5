"""What takes the place of convolutions, and of Dense layers of pixels, in the graph of a prepared model.

Signals are images of one row, and so are their kernels.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .._geometry import SAME, Sides, extent
from ..nn import Conv2d, ConvTranspose2d
from ..nn.exchange import padding_of_keras, same_of_transposed, set_parameters
from .activations import activated
from .values import Maker, Value, optional, weights

Steps = tuple[bool, tuple[int, int], tuple[int, int]]  # whether padding is "same", strides, dilation_rate
POINTWISE: Steps = False, (1, 1), (1, 1)


def in_images(along: Any, beside: int = 1) -> tuple[int, int]:
    """What a layer has for both axes of images, or for the only one of signals."""
    first, second = (beside, *along) if len(along) == 1 else along
    return first, second


def kernel_of(variable: Any) -> Tensor:
    kernel = weights(variable)
    return kernel[None] if kernel.dim() == 3 else kernel


def steps_of(layer: Any) -> Steps:
    return layer.padding == "same", in_images(layer.strides), in_images(layer.dilation_rate)


def convolved(
    make: Maker, name: str, value: Value, kernel: Tensor, steps: Steps, groups: int, bias: Any
) -> Value:
    """By `kernel` [KH, KW, C/groups, O]."""
    KH, KW, C, O = kernel.shape  # noqa: E741
    same, stride, dilation = steps
    images = make.images(value, zeros=same)  # without "same" the kernel does them
    left, right, top, bottom = value.zeros
    padding: Any = "same" if same else (top, bottom, left, right) if any(value.zeros) else 0
    module: Any = Conv2d(C * groups, O, (KH, KW), 1, padding, 1, groups, bias is not None, device="meta")
    module.stride, module.dilation = stride, dilation  # torch.nn takes no "same" with strides
    set_parameters(module, kernel.permute(3, 2, 0, 1), optional(bias))
    return Value(value.rank, images=make.module(name, module, images))


def conv(make: Maker, layer: Any, value: Value) -> Value | None:
    if layer.data_format != "channels_last":
        return None
    kernel = kernel_of(layer.kernel)
    if layer.padding == "causal":
        value = make.padded(value, (extent(kernel.shape[1], layer.dilation_rate[0]) - 1, 0, 0, 0))
    out = convolved(make, layer.name, value, kernel, steps_of(layer), layer.groups, layer.bias)
    return activated(make, out, layer.activation)


def depthwise(kernel: Tensor) -> tuple[Tensor, int]:
    KH, KW, C, M = kernel.shape
    return kernel.reshape(KH, KW, 1, C * M), C


def depthwise_conv(make: Maker, layer: Any, value: Value) -> Value | None:
    if layer.data_format != "channels_last":
        return None
    kernel, groups = depthwise(kernel_of(layer.kernel))
    out = convolved(make, layer.name, value, kernel, steps_of(layer), groups, layer.bias)
    return activated(make, out, layer.activation)


def separable_conv(make: Maker, layer: Any, value: Value) -> Value | None:
    if layer.data_format != "channels_last":
        return None
    kernel, groups = depthwise(kernel_of(layer.depthwise_kernel))
    inner = convolved(make, f"{layer.name}_depthwise", value, kernel, steps_of(layer), groups, None)
    out = convolved(make, layer.name, inner, kernel_of(layer.pointwise_kernel), POINTWISE, 1, layer.bias)
    return activated(make, out, layer.activation)


def sides_of_transposed(layer: Any, taps: tuple[int, int]) -> tuple[Sides, tuple[int, int]]:
    """What is left out around the result, and its output_padding."""
    more = layer.output_padding
    if more is not None:
        more = in_images((more,) * layer.rank if isinstance(more, int) else more, 0)
    strides, dilation = in_images(layer.strides), in_images(layer.dilation_rate)
    extents = tuple(map(extent, taps, dilation))
    sides, gaps = padding_of_keras(layer.padding, more, extents, strides)
    if sides == "valid":
        sides = (0,) * 4
    elif sides == "same":
        (down, across), gaps = same_of_transposed(list(zip(taps, strides, dilation, strict=True)), SAME)
        sides = *down, *across
    first, second = gaps
    return Sides(*sides), (first, second)


def conv_transpose(make: Maker, layer: Any, value: Value) -> Value | None:
    if layer.data_format != "channels_last":
        return None
    kernel, (_, stride, dilation) = kernel_of(layer.kernel), steps_of(layer)
    KH, KW, O, C = kernel.shape  # noqa: E741
    sides, more = sides_of_transposed(layer, (KH, KW))
    biased = layer.bias is not None
    module: Any = ConvTranspose2d(C, O, (KH, KW), stride, 0, more, 1, biased, dilation, device="meta")
    module.padding = sides
    set_parameters(module, kernel.permute(3, 2, 0, 1), optional(layer.bias))
    out = Value(value.rank, images=make.module(layer.name, module, make.images(value)))
    return activated(make, out, layer.activation)


def dense(make: Maker, layer: Any, value: Value) -> Value:
    kernel, bias = weights(layer.kernel), layer.bias
    if value.rank == 4 or (value.rank == 3 and value.images is not None):  # every pixel by itself
        out = convolved(make, layer.name, value, kernel[None, None], POINTWISE, 1, bias)
    else:
        inputs, outputs = kernel.shape
        module = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
        set_parameters(module, kernel.T, optional(bias))
        out = Value(value.rank, make.module(layer.name, module, make.plain(value)))
    return activated(make, out, layer.activation)
