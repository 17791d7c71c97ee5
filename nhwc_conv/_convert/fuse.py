"""ReLU done by the convolution before it, and why other activations are not."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ..nn.fused import ConvReLU2d
from .graph import called, is_seen_elsewhere, name_in_model, put, replace, source, why_not_plain
from .report import ConvertReport
from .tracing import computes_as, has_hooks

RELU_FUNCTIONS = (F.relu, F.relu_, torch.relu, torch.relu_)
OTHERS = {
    name: getattr(nn, cls)
    for name, cls in (
        ("celu", "CELU"), ("elu", "ELU"), ("gelu", "GELU"), ("hardsigmoid", "Hardsigmoid"), ("hardswish", "Hardswish"),
        ("hardtanh", "Hardtanh"), ("leaky_relu", "LeakyReLU"), ("mish", "Mish"), ("prelu", "PReLU"), ("relu6", "ReLU6"),
        ("selu", "SELU"), ("sigmoid", "Sigmoid"), ("silu", "SiLU"), ("softplus", "Softplus"), ("tanh", "Tanh"),
    )
}  # fmt: skip
OTHER_FUNCTIONS = {
    getattr(module, name + end): name
    for module in (F, torch)
    for name in OTHERS
    for end in ("", "_")
    if hasattr(module, name + end)
}
ACTIVATIONS = (nn.ReLU, *OTHERS.values())


def fuse_activations(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Lets every convolution whose result goes to a ReLU alone do that itself."""
    for node in list(traced.graph.nodes):
        activation = activation_of(traced, node)
        if activation is None:
            continue
        name, before = name_in_model(node, prefix), source(node)
        why = why_left_apart(traced, node, before, activation)
        if why is not None:
            found.unfused[name] = why
            continue
        found.fused[name] = prefix + before.target
        put(traced, before, ConvReLU2d.from_torch(called(traced, before)))
        replace(traced, node, before)


def activation_of(traced: fx.GraphModule, node: fx.Node) -> str | None:
    """The name of the activation that a node computes: "ReLU" for the one that convolutions do."""
    module = called(traced, node)
    if module is not None:
        if isinstance(module, ACTIVATIONS):
            return "ReLU" if computes_as(module, nn.ReLU) else type(module).__name__
        return None
    if node.op == "call_method":
        name = str(node.target).removesuffix("_")
        return "ReLU" if name == "relu" else name if name in OTHERS else None
    if node.op == "call_function":
        return "ReLU" if node.target in RELU_FUNCTIONS else OTHER_FUNCTIONS.get(node.target)
    return None


def why_left_apart(traced: fx.GraphModule, node: fx.Node, before: Any, activation: str) -> str | None:
    """Why an activation is not done by what is computed before it."""
    why = why_not_plain(traced, before)
    if why is not None:
        return why
    if activation != "ReLU":
        return f"{activation}: a convolution does ReLU alone"
    module = called(traced, node)
    if module is not None and has_hooks(module):
        return "it has hooks"
    if is_seen_elsewhere(before, node):
        return f"the result of the convolution {before.target!r} goes elsewhere too"
    return None
