"""NHWCConv2d from and to what others hold: torch.nn.Conv2d, and the kernels of Keras and Flax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .drop_in import Conv2d, check_convolution

if TYPE_CHECKING:
    from ..functional import Algorithm
    from .nhwc import NHWCConv2d

L = TypeVar("L", bound="NHWCConv2d")
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


def with_state_of(source: nn.Conv2d | NHWCConv2d, module: Any, order: tuple[int, ...]) -> Any:
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


def from_kernel(cls: type[L], kernel: Any, bias: Any, groups: int, **arguments: Any) -> L:
    kernel = as_tensor("kernel", kernel, 4)
    if not (kernel.is_floating_point() or kernel.is_complex()):
        raise ValueError(f"expected kernel to be of a floating point dtype, but got {kernel.dtype}")
    bias = None if bias is None else as_tensor("bias", bias, 1).to(kernel.dtype)
    if bias is not None and bias.shape != kernel.shape[3:]:
        raise ValueError(f"expected a bias of {kernel.shape[3]} elements, but got shape {list(bias.shape)}")
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
