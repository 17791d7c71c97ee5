"""Pooling that a program can do, between its convolutions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from .._geometry import as_pair
from ..nn.pooling import AveragePool, MaxPool
from .graph import bound, called_alone, does, let_do, source


def use_pooling_layer(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Lets a layer of ours pool images, if that is what a node does."""
    layer = layer_of(pooling_of(traced, node))
    if layer is not None:
        let_do(traced, node, layer, source(node))
    return layer is not None


def pooling_of(traced: fx.GraphModule, node: fx.Node) -> dict[str, Any] | None:
    """The arguments of what a node computes if that is pooling by windows alone."""
    module = called_alone(traced, node, nn.MaxPool2d, nn.AvgPool2d)
    if module is not None:
        return vars(module)
    if does(node) in (F.max_pool2d, torch.max_pool2d):
        return bound(node, max_pool2d)
    return bound(node, avg_pool2d) if does(node) is F.avg_pool2d else None


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> None:
    """With the signature of F.max_pool2d, which does not tell it."""


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> None:
    """With the signature of F.avg_pool2d, which does not tell it."""


def layer_of(given: dict[str, Any] | None) -> nn.Module | None:
    """Of these arguments; None where they ask for more, or for something that is computed in the model."""
    if (
        given is None
        or given.get("return_indices", False) is not False
        or type(given["ceil_mode"]) is not bool
    ):
        return None
    stride = given["stride"] or given["kernel_size"]  # torch takes none, or an empty list
    try:
        size, stride, padding, dilation = (
            as_pair("size", value)
            for value in (given["kernel_size"], stride, given["padding"], given.get("dilation", 1))
        )
        if "count_include_pad" not in given:
            return MaxPool(size, stride, padding, given["ceil_mode"]) if dilation == (1, 1) else None
        counted = given["count_include_pad"]
        plain = type(counted) is bool and given["divisor_override"] is None
        return AveragePool(size, stride, padding, given["ceil_mode"], counted) if plain else None
    except (TypeError, ValueError, RuntimeError):
        return None
