"""Activations that models write out, x * sigmoid(x) for one, as the functions that torch has for them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from .activations import activation_of
from .graph import PRODUCTS, SUMS, called, operands, source
from .tracing import has_hooks

QUOTIENTS: tuple[Any, ...] = (operator.truediv, torch.div, "div", operator.itruediv, "div_")
IN_PLACE: tuple[Any, ...] = (operator.imul, "mul_", operator.itruediv, "div_")
MULTIPLICATIONS = (*PRODUCTS, *IN_PLACE[:2])
BY_GATE: dict[str, Callable[..., Any]] = {"sigmoid": F.silu, "hardsigmoid": F.hardswish, "tanh": F.mish}


def name_activations(traced: fx.GraphModule) -> None:
    """Lets one call stand for x * sigmoid(x), relu6(x + 3) / 6, x times that, and x * tanh(softplus(x))."""
    for node in list(traced.graph.nodes):
        found = quotient(traced, node) or product(traced, node)
        if found is None:
            continue
        function, x = found
        if node.target in IN_PLACE and any(user > node for user in x.users):
            continue  # they are to see what it wrote
        with traced.graph.inserting_before(node):
            named = traced.graph.call_function(function, (x,))
        named.meta = dict(node.meta)
        node.replace_all_uses_with(named)
        erase(traced, node, x)


def product(traced: fx.GraphModule, node: fx.Node) -> tuple[Callable[..., Any], fx.Node] | None:
    """The function and its argument, if a node multiplies something by a gate of it."""
    factors = operands(node, MULTIPLICATIONS)
    for x, gate in (factors, factors[::-1]) if factors else ():
        name = plain_activation(traced, gate, node)
        if not isinstance(x, fx.Node) or name not in BY_GATE:
            continue
        inner = source(gate)
        if name == "tanh":
            if not is_softplus(traced, inner, gate):
                continue
            inner = source(inner)
        if inner is x:
            return BY_GATE[name], x
    return None


def quotient(traced: fx.GraphModule, node: fx.Node) -> tuple[Callable[..., Any], fx.Node] | None:
    """The same for relu6(x + 3) / 6 and x * relu6(x + 3) / 6."""
    quotient_of = operands(node, QUOTIENTS)
    if quotient_of is None or quotient_of[1] != 6:
        return None
    of = quotient_of[0]
    x = shifted(traced, of, node)
    if x is not None:
        return F.hardsigmoid, x
    factors = operands(of, MULTIPLICATIONS)
    if factors and used_by(of, node):
        for y, gate in (factors, factors[::-1]):
            if isinstance(y, fx.Node) and shifted(traced, gate, of) is y:
                return F.hardswish, y
    return None


def shifted(traced: fx.GraphModule, node: Any, user: fx.Node) -> fx.Node | None:
    """x of relu6(x + 3)."""
    if plain_activation(traced, node, user) != "relu6":
        return None
    total = source(node)
    terms = operands(total, SUMS)
    if terms is None or not used_by(total, node):
        return None
    for x, number in (terms, terms[::-1]):
        if isinstance(x, fx.Node) and number == 3:
            return x
    return None


def plain_activation(traced: fx.GraphModule, node: Any, user: fx.Node) -> Any:
    """The name of the activation that a node computes for `user` alone, and nobody watches."""
    if not isinstance(node, fx.Node) or not used_by(node, user):
        return None
    module, activation = called(traced, node), activation_of(traced, node)
    return None if activation is None or (module is not None and has_hooks(module)) else activation.argument


def is_softplus(traced: fx.GraphModule, node: Any, user: fx.Node) -> bool:
    """With its usual numbers."""
    if not isinstance(node, fx.Node) or not used_by(node, user):
        return False
    module = called(traced, node)
    if module is not None:
        usual = type(module) is torch.nn.Softplus and (module.beta, module.threshold) == (1, 20)
        return usual and not has_hooks(module)
    return node.target is F.softplus and len(node.args) == 1 and not node.kwargs


def used_by(node: fx.Node, user: fx.Node) -> bool:
    return list(node.users) == [user]


def erase(traced: fx.GraphModule, node: fx.Node, x: fx.Node) -> None:
    """A node without users, and what is between it and `x`, which nobody else uses."""
    inputs = node.all_input_nodes
    traced.graph.erase_node(node)
    for other in inputs:
        if other is not x:
            erase(traced, other, x)
