"""Channels-last layers from and to what others hold: the layers of torch.nn, and the kernels of Keras and Flax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from .._geometry import EXPLICIT, extent, padding_argument, same_sides
from .._ops.weight_order import OURS, TORCHS
from .drop_in import check_convolution

if TYPE_CHECKING:
    from .._ops.finish import ActivationArgument
    from .hwio import ChannelsLastLayer

L = TypeVar("L", bound="ChannelsLastLayer")


def from_torch(cls: type[L], conv: nn.Module, **options: Any) -> L:
    """`options` are what the class of `conv` has not."""
    check_convolution(conv, cls.theirs, cls.drop_in)
    given: Any = conv
    made: Any = cls
    layer = made(given.in_channels, given.out_channels, **arguments_of(cls, given), device="meta", **options)
    return with_state_of(given, layer, OURS[layer.weight.dim()])


def to_torch(layer: ChannelsLastLayer) -> Any:
    activation = getattr(layer, "activation", None)
    if activation is not None:
        raise ValueError(f"torch.nn.{layer.theirs.__name__} has no activation, but activation={activation!r}")
    arguments = arguments_of(type(layer), layer) | torch_padding(layer)
    conv = layer.theirs(layer.in_channels, layer.out_channels, **arguments, device="meta")
    return with_state_of(layer, conv, TORCHS[conv.weight.dim()])


def is_transposed(cls: type[ChannelsLastLayer]) -> bool:
    return issubclass(cls.theirs, _ConvTransposeNd)


def arguments_of(cls: type[ChannelsLastLayer], layer: Any) -> dict[str, Any]:
    """What `cls` and its counterpart in torch.nn are made with, beside channels."""
    names = ["kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"]
    names += ["output_padding"] * is_transposed(cls)
    return {name: getattr(layer, name) for name in names} | dict(bias=layer.bias is not None)


def with_state_of(source: Any, module: Any, order: tuple[int, ...]) -> Any:
    """`module` with copies of the parameters of `source`, the weight permuted, and with its training flag."""
    weight, bias = source.weight, source.bias  # of a parametrised layer: what it computes with now
    set_parameters(module, weight.detach().permute(order), bias)
    module.weight.requires_grad_(weight.requires_grad)
    if bias is not None:
        module.bias.requires_grad_(bias.requires_grad)
    return module.train(source.training)


def same_of_transposed(
    axes: list[tuple[int, int, int]], auto_pad: int
) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
    """(before, after) of each axis, and the output_padding, of a transposed layer whose results are `stride` times as
    large. The same for every size: as for one pixel, which becomes `stride` of them. axes: (kernel, stride, dilation).
    """
    sides = [same_sides(s, k, s, d, auto_pad) for k, s, d in axes]
    return sides, tuple(max(s - extent(k, d), 0) for k, s, d in axes)


def torch_padding(layer: Any) -> dict[str, Any]:
    """The arguments with which the layer of torch.nn pads as `layer` does, or ValueError."""
    axes = list(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True))
    auto_pad = padding_argument(layer.padding)[1]
    if auto_pad == EXPLICIT:
        zeros = (0,) * 2 * len(axes) if isinstance(layer.padding, str) else layer.padding
        sides = list(zip(zeros[::2], zeros[1::2], strict=True))
    else:
        sides, gaps = same_of_transposed(axes, auto_pad)
    before = tuple(first for first, _ in sides)
    name = f"torch.nn.{layer.theirs.__name__}"
    steps = f"kernel_size={layer.kernel_size}, stride={layer.stride}, dilation={layer.dilation}"
    if is_transposed(type(layer)):
        more = layer.output_padding if auto_pad == EXPLICIT else gaps
        # torch takes as much off at the end as at the beginning, and gives it back.
        more = tuple(n + first - last for n, (first, last) in zip(more, sides, strict=True))
        if all(0 <= n < max(s, d) for n, (_, s, d) in zip(more, axes, strict=True)):
            return dict(padding=before, output_padding=more)
        steps += f", output_padding={layer.output_padding}"
    elif auto_pad == EXPLICIT:
        if all(first == last for first, last in sides):
            return dict(padding=before)
        raise ValueError(f"{name} pads opposite sides alike, but padding={layer.padding}")
    else:
        odd = any(d * (k - 1) % 2 for k, _, d in axes)
        if set(layer.stride) == {1} and not (layer.padding == "same_lower" and odd):
            return dict(padding="same")
    raise ValueError(f"{name} has no padding={layer.padding!r} for {steps}")


def from_transposed_kernel(
    cls: type[L],
    kernel: Any,
    bias: Any,
    transpose_kernel: bool,
    stride: Any,
    padding: Any,
    more: Any,
    dilation: Any,
    activation: ActivationArgument,
) -> L:
    kernel, bias = kernel_and_bias(cls, kernel, bias, -2 if transpose_kernel else -1)
    if not transpose_kernel:
        kernel = kernel.flip(*range(cls.axes)).transpose(-2, -1)
    *taps, O, C = kernel.shape  # noqa: E741
    stride, dilation = cls.as_steps("stride", stride), cls.as_steps("dilation", dilation)
    more = None if more is None else cls.as_steps("output_padding", more)
    if isinstance(padding, str) and padding.lower() in ("valid", "same"):
        extents = tuple(map(extent, taps, dilation))
        padding, more = padding_of_keras(padding.lower(), more, extents, stride)
    made: Any = cls
    steps = dict(stride=stride, padding=padding, output_padding=more or 0, dilation=dilation)
    layer = made(C, O, tuple(taps), **steps, bias=bias is not None, device="meta", activation=activation)
    set_parameters(layer, kernel, bias)
    return layer


def padding_of_keras(
    padding: str, more: tuple[int, ...] | None, extents: tuple[int, ...], stride: tuple[int, ...]
) -> tuple[Any, tuple[int, ...]]:
    """Our `padding` and `output_padding` for those of Keras, None of the latter also for Flax's."""
    if more is None:
        gaps = [max(s - k, 0) if padding == "valid" else 0 for s, k in zip(stride, extents, strict=True)]
        return padding, tuple(gaps)
    if padding == "valid":
        return padding, more
    # Keras' size is (H - 1) * stride + extent % 2 + more; what that leaves out of all rows is shared out as ever.
    left_out = [k - k % 2 - n for k, n in zip(extents, more, strict=True)]
    sides = [side for n in left_out for side in (max(n, 0) // 2, -(-max(n, 0) // 2))]
    return tuple(sides), tuple(max(-n, 0) for n in left_out)


def kernel_and_bias(
    cls: type[ChannelsLastLayer], kernel: Any, bias: Any, outputs: int
) -> tuple[Tensor, Tensor | None]:
    """As tensors of one dtype; `outputs` is the dimension of a kernel that is as long as the bias."""
    kernel = as_tensor("kernel", kernel, cls.axes + 2)
    if not (kernel.is_floating_point() or kernel.is_complex()):
        raise ValueError(f"expected kernel to be of a floating point dtype, but got {kernel.dtype}")
    bias = None if bias is None else as_tensor("bias", bias, 1).to(kernel.dtype)
    if bias is not None and len(bias) != kernel.shape[outputs]:
        raise ValueError(
            f"expected a bias of {kernel.shape[outputs]} elements, but got shape {list(bias.shape)}"
        )
    return kernel, bias


def from_kernel(cls: type[L], kernel: Any, bias: Any, groups: int, **arguments: Any) -> L:
    kernel, bias = kernel_and_bias(cls, kernel, bias, -1)
    *taps, depth, O = kernel.shape  # noqa: E741
    if cls.axes == 1 and str(arguments["padding"]).lower() == "causal":
        (apart,) = cls.as_steps("dilation", arguments["dilation"])
        arguments["padding"] = apart * (taps[0] - 1), 0
    made: Any = cls
    layer = made(
        depth * groups, O, tuple(taps), groups=groups, bias=bias is not None, device="meta", **arguments
    )
    set_parameters(layer, kernel, bias)
    return layer


def from_depthwise_kernel(cls: type[L], kernel: Any, bias: Any, **arguments: Any) -> L:
    kernel = as_tensor("kernel", kernel, cls.axes + 2)
    *taps, C, M = kernel.shape
    return from_kernel(cls, kernel.reshape(*taps, 1, C * M), bias, C, **arguments)


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
