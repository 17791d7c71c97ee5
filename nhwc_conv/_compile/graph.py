"""Nodes of a graph of torch.compile: what is known of them, and how they are replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from .._geometry.dtypes import COMPUTED


def call(like: fx.Node, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
    """A new node, made where `like` was: in its module, line and region."""
    new = like.graph.call_function(function, args, kwargs)
    new.meta = {name: known for name, known in like.meta.items() if name != "example_value"}
    return new


def replace(node: fx.Node, new: fx.Node) -> None:
    new.meta = node.meta
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def value(node: object) -> Any:
    """The fake tensor that torch.compile found for a node, or None."""
    return node.meta.get("example_value") if isinstance(node, fx.Node) else None


def is_static(argument: object) -> bool:
    """Whether it is known while compiling: an int, a string, or a list of ints."""
    if isinstance(argument, list | tuple):
        return all(type(n) is int for n in argument)
    return type(argument) is int or isinstance(argument, str)


def is_ours(result: Any, x: Any, weight: Any) -> bool:
    """Whether nhwc_conv computes the convolution. Under autocast the result has another dtype than x."""
    return all(
        isinstance(t, Tensor)
        and t.dtype == weight.dtype
        and t.dtype in COMPUTED
        and t.device.type == "cpu"
        and t.layout == torch.strided
        for t in (weight, x, result)  # what is no tensor has no dtype
    )
