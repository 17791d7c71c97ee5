"""The functions that convolve, and what a call of one says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import fx

from ..nn.drop_in import conv2d_arguments


class Call(NamedTuple):
    """A convolution or a transposed one, of any number of dimensions: the arguments of torch.convolution."""

    input: Any
    weight: Any
    bias: Any
    stride: Any
    padding: Any
    dilation: Any
    transposed: bool
    output_padding: Any
    groups: Any


def of_forward(*args: Any, **kwargs: Any) -> Call:
    input, weight, bias, stride, padding, dilation, groups = conv2d_arguments(*args, **kwargs)
    return Call(input, weight, bias, stride, padding, dilation, False, 0, groups)


def of_transposed(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
) -> Call:
    return Call(input, weight, bias, stride, padding, dilation, True, output_padding, groups)


def functions(name: str) -> list[Any]:
    """What a node may call by that name: torch's function, which layers and F call, and aten's op."""
    op = getattr(torch.ops.aten, name)
    return [getattr(torch, name), op, *(getattr(op, overload) for overload in op.overloads())]


BY_NAME: dict[str, Callable[..., Call]] = {
    "conv1d": of_forward,
    "conv2d": of_forward,
    "conv_transpose1d": of_transposed,
    "conv_transpose2d": of_transposed,
    "convolution": Call,  # in graphs that have been taken apart into aten's ops
}
READERS = {function: reader for name, reader in BY_NAME.items() for function in functions(name)}


def read(node: fx.Node) -> Call | None:
    """What a node says that calls one of these functions, unless it is an argument that none here has."""
    try:
        return READERS[node.target](*node.args, **node.kwargs)
    except TypeError:
        return None
