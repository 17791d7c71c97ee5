"""Modules in a graph of torch.compile, which mostly has none: it looks into those of torch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx
from torch.nn.modules.module import _has_any_global_hook as has_global_hook

from .graph import call, is_ours, replace, value

FUNCTIONS: dict[Any, Any] = {
    torch.nn.Conv1d: torch.conv1d,
    torch.nn.Conv2d: torch.conv2d,
    torch.nn.ConvTranspose1d: torch.conv_transpose1d,
    torch.nn.ConvTranspose2d: torch.conv_transpose2d,
}


def inline(graph: fx.GraphModule, node: fx.Node) -> None:
    """In place of a convolution of torch.nn that calls nothing of others, what it does."""
    module: Any = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if (
        type(module) not in FUNCTIONS
        or {"forward", "_conv_forward"} & vars(module).keys()
        or has_global_hook()
        or any(hooks for name, hooks in vars(module).items() if name.endswith("_hooks"))
        or len(node.args) + len(node.kwargs) > 1  # a transposed one may be told the size of its result
    ):
        return
    (input,) = *node.args, *node.kwargs.values()
    x = value(input)
    padding: str | int | tuple[int, ...] = module.padding
    if not is_ours(value(node), x, module.weight):
        return
    with graph.graph.inserting_before(node):
        weight = graph.graph.get_attr(f"{node.target}.weight")
        bias = None if module.bias is None else graph.graph.get_attr(f"{node.target}.bias")
        weight.meta["example_value"] = module.weight
        if module.padding_mode != "zeros":
            sides, padding = module._reversed_padding_repeated_twice, 0
            input = call(node, F.pad, input, sides, module.padding_mode)
            input.meta["example_value"] = F.pad(x, sides, module.padding_mode)
        steps: tuple[Any, ...] = module.dilation, module.groups
        if module.transposed:
            steps = module.output_padding, module.groups, module.dilation
        arguments = input, weight, bias, module.stride, padding, *steps
        replace(node, call(node, FUNCTIONS[type(module)], *arguments))
