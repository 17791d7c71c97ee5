"""One factor and one summand behind a convolution and its activation, as in PaddlePaddle's learnable affine blocks.

With a clamp of sums s to [low, high], which ReLU is, a * clamp(s) + b is a clamp of a*s + b, to the ends a*low + b and
a*high + b.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx, nn

from ..nn.fused import FusedConv1d, FusedConv2d, FusedConvolution
from ..nn.twin import shallow_copy
from .fold import in_double, set_parameters
from .graph import (
    PRODUCTS,
    SUMS,
    attribute,
    called,
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
        for functions in PRODUCTS, SUMS:
            terms = operands(node, functions)
            for before, number in (terms, terms[::-1]) if terms else ():
                value = number_of(traced, number)
                if value is None or not takes(traced, node, before, attribute(traced, number)):
                    continue
                factor, summand = (value, 0.0) if functions is PRODUCTS else (1.0, value)
                if factor == 0:
                    continue
                put(traced, before, with_line(called(traced, before), factor, summand))
                found.unfused.pop(name_in_model(node, prefix), None)
                found.fused[name_in_model(node, prefix)] = f"{prefix}{before.target}"
                replace(traced, node, before)
                break
            else:
                continue
            break


def number_of(traced: fx.GraphModule, node: object) -> float | None:
    """The only element of a parameter that a node reads."""
    tensor = attribute(traced, node)
    if not isinstance(tensor, nn.Parameter) or tensor.numel() != 1 or tensor.dim() > 1:
        return None
    value = float(tensor.detach())
    return value if math.isfinite(value) else None


def ends(layer: FusedConvolution) -> tuple[float, float] | None:
    """Of the clamp that a layer's activation is."""
    activation: Any = layer.activation
    if activation is None:
        return -math.inf, math.inf
    if activation == "relu":
        return 0.0, math.inf
    if activation == "relu6":
        return 0.0, 6.0
    return activation[1:] if activation[0] == "clamp" else None


def takes(traced: fx.GraphModule, node: fx.Node, before: Any, number: torch.Tensor | None) -> bool:
    """Whether a fused convolution that adds no other tensor can do what `node` alone does with its result."""
    layer = called(traced, before)
    return (
        type(layer) in FUSED
        and len(before.args) == 1
        and not before.kwargs
        and ends(layer) is not None
        and not has_hooks(layer)
        and number is not None
        and number.dtype == layer.weight.dtype
        and not is_seen_elsewhere(before, node)
        and not is_read(traced, before.target)
    )


def with_line(layer: Any, factor: float, summand: float) -> FusedConvolution:
    made: FusedConvolution = shallow_copy(layer, type(layer))
    weight, bias = in_double(layer.weight, layer.bias)
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    set_parameters(made, layer, weight * factor, bias * factor + summand)
    low, high = sorted(factor * end + summand for end in ends(layer) or ())
    made.set_finish(None if (low, high) == (-math.inf, math.inf) else ("clamp", low, high), False)
    return made
