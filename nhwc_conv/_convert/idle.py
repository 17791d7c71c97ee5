"""What does nothing in eval mode, and leaves the graph."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from .graph import bound, called, replace, source
from .tracing import computes_as, has_hooks

IDLE_MODULES = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout
)  # fmt: skip
IDLE_FILES = ("torchvision.ops.stochastic_depth",)  # of functions that torch.fx does not look into
IDLE_FUNCTIONS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)


def remove_idle(traced: fx.GraphModule) -> None:
    """Takes out what passes its input on in eval mode: Identity, Dropout and its kin."""
    for node in list(traced.graph.nodes):
        module = called(traced, node)
        if module is not None:
            idle = computes_as(module, *IDLE_MODULES) and not module.training and not has_hooks(module)
        else:
            target: Any = node.target
            known = target in IDLE_FUNCTIONS or getattr(target, "__module__", "") in IDLE_FILES
            given = bound(node, target) if node.op == "call_function" and known else None
            idle = given is not None and given["training"] is False
        if idle and isinstance(source(node), fx.Node):
            replace(traced, node, source(node))
