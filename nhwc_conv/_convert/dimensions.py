"""Numbers of dimensions: what a model asserts of them layer by layer, asserted once; and those of inputs."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..nn.packed import Prepackable
from .activations import ACTIVATIONS, activation_of
from .classes import CONVOLUTION
from .excitation import mean
from .fold import NORMS
from .graph import ADDITIONS, PRODUCTS, SPLITS, bound, called, concatenated, does, operands, source
from .memory import check_inputs

# Whose results have as many dimensions as what they are called with.
POOLS = nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d
LAYERS = (CONVOLUTION, Prepackable, *NORMS, *ACTIVATIONS, *POOLS)
FUNCTIONS: tuple[Any, ...] = (F.batch_norm, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.pad)
COMPARISONS = operator.eq, operator.ne, operator.ge, operator.gt, operator.le, operator.lt


def assert_dimensions_once(traced: fx.GraphModule) -> None:
    """Makes the same assertion of the dimensions of several tensors once, where these have as many by construction.

    Between convolutions it would keep them from being one call.
    """
    origins: dict[fx.Node, fx.Node] = {}
    asserted: dict[Any, fx.Node] = {}
    for node in list(traced.graph.nodes):
        origins[node] = origin_of(traced, node, origins)
        comparison = node.args[0] if does(node) is torch._assert else None
        if not isinstance(comparison, fx.Node) or not compares_dimensions(comparison):
            continue
        read = source(comparison)
        origin = origins[source(read)]
        key = origin, comparison.target, comparison.args[1]
        if key not in asserted:
            asserted[key] = put_behind(traced, origin, comparison, node.args[1:])
        traced.graph.erase_node(node)
        if not comparison.users:
            traced.graph.erase_node(comparison)


def origin_of(traced: fx.GraphModule, node: fx.Node, origins: dict[fx.Node, fx.Node]) -> fx.Node:
    """The first tensor of those that have as many dimensions as what `node` computes; `origins` has those before."""
    joined = concatenated(node)
    terms = operands(node, (*ADDITIONS, *PRODUCTS)) if joined is None else joined[0]
    if terms is not None:
        found = {origins.get(term, node) for term in terms if not isinstance(term, (int, float))}
        return found.pop() if len(found) == 1 else node
    if is_part(node):
        return origins.get(source(source(node)), node)
    keeps = isinstance(called(traced, node), LAYERS) or activation_of(traced, node) is not None
    keeps = keeps or is_kept_mean(node) or is_slice(node) or does(node) in FUNCTIONS
    return origins.get(source(node), node) if keeps else node


def is_kept_mean(node: fx.Node) -> bool:
    given = bound(node, mean) if does(node) in (torch.mean, "mean") else None
    return given is not None and given["keepdim"] is True


def is_part(node: fx.Node) -> bool:
    """Of a split."""
    before = source(node) if node.target is operator.getitem and isinstance(node.args[1], int) else None
    return isinstance(before, fx.Node) and does(before) in SPLITS


def is_slice(node: fx.Node) -> bool:
    """Along each axis."""
    sliced = node.args[1] if node.target is operator.getitem and len(node.args) == 2 else None
    return isinstance(sliced, tuple) and all(isinstance(index, slice) for index in sliced)


def compares_dimensions(node: fx.Node) -> bool:
    """Whether a node compares how many dimensions a tensor has with a number."""
    read, number = operands(node, COMPARISONS) or (None, None)
    if not isinstance(read, fx.Node) or not isinstance(number, int) or not isinstance(source(read), fx.Node):
        return False
    return (
        read.args[1:] == ("ndim",) if does(read) is getattr else does(read) == "dim" and len(read.args) == 1
    )


def put_behind(
    traced: fx.GraphModule, origin: fx.Node, comparison: fx.Node, message: tuple[Any, ...]
) -> fx.Node:
    """The assertion about `origin`, as soon as that is computed."""
    place = origin.next
    while place.op == "placeholder":
        place = place.next
    with traced.graph.inserting_before(place):
        read = traced.graph.call_function(getattr, (origin, "ndim"))
        holds = traced.graph.create_node("call_function", comparison.target, (read, comparison.args[1]))
        return traced.graph.call_function(torch._assert, (holds, *message))


def assert_inputs(traced: fx.GraphModule, inputs: dict[str, int]) -> None:
    """Lets a graph refuse inputs that have not as many dimensions as `inputs` says, if it does not already."""
    if not any(does(node) is check_dimensions for node in traced.graph.nodes):
        check_inputs(traced, check_dimensions, lambda name: (inputs[name],) if name in inputs else ())


@fx.wrap
def check_dimensions(value: Any, expected: int) -> None:
    """ValueError: a tensor of another number of dimensions."""
    if isinstance(value, Tensor) and value.dim() != expected:
        raise ValueError(
            f"expected a tensor of {expected} dimensions, as in the example that this model was converted for, but "
            f"got one of {value.dim()}: convert it again"
        )
