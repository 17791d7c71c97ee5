"""BatchNorm1d folded into the nn.Linear before it, where it is of rows of numbers: of samples, or of tokens.

Of three dimensions it would be over the second, which are no results of the layer. A graph does not tell how many there
are: its inputs have to have as many as those of the example (`assert_inputs` in `dimensions`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from ..nn.linear import FusedLinear
from .dimensions import assert_inputs
from .fold import Norm, linear_with, norm_of
from .graph import (
    called,
    called_alone,
    does,
    erase_unread,
    is_read,
    is_seen_elsewhere,
    name_in_model,
    put,
    replace,
    source,
)
from .reads import reads_kind
from .report import ConvertReport

FLATTENINGS: tuple[Any, ...] = (torch.flatten, "flatten")
RESTORATIONS = "reshape_as", "view_as"


def fold_rows(
    traced: fx.GraphModule,
    found: ConvertReport,
    prefix: str,
    dimensions: dict[nn.Module, dict[str, int]],
    inputs: dict[str, int],
) -> None:
    """Gives the scale and shift of every BatchNorm1d of matrices to the linear layer whose results it alone gets.

    `dimensions`: of the arguments of modules; `inputs`: of those of the graph.
    """
    any_folded = False
    for node in list(traced.graph.nodes):
        module, before = called(traced, node), source(node)
        if not isinstance(module, nn.BatchNorm1d) or dimensions.get(module) != {"input": 2} or not inputs:
            continue
        rows = before if is_flattened(before) else None
        linear = before if rows is None else source(rows)
        norm, layer = norm_of(traced, node), called_alone(traced, linear, FusedLinear)
        if not isinstance(norm, Norm) or layer is None or not is_alone(traced, linear, rows, node):
            continue
        if layer.activation is not None or layer.weight.dtype != norm.var.dtype:
            continue
        found.folded[name_in_model(node, prefix)] = prefix + linear.target
        put(traced, linear, linear_with(layer, *norm.line()))
        replace(traced, node, before)
        for user in list(rows.users) if rows is not None else ():
            if restores(user, linear):
                replace(traced, user, linear)
        if rows is not None:
            erase_unread(traced, rows, FLATTENINGS)
        any_folded = True
    if any_folded:
        assert_inputs(traced, inputs)


def is_flattened(node: Any) -> bool:
    """Whether a node makes a matrix of what has three dimensions."""
    is_flat = isinstance(node, fx.Node) and does(node) in FLATTENINGS
    return is_flat and node.args[1:] == (0, 1) and not node.kwargs


def restores(node: fx.Node, linear: fx.Node) -> bool:
    """Whether a node gives rows the size of what a linear layer returned."""
    return does(node) in RESTORATIONS and node.args[1:] == (linear,)


def is_alone(traced: fx.GraphModule, linear: fx.Node, rows: fx.Node | None, norm: fx.Node) -> bool:
    """Whether the results of a linear layer go to a BatchNorm alone."""
    readers = [user for user in linear.users if not restores(user, linear) and not reads_kind(user)]
    alone = readers == [norm if rows is None else rows] and (
        rows is None or not is_seen_elsewhere(rows, norm)
    )
    return alone and not is_read(traced, str(linear.target))
