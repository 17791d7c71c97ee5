"""Attention, which PyTorch computes in one kernel where a mask has as many dimensions as what it masks."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx

ATTENTION = F.scaled_dot_product_attention


def complete_masks(traced: fx.GraphModule) -> None:
    """Lets masks of one image, a mask for each head, have the batch's dimension too: then the kernel takes them."""
    for node in traced.graph.find_nodes(op="call_function", target=ATTENTION):
        mask = node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask")
        if mask is not None:
            node.target = attention_by_complete_mask


@fx.wrap
def attention_by_complete_mask(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    """F.scaled_dot_product_attention, with its arguments, whatever dimensions of size one the mask leaves out."""
    if attn_mask is not None and 2 < attn_mask.dim() < query.dim():
        attn_mask = attn_mask[(None,) * (query.dim() - attn_mask.dim())]
    return ATTENTION(query, key, value, attn_mask, *args, **kwargs)
