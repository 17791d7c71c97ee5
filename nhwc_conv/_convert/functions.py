"""F.conv1d, F.conv2d and F.linear with a weight of the model, as the layer that it could have been.

The weight may be computed of parameters alone, as weight standardisation does (Qiao et al., "Micro-batch training with
batch-channel normalization and weight standardization", 2019): it is computed once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from ..nn.drop_in import Conv2d, conv2d_arguments
from ..nn.drop_in_1d import Conv1d
from ..nn.linear import FusedLinear
from .graph import attribute, bound, called, does, name_in_model, source, unused, writes_in_place
from .report import ConvertReport

LAYER_OF: dict[Any, Any] = {torch.conv1d: Conv1d, torch.conv2d: Conv2d}


def layers_of_functions(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Lets a layer of ours, over the same parameters, compute what calls of these functions do."""
    for node in list(traced.graph.nodes):
        if node.op != "call_function" or node.target not in (F.linear, *LAYER_OF):
            continue
        is_linear = node.target is F.linear
        function, name = f"F.{node.target.__name__}", name_in_model(node, prefix)
        given = bound(node, linear_arguments if is_linear else conv2d_arguments)
        why: str | None = f"{function} of arguments that are computed"
        if given is not None and set(node.all_input_nodes) <= {given[n] for n in ("input", "weight", "bias")}:
            tensors: dict[str, Any] = {n: parameter_of(traced, given[n]) for n in ("weight", "bias")}
            why = why_no_layer(function, given, **tensors)
        if why is not None:
            if not is_linear:
                found.left[name] = why
            continue
        assert given is not None  # else there is a reason
        made = linear(**tensors) if is_linear else layer(LAYER_OF[node.target], **{**given, **tensors})
        target = unused(traced, node.name)
        traced.add_submodule(target, made)
        node.op, node.target, node.args, node.kwargs = "call_module", target, (given["input"],), {}
        (found.linear if is_linear else found.converted)[name] = ""


def sole_layer(traced: fx.GraphModule) -> nn.Module | None:
    """The layer of ours that does all that a graph does, if there is one."""
    layers_of_functions(traced, ConvertReport(), "")
    output = traced.graph.output_node()
    result = source(output)
    steps = [node for node in traced.graph.nodes if node.op not in ("get_attr", "placeholder", "output")]
    layer: nn.Module | None = called(traced, result)
    unread = [node for node in steps if node is not result and not is_constant(node)]
    alone = isinstance(layer, tuple(LAYER_OF.values())) and not unread
    return layer if alone and source(result).op == "placeholder" else None


def is_constant(node: fx.Node) -> bool:
    """Whether a node reads parameters and buffers alone, and writes to none."""
    if node.op == "get_attr":
        return True
    return (
        does(node) is not None and not writes_in_place(node) and all(map(is_constant, node.all_input_nodes))
    )


def parameter_of(traced: fx.GraphModule, node: Any) -> Tensor | None:
    """The parameter that a node reads, or one of what it computes of parameters and buffers alone."""
    found = attribute(traced, node)
    if isinstance(found, nn.Parameter) or not isinstance(node, fx.Node):
        return found
    values = [constant(traced, node) for _ in range(2)]
    fixed = all(isinstance(value, Tensor) for value in values) and torch.equal(*values)  # not drawn at random
    return nn.Parameter(values[0].contiguous(), requires_grad=False) if fixed else None


@torch.no_grad()
def constant(traced: fx.GraphModule, node: fx.Node) -> Any:
    """What a node computes of parameters and buffers alone; None where it reads more, or writes."""
    if node.op == "get_attr":
        tensor = attribute(traced, node)
        return None if tensor is None else tensor.detach()
    if not is_constant(node):
        return None
    args, kwargs = map_arg((node.args, node.kwargs), lambda read: constant(traced, read))
    if node.op == "call_method":
        first, *rest = args
        return getattr(first, str(node.target))(*rest, **kwargs)
    function: Any = node.target
    return function(*args, **kwargs)


def linear_arguments(input: Any, weight: Any, bias: Any = None) -> None:
    """With the signature of F.linear, which does not tell it."""


def why_no_layer(
    function: str, given: dict[str, Any], weight: Tensor | None, bias: Tensor | None
) -> str | None:
    if not isinstance(weight, nn.Parameter):
        return f"{function} of a weight that is computed"
    if function == "F.linear" and weight.dim() != 2:
        return f"{function} of a weight of {weight.dim()} dimensions"
    if given["bias"] is not None and not isinstance(bias, nn.Parameter):
        return f"{function} of a bias that is computed"
    return None


def linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Module:
    O, C = weight.shape  # noqa: E741
    made: Any = FusedLinear(C, O, bias is not None, device="meta")
    made.weight, made.bias = weight, bias
    result: nn.Module = made.eval()
    return result


def layer(
    cls: Any,
    *,
    weight: nn.Parameter,
    bias: nn.Parameter | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    **_: object,
) -> nn.Module:
    O, C, *kernel = weight.shape  # noqa: E741
    steps = stride, padding, dilation, groups
    made: Any = cls(C * groups, O, tuple(kernel), *steps, bias is not None, device="meta")
    made.weight, made.bias = weight, bias
    result: nn.Module = made.eval()
    return result
