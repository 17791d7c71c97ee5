"""F.conv2d with a weight of the model, as the layer that it could have been."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from ..nn.drop_in import Conv2d, conv2d_arguments
from .graph import attribute, bound, name_in_model, unused
from .report import ConvertReport


def layers_of_functions(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Lets a layer of ours, over the same parameters, compute what calls of F.conv2d do."""
    for node in list(traced.graph.find_nodes(op="call_function", target=torch.conv2d)):
        name, given = name_in_model(node, prefix), bound(node, conv2d_arguments)
        why: str | None = "F.conv2d of arguments that are computed"
        if given is not None and set(node.all_input_nodes) <= {given[n] for n in ("input", "weight", "bias")}:
            tensors = {n: attribute(traced, given[n]) for n in ("weight", "bias")}
            why = why_no_layer(given, **tensors)
        if why is not None:
            found.left[name] = why
            continue
        assert given is not None  # else there is a reason
        target = unused(traced, node.name)
        traced.add_submodule(target, layer(**{**given, **tensors}))
        node.op, node.target, node.args, node.kwargs = "call_module", target, (given["input"],), {}
        found.converted[name] = ""


def why_no_layer(given: dict[str, Any], weight: Tensor | None, bias: Tensor | None) -> str | None:
    if not isinstance(weight, nn.Parameter):
        return "F.conv2d of a weight that is no parameter"
    if given["bias"] is not None and not isinstance(bias, nn.Parameter):
        return "F.conv2d of a bias that is no parameter"
    return None


def layer(
    *,
    weight: nn.Parameter,
    bias: nn.Parameter | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    **_: object,
) -> Conv2d:
    O, C, KH, KW = weight.shape  # noqa: E741
    made = Conv2d(C * groups, O, (KH, KW), stride, padding, dilation, groups, bias is not None, device="meta")
    made.weight, made.bias = weight, bias
    return made.eval()
