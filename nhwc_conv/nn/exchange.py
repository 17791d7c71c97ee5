"""NHWC layers from and to what others hold: the layers of torch.nn, and the kernels of Keras and Flax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .._geometry import EXPLICIT, as_pair, as_sides, extent, padding_argument, same_sides
from .drop_in import Conv2d, check_convolution

if TYPE_CHECKING:
    from ..functional import Algorithm
    from .hwio import HWIOLayer
    from .nhwc import NHWCConv2d
    from .transposed import NHWCConvTranspose2d

L = TypeVar("L", bound="NHWCConv2d")
T = TypeVar("T", bound="NHWCConvTranspose2d")
M = TypeVar("M", bound=nn.Module)


def from_torch(cls: type[L], conv: nn.Conv2d, algorithm: Algorithm) -> L:
    check_convolution(conv, nn.Conv2d, Conv2d)
    given: Any = conv  # torch.nn.Conv2d does not tell that its sizes are pairs
    layer = cls(
        given.in_channels, given.out_channels, given.kernel_size, given.stride, given.padding, given.dilation,
        given.groups, given.bias is not None, given.padding_mode, device="meta", algorithm=algorithm,
    )  # fmt: skip
    return with_state_of(conv, layer, (2, 3, 1, 0))


def to_torch(layer: NHWCConv2d) -> nn.Conv2d:
    if layer.activation is not None:
        raise ValueError(f"torch.nn.Conv2d has no activation, but activation={layer.activation!r}")
    conv = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, torch_padding(layer), layer.dilation,
        layer.groups, layer.bias is not None, layer.padding_mode, device="meta",
    )  # fmt: skip
    return with_state_of(layer, conv, (3, 2, 0, 1))


def from_transposed(cls: type[T], conv: nn.ConvTranspose2d) -> T:
    given: Any = conv
    layer = cls(
        given.in_channels, given.out_channels, given.kernel_size, given.stride, given.padding, given.output_padding,
        given.groups, given.bias is not None, given.dilation, given.padding_mode, device="meta",
    )  # fmt: skip
    return with_state_of(conv, layer, (2, 3, 1, 0))


def to_transposed(layer: NHWCConvTranspose2d) -> nn.ConvTranspose2d:
    padding, output_padding = transposed_padding(layer)
    conv = nn.ConvTranspose2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, padding, output_padding, layer.groups,
        layer.bias is not None, layer.dilation, layer.padding_mode, device="meta",
    )  # fmt: skip
    return with_state_of(layer, conv, (3, 2, 0, 1))


def with_state_of(
    source: nn.Conv2d | nn.ConvTranspose2d | HWIOLayer, module: Any, order: tuple[int, ...]
) -> Any:
    """`module` with copies of the parameters of `source`, the weight permuted, and with its training flag."""
    weight, bias = source.weight, source.bias  # of a parametrised layer: what it computes with now
    set_parameters(module, weight.detach().permute(order), bias)
    module.weight.requires_grad_(weight.requires_grad)
    if bias is not None:
        module.bias.requires_grad_(bias.requires_grad)
    return module.train(source.training)


def torch_padding(layer: NHWCConv2d) -> str | int | tuple[int, int]:
    """The `padding` with which torch.nn.Conv2d pads as `layer` does, or ValueError."""
    if layer.padding == "valid":
        return 0
    if isinstance(layer.padding, str):
        odd = any(d * (k - 1) % 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        if layer.stride == (1, 1) and not (layer.padding == "same_lower" and odd):
            return "same"
        raise ValueError(
            f"torch.nn.Conv2d has no padding={layer.padding!r} for kernel_size={layer.kernel_size}, "
            f"stride={layer.stride}, dilation={layer.dilation}"
        )
    top, bottom, left, right = layer.padding
    if top != bottom or left != right:
        raise ValueError(f"torch.nn.Conv2d pads opposite sides alike, but padding={layer.padding}")
    return top, left


def transposed_padding(layer: NHWCConvTranspose2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """The `padding` and `output_padding` with which torch.nn.ConvTranspose2d does as `layer`, or ValueError."""
    sides, auto_pad = padding_argument(layer.padding)
    axes = list(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True))
    rows, columns = layer.output_padding
    if auto_pad == EXPLICIT:
        top, bottom, left, right = as_sides(sides)
    else:  # the same for every size: as for one pixel, which becomes `stride` of them
        (top, bottom), (left, right) = (same_sides(s, k, s, d, auto_pad) for k, s, d in axes)
        rows, columns = (max(s - extent(k, d), 0) for k, s, d in axes)
    # torch takes as much off at the bottom as at the top, and gives it back.
    more = rows + top - bottom, columns + left - right
    if all(0 <= n < max(s, d) for n, (_, s, d) in zip(more, axes, strict=True)):
        return (top, left), more
    raise ValueError(
        f"torch.nn.ConvTranspose2d has no padding={layer.padding!r} for kernel_size={layer.kernel_size}, "
        f"stride={layer.stride}, dilation={layer.dilation}, output_padding={layer.output_padding}"
    )


def from_transposed_kernel(
    cls: type[T],
    kernel: Any,
    bias: Any,
    transpose_kernel: bool,
    stride: Any,
    padding: Any,
    more: Any,
    dilation: Any,
) -> T:
    kernel, bias = kernel_and_bias(kernel, bias, 2 if transpose_kernel else 3)
    if not transpose_kernel:
        kernel = kernel.flip(0, 1).transpose(2, 3)
    KH, KW, O, C = kernel.shape  # noqa: E741
    stride, dilation = as_pair("stride", stride), as_pair("dilation", dilation)
    more = None if more is None else as_pair("output_padding", more)
    if isinstance(padding, str) and padding.lower() in ("valid", "same"):
        extents = extent(KH, dilation[0]), extent(KW, dilation[1])
        padding, more = padding_of_keras(padding.lower(), more, extents, stride)
    steps = stride, padding, more or 0
    layer = cls(C, O, (KH, KW), *steps, bias=bias is not None, dilation=dilation, device="meta")
    set_parameters(layer, kernel, bias)
    return layer


def padding_of_keras(
    padding: str, more: tuple[int, int] | None, extents: tuple[int, int], stride: tuple[int, int]
) -> tuple[Any, tuple[int, int]]:
    """Our `padding` and `output_padding` for those of Keras, None of the latter also for Flax's."""
    if more is None:
        gaps = max(stride[0] - extents[0], 0), max(stride[1] - extents[1], 0)
        return padding, gaps if padding == "valid" else (0, 0)
    if padding == "valid":
        return padding, more
    # Keras' size is (H - 1) * stride + extent % 2 + more; what that leaves out of all rows is shared out as ever.
    left_out = [k - k % 2 - n for k, n in zip(extents, more, strict=True)]
    top, left = (max(n, 0) // 2 for n in left_out)
    bottom, right = max(left_out[0], 0) - top, max(left_out[1], 0) - left
    return (top, bottom, left, right), (max(-left_out[0], 0), max(-left_out[1], 0))


def kernel_and_bias(kernel: Any, bias: Any, outputs: int) -> tuple[Tensor, Tensor | None]:
    """As tensors of one dtype; `outputs` is the dimension of a kernel that is as long as the bias."""
    kernel = as_tensor("kernel", kernel, 4)
    if not (kernel.is_floating_point() or kernel.is_complex()):
        raise ValueError(f"expected kernel to be of a floating point dtype, but got {kernel.dtype}")
    bias = None if bias is None else as_tensor("bias", bias, 1).to(kernel.dtype)
    if bias is not None and len(bias) != kernel.shape[outputs]:
        raise ValueError(
            f"expected a bias of {kernel.shape[outputs]} elements, but got shape {list(bias.shape)}"
        )
    return kernel, bias


def from_kernel(cls: type[L], kernel: Any, bias: Any, groups: int, **arguments: Any) -> L:
    kernel, bias = kernel_and_bias(kernel, bias, 3)
    KH, KW, depth, O = kernel.shape  # noqa: E741
    layer = cls(depth * groups, O, (KH, KW), groups=groups, bias=bias is not None, device="meta", **arguments)
    set_parameters(layer, kernel, bias)
    return layer


def from_depthwise_kernel(cls: type[L], kernel: Any, bias: Any, **arguments: Any) -> L:
    kernel = as_tensor("kernel", kernel, 4)
    KH, KW, C, M = kernel.shape
    return from_kernel(cls, kernel.reshape(KH, KW, 1, C * M), bias, C, **arguments)


def as_tensor(name: str, array: Any, dim: int) -> Tensor:
    if isinstance(array, Tensor):
        tensor = array.detach()
    else:  # copied: arrays of JAX are read-only, of which torch.as_tensor would warn
        array = np.asarray(array, order="C")  # torch has no strides that go backwards, nor another byte order
        try:
            tensor = torch.tensor(array.astype(array.dtype.newbyteorder("="), copy=False))
        except TypeError:
            raise ValueError(
                f"expected {name} to be of a dtype that PyTorch has, but got {array.dtype}"
            ) from None
    if tensor.dim() != dim:
        raise ValueError(f"expected {name} to have {dim} dimensions, but got shape {list(tensor.shape)}")
    return tensor


def set_parameters(module: Any, weight: Tensor, bias: Tensor | None) -> None:
    """Copies, so that training one side leaves the other alone."""
    module.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format))
    if bias is not None:
        module.bias = nn.Parameter(bias.detach().clone())
