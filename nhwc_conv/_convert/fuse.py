"""What follows a convolution, done by it: an activation, and adding another tensor to its result."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from .._ops.finish import ActivationArgument
from ..nn.fused import FusedConv2d, FusedLayer
from ..nn.linear import FusedLinear
from ..nn.twin import shallow_copy
from .activations import activation_of
from .graph import (
    called,
    is_seen_elsewhere,
    name_in_model,
    put,
    replace,
    source,
    why_not_plain,
)
from .report import ConvertReport
from .tracing import computes_as, has_hooks

IN_PLACE: tuple[Any, ...] = (operator.iadd, "add_", "__iadd__")
ADDITIONS: tuple[Any, ...] = (operator.add, torch.add, "add", *IN_PLACE)


def fuse_finishes(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Lets every convolution do the activation and the addition to which its result alone goes, in either order."""
    for node in list(traced.graph.nodes):
        name, activation = name_in_model(node, prefix), activation_of(traced, node)
        if activation is not None:
            before, why = source(node), activation.why_alone
            why = why or why_not_activated(traced, node, before)
            if why is None:
                fuse(traced, before, activation.argument)
        elif node.target in ADDITIONS and len(node.args) == 2 and not node.kwargs:
            whys = {operand: why_not_added(traced, node, operand) for operand in node.args}
            before = next((operand for operand, why in whys.items() if why is None), None)
            why = None
            if before is not None:
                fuse(traced, before, activation_done(traced, before), other_operand(node, before))
            else:
                why = next((why for operand, why in whys.items() if is_convolution(traced, operand)), None)
                if why is None:
                    continue
        else:
            continue
        if why is not None:
            found.unfused[name] = why
            continue
        found.fused[name] = prefix + before.target
        replace(traced, node, before)


def use_fused_linear(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Lets every torch.nn.Linear that does nothing else be a convolution, whose weight can be packed."""
    for node in traced.graph.find_nodes(op="call_module"):
        layer = called(traced, node)
        if type(layer) is nn.Linear and computes_as(layer, nn.Linear) and not has_hooks(layer):
            put(traced, node, FusedLinear.from_torch(layer))
            found.converted[prefix + str(node.target)] = "a 1x1 convolution"


def is_convolution(traced: fx.GraphModule, node: object) -> bool:
    return isinstance(called(traced, node), (nn.Conv2d, FusedLinear))


def activation_done(traced: fx.GraphModule, node: fx.Node) -> ActivationArgument:
    """By the convolution that a node calls."""
    layer = called(traced, node)
    return layer.activation if isinstance(layer, FusedLayer) else None


def other_operand(node: fx.Node, operand: Any) -> Any:
    a, b = node.args
    return b if a is operand else a


def fuse(
    traced: fx.GraphModule, node: fx.Node, activation: ActivationArgument, residual: fx.Node | None = None
) -> None:
    """Lets the convolution that a node calls do more: an activation, or adding a residual behind that which it has."""
    layer = called(traced, node)
    again = isinstance(layer, FusedLayer)
    fused = shallow_copy(layer, type(layer)) if again else FusedConv2d.from_torch(layer)
    fused.set_finish(activation, activation is not None and residual is not None)
    put(traced, node, fused)
    if residual is not None:
        node.args, node.kwargs = (source(node), residual), {}


def why_not_activated(traced: fx.GraphModule, node: fx.Node, before: Any) -> str | None:
    """Why the activation that a node computes is not done by what is computed before it."""
    why = why_left_apart(traced, node, before)
    if why is None and activation_done(traced, before) is not None:
        return f"the convolution {before.target!r} has an activation already"
    return why


def why_not_added(traced: fx.GraphModule, node: fx.Node, operand: Any) -> str | None:
    """Why the sum that a node computes is not made by the convolution whose result `operand` is."""
    why = why_left_apart(traced, node, operand)
    if why is not None:
        return why
    other = other_operand(node, operand)
    if not isinstance(other, fx.Node) or other is operand:
        return "what is added is no other tensor"
    if len(operand.args) + len(operand.kwargs) > 1:
        return f"the convolution {operand.target!r} adds another tensor already"
    if node.target in IN_PLACE and node.args[0] is not operand:
        return "it writes to another tensor than the convolution's result"
    if not other < operand:  # in the order of execution
        return "what is added is computed later"
    if any(operand < user < node and may_write(traced, user) for user in other.users):
        return "what is added may be written to before it is added"
    return None


def why_left_apart(traced: fx.GraphModule, node: fx.Node, before: Any) -> str | None:
    """Why what a node does is not done by what is computed before it."""
    if not isinstance(called(traced, before), FusedLayer):
        why = why_not_plain(traced, before)
        if why is not None:
            return why
    module = called(traced, node)
    if module is not None and has_hooks(module):
        return "it has hooks"
    if is_seen_elsewhere(before, node):
        return f"the result of the convolution {before.target!r} goes elsewhere too"
    return None


def may_write(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node may change its inputs: unless it is a convolution or adds two tensors, it is believed to."""
    return not (is_convolution(traced, node) or node.target in (operator.add, torch.add, "add"))
