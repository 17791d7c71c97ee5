"""What a program can do with images between its convolutions, by layers of ours."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from .._ops.finish import NAMES, ActivationArgument, finish_argument
from ..nn.images import (
    ChannelShuffle,
    Concatenation,
    Finishing,
    Flattening,
    Product,
    Resizing,
    SomeChannels,
)  # fmt: skip
from ..nn.pooling import AveragePool, MaxPool
from ..nn.program import IMAGE_CONVOLUTIONS, IMAGE_LAYERS
from .activations import activation_of
from .graph import (
    IN_PLACE,
    SPLITS,
    SUMS,
    VIEWS,
    bound,
    called,
    called_alone,
    concatenated,
    does,
    is_size,
    let_do,
    operands,
    put,
    replace,
    source,
    writes_in_place,
)
from .resizing import resizing_of
from .shuffle import shuffle_of
from .tracing import has_hooks

EVERYTHING = slice(None)


def use_image_layer(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Lets a layer of ours do with what others of our layers compute what a node does, if there is such a layer."""
    parts = parts_of(node)
    if parts is not None and all(is_ours(traced, part) for part in parts):
        let_do(traced, node, Concatenation(), *parts)
    elif (some := some_channels(traced, node)) is not None:
        before = source(node)
        let_do(traced, node, some, before if is_ours(traced, before) else source(before))
        if not before.users:  # a split
            traced.graph.erase_node(before)
    elif (shuffle := shuffle_of(traced, node)) is not None and is_ours(traced, source(node)):
        let_do(traced, node, shuffle, source(node))
    elif (resizing := resizing_of(traced, node)) is not None and is_ours(traced, source(node)):
        let_do(traced, node, *resizing)
    elif flattens(traced, node) and is_ours(traced, source(node)):
        let_do(traced, node, Flattening(), source(node))
    elif adds_ours(traced, node):
        let_do(traced, node, Finishing(), *node.args)
    elif (activation := exact_activation(traced, node)) is not None:
        before = source(node)
        layer = called(traced, before)
        if type(layer) is Finishing and layer.finish.activation == 0 and list(before.users) == [node]:
            put(traced, before, Finishing(activation))
            replace(traced, node, before)
        else:
            let_do(traced, node, Finishing(activation), before)
    else:
        return False
    return True


def is_ours(traced: fx.GraphModule, node: object) -> bool:
    """Whether a node computes images by a layer of ours."""
    return type(called(traced, node)) in IMAGE_LAYERS


def flattens(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node makes one row of numbers of each image."""
    module, is_function = called_alone(traced, node, nn.Flatten), does(node) in (torch.flatten, "flatten")
    if module is not None or is_function:
        given = bound(node, flatten) if is_function else vars(module)
        return given is not None and (given["start_dim"], given["end_dim"]) == (1, -1)
    first, *sizes = node.args or (None,)
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = list(sizes[0])
    return does(node) in VIEWS and sizes[1:] == [-1] and is_size(sizes[0], first, 0)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> None:
    """With the signature of torch.flatten, which does not tell it."""


def parts_of(node: fx.Node) -> tuple[Any, ...] | None:
    """What a node concatenates along channels."""
    parts, dim = concatenated(node) or ((), None)
    return tuple(parts) if dim == 1 and len(parts) > 0 else None


def some_channels(traced: fx.GraphModule, node: fx.Node) -> SomeChannels | None:
    """The layer that takes those channels of images which a node takes, by a slice or as a part of a split."""
    if node.op != "call_function" or node.target is not operator.getitem:
        return None
    before: Any
    index: Any
    before, index = node.args
    if is_ours(traced, before) and isinstance(index, tuple) and len(index) in (2, 3, 4):
        channels, others = index[1], (*index[:1], *index[2:])
        channels_alone = isinstance(channels, slice) and all(other == EVERYTHING for other in others)
        count = channels_of(traced, before)
        ints = channels_alone and all(n is None or type(n) is int for n in (channels.start, channels.stop))
        if not ints or channels.step is not None or count is None:
            return None
        begin, end, _ = channels.indices(count)
        return SomeChannels(begin, end, index) if begin < end else None
    sizes = split_sizes(traced, before)
    if sizes is None or type(index) is not int or not 0 <= index < len(sizes):
        return None
    begin = sum(sizes[:index])
    end = begin + sizes[index]
    return (
        SomeChannels(begin, end, (EVERYTHING, slice(begin, end), EVERYTHING, EVERYTHING))
        if begin < end
        else None
    )


def split_sizes(traced: fx.GraphModule, node: object) -> list[int] | None:
    """The channels of each part into which a node splits images."""
    if not isinstance(node, fx.Node) or does(node) not in SPLITS:
        return None
    given = bound(node, split)
    count = channels_of(traced, source(node)) if is_ours(traced, source(node)) else None
    if given is None or given["dim"] != 1 or count is None:
        return None
    size = given["size"] if given["size"] is not None else given["chunks"]
    if isinstance(size, (list, tuple)):
        return list(size) if sum(size) == count and all(type(n) is int for n in size) else None
    if type(size) is not int or size < 1:
        return None
    if node.target in (torch.chunk, "chunk"):
        size = -(-count // size)
    return [min(size, count - begin) for begin in range(0, count, size)]


def split(
    tensor: Any,
    size: Any = None,
    dim: int = 0,
    *,
    split_size_or_sections: Any = None,
    split_size: Any = None,
    chunks: Any = None,
) -> None:
    """With the names that torch.split and torch.chunk have for their second argument."""


def channels_of(traced: fx.GraphModule, node: Any) -> int | None:
    """Of the images that a layer of ours returns."""
    layer = called(traced, node)
    if type(layer) in IMAGE_CONVOLUTIONS:
        return int(layer.out_channels)
    if type(layer) is SomeChannels:
        return layer.step[2] - layer.step[1]
    if type(layer) in (MaxPool, AveragePool, ChannelShuffle, Resizing):
        return channels_of(traced, source(node))
    if type(layer) not in (Concatenation, Finishing, Product):
        return None
    counts = [channels_of(traced, part) for part in node.args]
    known = [count for count in counts if count is not None]
    if not known or len(known) < len(counts):
        return None
    if type(layer) is Concatenation:
        return sum(known)
    return known[0] if len(set(known)) == 1 else None  # else one is repeated


def adds_ours(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node adds results of layers of ours, and nobody can tell whether it writes to one of them."""
    terms = operands(node, (*SUMS, *IN_PLACE))
    if terms is None or not all(is_ours(traced, term) for term in terms):
        return False
    return node.target not in IN_PLACE or may_be_written(traced, node, terms[0])


def exact_activation(traced: fx.GraphModule, node: fx.Node) -> ActivationArgument:
    """The activation that a node computes of what a layer of ours returns, of those that round nothing."""
    found = activation_of(traced, node)
    if found is None or found.why_alone is not None or found.argument is None:
        return None
    if NAMES[finish_argument(found.argument, False).activation] not in ("relu", "clamp"):
        return None
    module, before = called(traced, node), source(node)
    if not is_ours(traced, before) or (module is not None and (has_hooks(module) or len(node.args) != 1)):
        return None
    in_place = writes_in_place(node) if module is None else getattr(module, "inplace", False)
    return None if in_place and not may_be_written(traced, node, before) else found.argument


def may_be_written(traced: fx.GraphModule, node: fx.Node, written: fx.Node) -> bool:
    """Whether nobody reads what `node` writes to, nor the images of which that is a part, behind `node`."""
    while all(user is node or user < node for user in written.users):
        if type(called(traced, written)) is not SomeChannels:
            return True
        written = source(written)
    return False
