"""Images of another height and width, as by F.interpolate, which a program can make between its convolutions."""

from __future__ import annotations

import operator
from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from ..nn.images import Resizing
from .graph import bound, called_alone, does, is_size, sized, source

HEIGHT_AND_WIDTH = slice(2, None), slice(-2, None), slice(2, 4)


def resizing_of(traced: fx.GraphModule, node: fx.Node) -> tuple[Any, ...] | None:
    """The layer that resizes as a node does, and what it is called with."""
    given = arguments_of(traced, node)
    if given is None or given["antialias"] or given["recompute_scale_factor"]:
        return None
    mode, corners, image = given["mode"], given["align_corners"], given["input"]
    if mode == "bilinear":
        corners = bool(corners)
    size, scale = given["size"], given["scale_factor"]
    if (mode, corners) not in Resizing.MODES or (size is None) == (scale is None):
        return None
    if size is None:
        factors = pair_of(scale, (int, float))
        return (Resizing(mode, corners, scale=factors), image) if factors and min(factors) > 0 else None
    sizes = pair_of(size, (int,))
    if sizes is not None:
        return (Resizing(mode, corners, size=sizes), image) if min(sizes) > 0 else None
    like = image_of_size(size)
    return (Resizing(mode, corners), image, like) if like is not None else None


def arguments_of(traced: fx.GraphModule, node: fx.Node) -> dict[str, Any] | None:
    """Those of F.interpolate, if a node does what that does."""
    module = called_alone(traced, node, nn.Upsample)
    if module is not None:
        return {**vars(module), "input": node.args[0], "antialias": False}
    return bound(node, F.interpolate) if does(node) is F.interpolate else None


def pair_of(value: Any, classes: tuple[type, ...]) -> tuple[Any, Any] | None:
    """Numbers for height and width, of one for both or of two."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    return pair if len(pair) == 2 and all(type(n) in classes for n in pair) else None


def image_of_size(size: Any) -> Any:
    """The node whose height and width `size` is; None if there is none."""
    if isinstance(size, fx.Node):
        both = does(size) is operator.getitem and size.args[1] in HEIGHT_AND_WIDTH
        return sized(size.args[0]) if both else None
    if not isinstance(size, (tuple, list)) or len(size) != 2 or not isinstance(size[0], fx.Node):
        return None
    image = source(size[0]) if does(size[0]) == "size" else sized(source(size[0]))
    return image if is_size(size[0], image, 2) and is_size(size[1], image, 3) else None
