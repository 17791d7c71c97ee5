"""The length of what each channel has over all pixels, by which ConvNeXt V2 normalises (Woo et al., 2023).

PyTorch's own kernel takes three to ten times as long as a sum of squares where what it sums is not side by side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from .graph import bound, does, replace
from .memory import call


def norm_arguments(
    input: Any, p: Any = "fro", dim: Any = None, keepdim: Any = False, dtype: Any = None
) -> None:
    """With the signature of Tensor.norm, which does not tell it."""


def vector_norm_arguments(
    x: Any, ord: Any = 2, dim: Any = None, keepdim: Any = False, *, dtype: Any = None, out: Any = None
) -> None:
    """With the signature of torch.linalg.vector_norm, likewise."""


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
    exact = x.dtype in (torch.float32, torch.float64)
    recorded = x.requires_grad and torch.is_grad_enabled()
    if recorded or not exact or any(x.stride(dim) == 1 for dim in dims):
        return torch.linalg.vector_norm(x, 2, dims, keepdim)
    return (x * x).sum(dims, keepdim).sqrt_()
