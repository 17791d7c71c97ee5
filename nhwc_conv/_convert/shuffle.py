"""Channel shuffles: those that models write out as views, as the function that torch has for them; as a layer of ours.

Zhang et al., "ShuffleNet", 2017. The views would hold images in NCHW memory.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ..nn.images import ChannelShuffle
from .graph import VIEWS, bound, called_alone, does, is_size

TRANSPOSITIONS: tuple[Any, ...] = (torch.transpose, torch.swapaxes, "transpose", "swapaxes")
PERMUTATIONS: tuple[Any, ...] = (torch.permute, "permute")


def name_shuffles(traced: fx.GraphModule) -> None:
    """Lets one call stand for x.view(N, groups, C // groups, H, W).transpose(1, 2).contiguous().view(N, C, H, W)."""
    for node in list(traced.graph.nodes):
        steps = steps_of_shuffle(node)
        if steps is None:
            continue
        x, groups = steps[-1].args[0], sizes_of(steps[-1])[1]
        with traced.graph.inserting_before(node):
            named = traced.graph.call_function(torch.channel_shuffle, (x, groups))
        named.meta = dict(node.meta)
        node.replace_all_uses_with(named)
        for step in steps:
            traced.graph.erase_node(step)


def shuffle_of(traced: fx.GraphModule, node: fx.Node) -> ChannelShuffle | None:
    """The layer that does what a node does, if that is a shuffle."""
    module = called_alone(traced, node, nn.ChannelShuffle)
    is_shuffle = does(node) in (torch.channel_shuffle, F.channel_shuffle)
    given = vars(module) if module is not None else bound(node, channel_shuffle) if is_shuffle else None
    groups = (given or {}).get("groups")
    return ChannelShuffle(groups) if type(groups) is int else None


def channel_shuffle(input: Any, groups: Any) -> None:
    """With the signature of torch.channel_shuffle, which does not tell it."""


def steps_of_shuffle(node: Any) -> list[Any] | None:
    """The nodes of a shuffle that ends with `node`, the last one first, each of which the next one alone reads."""
    before: Any = node.args[0] if does(node) in VIEWS and node.args else None
    copies = isinstance(before, fx.Node) and does(before) == "contiguous"
    if copies and (len(before.args) > 1 or before.kwargs):
        return None
    swap = before.args[0] if copies else before
    first = swap.args[0] if isinstance(swap, fx.Node) and swaps_groups(swap) else None
    if not isinstance(first, fx.Node) or does(first) not in VIEWS or first.kwargs or node.kwargs:
        return None
    steps = [node, *([before] if copies else []), swap, first]
    if any(list(step.users) != [user] for user, step in zip(steps, steps[1:], strict=False)):
        return None
    old, new = sizes_of(first), sizes_of(node)
    if len(old) != 5 or len(new) != 4 or type(old[1]) is not int:
        return None
    # What stands in the places of channels follows from the others.
    kept = [(sizes[i], dim) for sizes in (old, new) for i, dim in ((0, 0), (-2, 2), (-1, 3))]
    return steps if all(is_size(size, first.args[0], dim) for size, dim in kept) else None


def sizes_of(view: Any) -> tuple[Any, ...]:
    """What a node asks for that is a view of another size."""
    _, *sizes = view.args
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else tuple(sizes)


def swaps_groups(node: Any) -> bool:
    """Whether a node exchanges the second and the third of five dimensions."""
    _, *dims = node.args or (None,)
    if does(node) in PERMUTATIONS:
        order = dims[0] if len(dims) == 1 else dims
        return isinstance(order, (tuple, list)) and list(order) == [0, 2, 1, 3, 4]
    return does(node) in TRANSPOSITIONS and not node.kwargs and sorted(map(str, dims)) == ["1", "2"]
