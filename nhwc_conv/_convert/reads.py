"""What nodes of a graph read of a tensor besides its values: sizes, dtype and device."""

from __future__ import annotations

from torch import fx


def reads_kind(node: fx.Node) -> bool:
    """Whether a node asks a tensor for what a BatchNorm or an activation leaves as it is."""
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in ("shape", "ndim", "dtype", "device", "is_cuda")
    return node.op == "call_method" and node.target in ("size", "dim", "ndimension", "numel", "nelement")


def is_of_kind(node: fx.Node) -> bool:
    """Whether a node reads the kind of a tensor, or computes something of what others read of it alone: no tensor."""
    computes = node.op == "call_function" and getattr(node.target, "__module__", "") in ("_operator", "math")
    alone = computes and bool(node.all_input_nodes) and all(map(is_of_kind, node.all_input_nodes))
    return reads_kind(node) or alone
