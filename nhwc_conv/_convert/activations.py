"""Which activation a node of a graph computes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from .._ops.finish import ActivationArgument
from .graph import called
from .tracing import computes_as

# By the names of their functions in torch: the class, and the arguments of the function that follow the tensor, with
# their defaults. Attributes of the class have the same names.
CLASSES: dict[str, tuple[type[nn.Module] | None, dict[str, Any]]] = {
    "relu": (nn.ReLU, {}),
    "hardtanh": (nn.Hardtanh, {"min_val": -1.0, "max_val": 1.0}),  # nn.ReLU6 is one
    "relu6": (None, {}),
    "clamp": (None, {"min": None, "max": None}),
    "leaky_relu": (nn.LeakyReLU, {"negative_slope": 0.01}),
    "hardsigmoid": (nn.Hardsigmoid, {}),
    "hardswish": (nn.Hardswish, {}),
    "sigmoid": (nn.Sigmoid, {}),
    "silu": (nn.SiLU, {}),
    "tanh": (nn.Tanh, {}),
    "elu": (nn.ELU, {"alpha": 1.0}),
    "mish": (nn.Mish, {}),
    "gelu": (nn.GELU, {"approximate": "none"}),
}
OTHERS = {
    "celu": nn.CELU, "prelu": nn.PReLU, "selu": nn.SELU, "softplus": nn.Softplus,
}  # fmt: skip
ACTIVATIONS = (*(cls for cls, _ in CLASSES.values() if cls is not None), *OTHERS.values())
FUNCTIONS = {
    getattr(module, name + end): name
    for module in (F, torch)
    for name in (*CLASSES, *OTHERS)
    for end in ("", "_")
    if hasattr(module, name + end)
}


class FoundActivation(NamedTuple):
    argument: ActivationArgument  # as conv2d takes it
    why_alone: str | None = None  # why no convolution does it


def activation_of(traced: fx.GraphModule, node: fx.Node) -> FoundActivation | None:
    """What a node computes, if it is an activation."""
    module: nn.Module | None = called(traced, node)
    if module is not None:
        if not isinstance(module, ACTIVATIONS):
            return None
        for name, (cls, parameters) in CLASSES.items():
            if computes_as(module, cls) and all(hasattr(module, p) for p in parameters):
                return found(name, [getattr(module, p) for p in parameters])
        return alone(type_before_parametrizations(module).__name__)
    if node.op == "call_method":
        name = str(node.target).removesuffix("_")
        known = name in CLASSES or name in OTHERS
    else:
        known = node.op == "call_function" and node.target in FUNCTIONS
        name = FUNCTIONS[node.target] if known else ""
    if not known:
        return None
    if name in OTHERS:
        return alone(name)
    parameters = CLASSES[name][1]
    given = dict(zip([*parameters, "inplace"], node.args[1:], strict=False)) | node.kwargs
    return found(name, [given.get(p, default) for p, default in parameters.items()])


def found(name: str, values: list[Any]) -> FoundActivation:
    """The activation by its name in torch and its numbers, which may be computed in the model."""
    if name == "gelu":
        return FoundActivation("gelu" if values == ["none"] else "gelu_tanh")
    if name == "clamp":
        ends = zip(values, (-math.inf, math.inf), strict=True)
        values = [end if value is None else value for value, end in ends]
    if not all(isinstance(value, (int, float)) for value in values):
        return FoundActivation(None, f"{name} of numbers that are computed")
    name = "clamp" if name == "hardtanh" else name
    return FoundActivation((name, *map(float, values)) if values else name)


def alone(name: str) -> FoundActivation:
    return FoundActivation(None, f"{name}: a convolution does not do it")
