"""F.conv1d, F.conv2d and F.linear with a weight of the model, as the layer that it could have been."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..nn.drop_in import Conv2d, conv2d_arguments
from ..nn.drop_in_1d import Conv1d
from ..nn.linear import FusedLinear
from .graph import attribute, bound, name_in_model, unused
from .report import ConvertReport

CONVOLUTIONS: dict[Any, Any] = {torch.conv1d: Conv1d, torch.conv2d: Conv2d}


def layers_of_functions(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Lets a layer of ours, over the same parameters, compute what calls of these functions do."""
    for node in list(traced.graph.nodes):
        if node.op != "call_function" or node.target not in (F.linear, *CONVOLUTIONS):
            continue
        is_linear = node.target is F.linear
        function, name = f"F.{node.target.__name__}", name_in_model(node, prefix)
        given = bound(node, linear_arguments if is_linear else conv2d_arguments)
        why: str | None = f"{function} of arguments that are computed"
        if given is not None and set(node.all_input_nodes) <= {given[n] for n in ("input", "weight", "bias")}:
            tensors: dict[str, Any] = {n: attribute(traced, given[n]) for n in ("weight", "bias")}
            why = why_no_layer(function, given, **tensors)
        if why is not None:
            if not is_linear:
                found.left[name] = why
            continue
        assert given is not None  # else there is a reason
        made = linear(**tensors) if is_linear else layer(CONVOLUTIONS[node.target], **{**given, **tensors})
        target = unused(traced, node.name)
        traced.add_submodule(target, made)
        node.op, node.target, node.args, node.kwargs = "call_module", target, (given["input"],), {}
        (found.linear if is_linear else found.converted)[name] = ""


def linear_arguments(input: Any, weight: Any, bias: Any = None) -> None:
    """With the signature of F.linear, which does not tell it."""


def why_no_layer(
    function: str, given: dict[str, Any], weight: Tensor | None, bias: Tensor | None
) -> str | None:
    if not isinstance(weight, nn.Parameter):
        return f"{function} of a weight that is no parameter"
    if function == "F.linear" and weight.dim() != 2:
        return f"{function} of a weight of {weight.dim()} dimensions"
    if given["bias"] is not None and not isinstance(bias, nn.Parameter):
        return f"{function} of a bias that is no parameter"
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
