"""All convolutions of a graph of torch.compile."""

from __future__ import annotations

from torch import fx
from torch._C import _set_grad_enabled as set_grad_enabled

from .calls import READERS
from .convolutions import rewrite
from .modules import inline


def use_nhwc_conv(graph: fx.GraphModule, freezing: bool = False) -> int:
    """Rewrites, in place, the convolutions in a graph of torch.compile that nhwc_conv computes; how many it did.

    Into ops alone: PyTorch keeps no compiled graph on disk that calls Python functions which it does not know.
    With `freezing`, which makes parameters constants and computes beforehand what follows from constants alone, their
    weights are packed.
    """
    count = 0
    for part in graph.modules():  # regions under checkpoint and the like are modules of their own
        if isinstance(part, fx.GraphModule):
            for node in list(part.graph.nodes):
                inline(part, node)
            constants = constants_of(part.graph) if freezing else ()
            changed = sum(
                rewrite(node, in_no_grad, constants) for node, in_no_grad in convolutions(part.graph)
            )
            count += changed
            if changed:
                part.recompile()
    return count


def convolutions(graph: fx.Graph) -> list[tuple[fx.Node, bool]]:
    """All calls of functions that convolve, and whether each is in a `no_grad` of the graph's own."""
    found: list[tuple[fx.Node, bool]] = []
    in_no_grad = False
    for node in graph.nodes:
        if node.target is set_grad_enabled:
            in_no_grad = not node.args[0]
        elif node.op == "call_function" and node.target in READERS:
            found.append((node, in_no_grad))
    return found


def constants_of(graph: fx.Graph) -> set[fx.Node]:
    """Parameters, and what is computed from nothing else."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        sources = node.all_input_nodes
        if node.op == "get_attr" or node.op.startswith("call_") and sources and found.issuperset(sources):
            found.add(node)
    return found
