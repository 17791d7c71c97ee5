"""One factor and one summand behind a convolution and its activation, as in PaddlePaddle's learnable affine blocks.

With a clamp of sums s to [low, high], which ReLU is, a * clamp(s) + b is a clamp of a*s + b, to the ends a*low + b and
a*high + b.
"""

from __future__ import annotations

import math
from typing import Any

from torch import fx, nn

from .._ops.finish import NAMES
from ..nn.fused import FusedConv1d, FusedConv2d, FusedConvolution
from ..nn.twin import shallow_copy
from .fold import parameters_in_double, set_parameters
from .graph import (
    PRODUCTS,
    SUMS,
    attribute,
    called,
    does,
    is_read,
    is_seen_elsewhere,
    name_in_model,
    operands,
    put,
    replace,
)
from .report import ConvertReport
from .tracing import has_hooks

FUSED = FusedConv1d, FusedConv2d


def fold_affine(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Gives convolutions the number by which their results alone are multiplied, or which is added to these."""
    for node in list(traced.graph.nodes):
        terms = operands(node, (*PRODUCTS, *SUMS))
        for before, read in (terms, terms[::-1]) if terms else ():
            number = attribute(traced, read)
            if not isinstance(number, nn.Parameter) or not takes(traced, node, before, number):
                continue
            value = float(number.detach())
            factor, summand = (value, 0.0) if does(node) in PRODUCTS else (1.0, value)
            if factor == 0 or not math.isfinite(value):
                continue
            put(traced, before, with_line(called(traced, before), factor, summand))
            found.unfused.pop(name_in_model(node, prefix), None)
            found.fused[name_in_model(node, prefix)] = f"{prefix}{before.target}"
            replace(traced, node, before)
            break


def clamp_of(layer: FusedConvolution) -> tuple[float, float] | None:
    """The ends of the clamp that a layer's activation is."""
    _, low, high, _ = layer.finish
    ends = {"none": (-math.inf, math.inf), "relu": (0.0, math.inf), "clamp": (low, high)}
    return ends.get(NAMES[layer.finish.activation])


def takes(traced: fx.GraphModule, node: fx.Node, before: Any, number: nn.Parameter) -> bool:
    """Whether a fused convolution that adds no other tensor can do what `node` alone does with its result."""
    layer = called(traced, before)
    return (
        number.numel() == 1
        and number.dim() <= 1
        and type(layer) in FUSED
        and len(before.args) == 1
        and not before.kwargs
        and clamp_of(layer) is not None
        and not has_hooks(layer)
        and number.dtype == layer.weight.dtype
        and not is_seen_elsewhere(before, node)
        and not is_read(traced, before.target)
    )


def with_line(layer: Any, factor: float, summand: float) -> FusedConvolution:
    made: FusedConvolution = shallow_copy(layer, type(layer))
    weight, bias = parameters_in_double(layer)
    set_parameters(made, layer, weight * factor, bias * factor + summand)
    low, high = sorted(factor * end + summand for end in clamp_of(layer) or ())
    made.set_finish(None if (low, high) == (-math.inf, math.inf) else ("clamp", low, high), False)
    return made
