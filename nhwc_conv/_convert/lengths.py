"""The length of what each channel has over all pixels, by which ConvNeXt V2 normalises (Woo et al., 2023).

PyTorch's own kernel takes three to ten times as long as a sum of squares where what it sums is not side by side. And
what is made of the length is a factor and a summand for each channel, where it is written as four passes over images.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx

from .graph import PRODUCTS, SUMS, bound, does, erase_unread, operands, parameter, replace
from .memory import call


def norm_arguments(
    input: Any, p: Any = "fro", dim: Any = None, keepdim: Any = False, dtype: Any = None
) -> None:
    """With the signature of Tensor.norm, which does not tell it."""


def vector_norm_arguments(
    x: Any, ord: Any = 2, dim: Any = None, keepdim: Any = False, *, dtype: Any = None, out: Any = None
) -> None:
    """With the signature of torch.linalg.vector_norm, likewise."""


def addcmul_arguments(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1, out: Any = None) -> None:
    """With the signature of torch.addcmul, likewise."""


ADDCMUL: tuple[Any, ...] = (torch.addcmul, "addcmul")
QUOTIENTS: tuple[Any, ...] = (operator.truediv, torch.div, "div")
EXACT = torch.float32, torch.float64
SIGNATURES: dict[Any, Any] = {
    "norm": norm_arguments, torch.norm: torch.norm, torch.linalg.vector_norm: vector_norm_arguments
}  # fmt: skip


def sum_squares(traced: fx.GraphModule) -> None:
    """Lets `length` compute the Euclidean norms of a graph over some dimensions."""
    for node in list(traced.graph.nodes):
        signature = SIGNATURES.get(does(node))
        given = bound(node, signature) if signature is not None else None
        if given is None or given["dtype"] is not None or given.get("out") is not None:
            continue
        x, order, dims, keepdim = list(given.values())[:4]
        dims = (dims,) if type(dims) is int else dims
        is_listed = isinstance(dims, (list, tuple)) and all(type(dim) is int for dim in dims)
        if type(order) in (int, float) and order == 2 and is_listed and isinstance(keepdim, bool):
            with traced.graph.inserting_before(node):
                found = call(traced, length, x, tuple(dims), keepdim)
            replace(traced, node, found)


@fx.wrap
def length(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """The Euclidean norm over `dims`. Squares of half types may overflow; and at zero a root has no derivative."""
    recorded = x.requires_grad and torch.is_grad_enabled()
    if recorded or x.dtype not in EXACT or any(x.stride(dim) == 1 for dim in dims):
        return torch.linalg.vector_norm(x, 2, dims, keepdim)
    return (x * x).sum(dims, keepdim).sqrt_()


def scale_once(traced: fx.GraphModule) -> None:
    """Makes x + b + w*(x*n), of a parameter w, b + x*(1 + w*n), where n is the length of x over something."""
    for node in list(traced.graph.nodes):
        found = normalised(traced, node)
        if found is None:
            continue
        x, n, w, b = found
        with traced.graph.inserting_before(node):
            factor = traced.graph.call_function(operator.mul, (w, n))
            factor = traced.graph.call_function(operator.add, (factor, 1))
            scaled = traced.graph.call_function(torch.addcmul, (b, x, factor))
        node.replace_all_uses_with(scaled)
        erase_unread(traced, node, (*SUMS, *PRODUCTS, *ADDCMUL))


def normalised(traced: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node, fx.Node] | None:
    """The x, n, w and b of `scale_once`, if that is what a node adds up.

    Not in half types, where 1 + w*n rounds away digits of w*n.
    """
    terms = summands(node, node)
    products = [term for term in terms if isinstance(term, tuple)]
    others = [term for term in terms if isinstance(term, fx.Node)]
    if len(products) != 1 or len(others) != 2:
        return None
    for w, scaled in (products[0], products[0][::-1]):
        weight = parameter(traced, w)
        if weight is None or weight.dtype not in EXACT or len(scaled.users) > 1:
            continue
        factors = operands(scaled, PRODUCTS)
        for x, n in (factors, factors[::-1]) if factors else ():
            # What else reads x might write to it: the product would be computed later.
            if x in others and is_length_of(x, n) and len(x.users) == 3:
                return x, n, w, others[1 - others.index(x)]
    return None


def summands(node: Any, top: fx.Node) -> list[Any]:
    """What is added up, a pair where that is a product. Of what others than the sum read it tells no more."""
    if not isinstance(node, fx.Node) or (node is not top and len(node.users) > 1):
        return [node]
    terms = operands(node, SUMS)
    if terms is not None:
        return [*summands(terms[0], top), *summands(terms[1], top)]
    given = bound(node, addcmul_arguments) if does(node) in ADDCMUL else None
    if given is not None and given["value"] == 1 and given["out"] is None:
        return [*summands(given["input"], top), (given["tensor1"], given["tensor2"])]
    return [operands(node, PRODUCTS) or node]


def is_length_of(x: Any, node: Any) -> bool:
    """Whether a node divides the length of `x`, whose dimensions it keeps, by something."""
    of, _ = operands(node, QUOTIENTS) or (None, None)
    return isinstance(of, fx.Node) and does(of) is length and of.args[0] is x and of.args[2] is True
