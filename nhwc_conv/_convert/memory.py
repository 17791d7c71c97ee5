"""A graph whose images lie in channels_last between its input and its results: there our layers copy nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from .._ops.listeners import is_transformed
from .._ops.memory_format import suggests_channels_last
from ..nn.packed import Prepackable
from .classes import CONVOLUTION
from .graph import called, replace, source
from .tracing import has_hooks

# What can tell in which order a tensor lies in memory, or fails where it lies in another.
READ_MEMORY = {
    "view", "view_as", "stride", "is_contiguous", "as_strided", "storage_offset", "untyped_storage", "storage",
    "data_ptr", "dim_order", "numpy", "__array__", "__dlpack__",
}  # fmt: skip


@fx.wrap
def channels_last(image: Any) -> Any:
    """Images [N, C, H, W] in channels_last, copied if need be; anything else as it is, and those that vmap maps."""
    is_batch = isinstance(image, Tensor) and image.dim() == 4 and not is_transformed()
    return image.contiguous(memory_format=torch.channels_last) if is_batch else image


@fx.wrap
def in_memory_like(result: Any, image: Any) -> Any:
    """A result as it lies in memory where convolutions follow PyTorch's rule: contiguous, unless the image is not."""
    if not isinstance(result, Tensor) or result.dim() != 4:
        return result
    return result if image.dim() == 4 and suggests_channels_last(image) else result.contiguous()


def keep_channels_last(traced: fx.GraphModule) -> bool:
    """Lets images be in channels_last from the first convolutions to the results, where nothing in the graph minds.

    Of models in NCHW alone: those in channels_last are so without.
    """
    nodes = list(traced.graph.nodes)
    firsts = first_convolutions(traced, nodes)
    weights = [p for p in traced.parameters() if p.dim() == 4]
    if not firsts or any(map(suggests_channels_last, weights)) or any(minds(traced, node) for node in nodes):
        return False
    image = source(firsts[0])
    copied: dict[fx.Node, fx.Node] = {}
    for node in firsts:
        given = source(node)
        if given not in copied:
            with traced.graph.inserting_before(node):
                copied[given] = call(traced, channels_last, given)
        node.replace_input_with(given, copied[given])
    output = traced.graph.output_node()
    with traced.graph.inserting_before(output):
        output.args = map_arg(output.args, lambda result: call(traced, in_memory_like, result, image))
    return True


def forget_memory(traced: fx.GraphModule) -> None:
    """Undoes `keep_channels_last`."""
    for node in list(traced.graph.nodes):
        if node.target in (channels_last, in_memory_like):
            replace(traced, node, node.args[0])
    traced.recompile()


def call(traced: fx.GraphModule, function: Callable[..., Any], *arguments: Any) -> fx.Node:
    """A new node, which torch.fx shall not look into when it reads the graph from a file."""
    node = traced.graph.call_function(function, arguments)
    node.meta["is_wrapped"] = True
    return node


def check_inputs(
    traced: fx.GraphModule, check: Callable[..., None], expected: Callable[[str], tuple[Any, ...]]
) -> None:
    """Lets `check` look at the inputs first, with what is expected of each by its name; of some it may be nothing."""
    inputs = traced.graph.find_nodes(op="placeholder")
    with traced.graph.inserting_after(inputs[-1]):
        for node in inputs:
            if expected(str(node.target)):
                call(traced, check, node, *expected(str(node.target)))


def is_convolution(traced: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(called(traced, node), (CONVOLUTION, Prepackable)) and isinstance(source(node), fx.Node)


def first_convolutions(traced: fx.GraphModule, nodes: list[fx.Node]) -> list[fx.Node]:
    """Those of `nodes`, in their order, that read nothing which a convolution has computed."""
    firsts: list[fx.Node] = []
    behind: set[fx.Node] = set()
    for node in nodes:
        reads_one, convolves = not behind.isdisjoint(node.all_input_nodes), is_convolution(traced, node)
        if convolves and not reads_one:
            firsts.append(node)
        if convolves or reads_one:
            behind.add(node)
    return firsts


def minds(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node may do something else, or fail, where images lie in another order in memory."""
    module = called(traced, node)  # of torch.nn or of ours, or one with hooks: what others do is in the graph
    if module is not None:
        return has_hooks(module)
    return (node.target if node.op == "call_method" else getattr(node.target, "__name__", "")) in READ_MEMORY
