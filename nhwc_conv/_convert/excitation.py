"""Squeeze-and-excitation: means over all pixels, which convolutions of one pixel make factors of channels.

Hu et al., "Squeeze-and-excitation networks", 2017.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ..nn.images import Flattening, Product
from ..nn.pooling import ChannelMeans
from ..nn.program import IMAGE_CONVOLUTIONS
from .graph import PRODUCTS, bound, called, does, let_do, operands, source, unused
from .images import is_ours
from .tracing import computes_as, has_hooks

ONE_PIXEL = 1, (1, 1), [1, 1]
ALL_PIXELS = (2, 3), (-2, -1), [2, 3], [-2, -1]


def use_channel_layer(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Lets a layer of ours do means over all pixels, or products of images, if a node does that."""
    if is_mean(traced, node):
        let_do(traced, node, ChannelMeans(), source(node))
        return True
    if is_mean(traced, node, keepdim=False):
        with traced.graph.inserting_before(node):
            name = unused(traced, node.name)
            traced.add_submodule(name, ChannelMeans())
            means = traced.graph.call_module(name, (source(node),))
        let_do(traced, node, Flattening(), means)
        return True
    factors = operands(node, PRODUCTS)
    for image, gate in (factors, factors[::-1]) if factors else ():
        if is_gate(traced, gate, image):
            let_do(traced, node, Product(), image, gate)
            return True
    if factors and all(is_ours(traced, factor) for factor in factors):
        let_do(traced, node, Product(), *factors)
        return True
    return False


def is_mean(traced: fx.GraphModule, node: fx.Node, keepdim: bool = True) -> bool:
    """Whether a node computes the means of the channels of what a layer of ours returns."""
    module = called(traced, node)
    if not keepdim and does(node) not in (torch.mean, "mean"):
        return False
    if isinstance(module, nn.AdaptiveAvgPool2d):
        pools = computes_as(module, nn.AdaptiveAvgPool2d) and not has_hooks(module)
        return pools and module.output_size in ONE_PIXEL
    if node.op == "call_function" and node.target is F.adaptive_avg_pool2d:
        given = bound(node, F.adaptive_avg_pool2d)
        return given is not None and given["output_size"] in ONE_PIXEL
    if does(node) not in (torch.mean, "mean") or not is_ours(traced, source(node)):
        return False
    given = bound(node, mean)
    return (
        given is not None
        and given["keepdim"] is keepdim
        and given["dim"] in ALL_PIXELS
        and given["dtype"] is None
    )


def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> None:
    """With the signature of torch.mean, which does not tell it."""


def is_gate(traced: fx.GraphModule, node: object, image: object) -> bool:
    """Whether a node computes one number a channel from the means of `image`, by convolutions of one pixel."""
    while isinstance(node, fx.Node):
        layer = called(traced, node)
        if type(layer) is ChannelMeans:
            return source(node) is image
        alone = type(layer) in IMAGE_CONVOLUTIONS and len(node.args) == 1 and not node.kwargs
        if not alone or layer.padding not in ((0, 0), "valid", "same"):  # else one pixel may become several
            return False
        node = source(node)
    return False
