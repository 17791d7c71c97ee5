"""Factors of channels, as layer scales are, folded into the convolution or linear layer before them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from ..nn.linear import FusedLinear
from .dimensions import assert_inputs
from .fold import Norm, folded, linear_with, ones
from .graph import (
    PRODUCTS,
    VIEWS,
    called,
    erase_unread,
    is_read,
    is_seen_elsewhere,
    name_in_model,
    operands,
    parameter,
    permutation,
    put,
    replace,
    source,
    why_not_plain,
)
from .report import ConvertReport


class Scaled(NamedTuple):
    """What a product multiplies: the result of a layer, maybe with its dimensions in another order."""

    node: fx.Node
    layer: Any
    shape: tuple[int, ...]  # of the results, where all of a channel are one
    dimensions: int  # how many they have at least


def fold_scales(traced: fx.GraphModule, found: ConvertReport, prefix: str, inputs: dict[str, int]) -> None:
    """Gives every layer whose result is alone multiplied by a parameter of one number a channel those numbers.

    A factor of more dimensions than the result would add some. So where it may have, the graph refuses inputs of other
    dimensions than the example's, `inputs`, and nothing is done where these are not known.
    """
    relies = False
    for node in list(traced.graph.nodes):
        factors = operands(node, PRODUCTS)
        for before, factor in (factors, factors[::-1]) if factors else ():
            scale, scaled = parameter(traced, factor), scaled_by(traced, node, before)
            if scale is None or scaled is None or not is_of_channels(scale, scaled):
                continue
            more = scale.dim() > scaled.dimensions
            if more and not inputs:
                continue
            relies |= more
            put(traced, scaled.node, with_scale(scaled.layer, scale.flatten()))
            found.fused[name_in_model(node, prefix)] = f"{prefix}{scaled.node.target}"
            replace(traced, node, before)
            erase_unread(traced, factor, VIEWS)
            break
    if relies:
        assert_inputs(traced, inputs)


def scaled_by(traced: fx.GraphModule, node: fx.Node, before: Any) -> Scaled | None:
    """What `node` scales, if `before` is what a layer computes, that `node` alone sees, and nothing else."""
    order = permutation(before)
    place = source(before) if order else before
    layer = called(traced, place)
    linear = type(layer) is FusedLinear and layer.activation is None
    if not linear and why_not_plain(traced, place) is not None:
        return None
    seen = is_seen_elsewhere(before, node) or (order and is_seen_elsewhere(place, before))
    if seen or len(place.args) != 1 or is_read(traced, place.target):
        return None
    channels = layer.out_features if linear else layer.out_channels
    if not order:
        shape = (channels,) if linear else (channels, *ones(layer))
        return Scaled(place, layer, shape, len(shape))
    behind = len(order) - 1 - order.index(len(order) - 1 if linear else 1)
    return Scaled(place, layer, (channels, *(1,) * behind), len(order))


def is_of_channels(scale: Tensor, scaled: Scaled) -> bool:
    """Whether a factor has one number for each channel, and none for anything else."""
    more = scale.dim() - len(scaled.shape)
    is_one = more >= 0 and tuple(scale.shape) == (1,) * more + scaled.shape
    return is_one and scale.dtype == scaled.layer.weight.dtype


def with_scale(layer: Any, factor: Tensor) -> nn.Module:
    """The layer that computes layer(x) * factor."""
    if isinstance(layer, FusedLinear):
        return linear_with(layer, factor.double(), None)
    none, unit = torch.zeros_like(factor), torch.ones_like(factor)
    return folded(layer, Norm(none, unit, factor, none, 0.0))
