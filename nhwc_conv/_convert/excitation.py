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
from .graph import PRODUCTS, bound, call_ahead, called, does, let_do, operands, source
from .images import is_ours
from .tracing import computes_as, has_hooks

ONE_PIXEL = 1, (1, 1), [1, 1]
ALL_PIXELS = (2, 3), (-2, -1), [2, 3], [-2, -1]


def use_channel_layer(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Lets a layer of ours do means over all pixels, or products of images, if a node does that."""
    keepdim = mean_keeps_pixel(traced, node)
    if keepdim is not None:
        if keepdim:
            let_do(traced, node, ChannelMeans(), source(node))
        else:
            let_do(traced, node, Flattening(), call_ahead(traced, node, ChannelMeans(), source(node)))
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


def mean_keeps_pixel(traced: fx.GraphModule, node: fx.Node) -> bool | None:
    """Whether a node that computes the means of the channels of images leaves one pixel; None for any other node."""
    module = called(traced, node)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        pools = computes_as(module, nn.AdaptiveAvgPool2d) and not has_hooks(module)
        return True if pools and module.output_size in ONE_PIXEL else None
    if does(node) is F.adaptive_avg_pool2d:
        given = bound(node, F.adaptive_avg_pool2d)
        return True if given is not None and given["output_size"] in ONE_PIXEL else None
    if does(node) not in (torch.mean, "mean") or not is_ours(traced, source(node)):
        return None
    given = bound(node, mean)
    if given is None or given["dim"] not in ALL_PIXELS or given["dtype"] is not None:
        return None
    return given["keepdim"] if type(given["keepdim"]) is bool else None


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
