"""A graph of torch.fx that is being made of a Keras model, and what stands in it for the tensors of that model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from keras.src.backend.torch.core import convert_to_tensor
from torch import fx, nn


@dataclass
class Value:
    """A tensor of the model, as it is there (`plain`) or as images [N, C, H, W] in channels_last, whichever is known.

    Of a signal, `images` are those of one row, and of a vector of channels those of one pixel. Around images `zeros`
    (left, right, top, bottom) are still to come, which a convolution or a pooling may do itself.
    """

    rank: int
    plain: fx.Node | None = None
    images: fx.Node | None = None
    zeros: tuple[int, int, int, int] = (0, 0, 0, 0)


def weights(variable: Any) -> torch.Tensor:
    tensor: torch.Tensor = convert_to_tensor(variable).detach()
    return tensor


def optional(variable: Any) -> torch.Tensor | None:
    return None if variable is None else weights(variable)


class Maker:
    """Adds nodes to the graph of what will be one module."""

    def __init__(self) -> None:
        self.root, self.graph = nn.Module(), fx.Graph()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        return self.graph.call_function(function, args, kwargs)

    def module(self, name: str, module: nn.Module, *args: Any, **kwargs: Any) -> fx.Node:
        target, number = name, 1
        while target in self.root._modules:
            number += 1
            target = f"{name}_{number}"
        self.root.add_module(target, module.eval().requires_grad_(False))
        return self.graph.call_module(target, args, kwargs)

    def tensor(self, name: str, tensor: torch.Tensor) -> fx.Node:
        """A parameter."""
        self.root.register_parameter(name, nn.Parameter(tensor.detach().clone(), requires_grad=False))
        return self.graph.get_attr(name)

    def plain(self, value: Value) -> fx.Node:
        """As in the model."""
        if value.plain is None:
            value.plain = self.graph.call_method("permute", (self.images(value), 0, 2, 3, 1))
            if value.rank < 4:  # of one row, or one pixel
                value.plain = self.call(torch.flatten, value.plain, 1, 5 - value.rank)
        return value.plain

    def images(self, value: Value, zeros: bool = True) -> fx.Node:
        """As images [N, C, H, W], with the zeros around them unless the caller does these."""
        if value.images is None:
            assert value.plain is not None  # one of them is known
            rows = self.graph.call_method("unsqueeze", (value.plain, 1)) if value.rank == 3 else value.plain
            value.images = self.graph.call_method("permute", (rows, 0, 3, 1, 2))
        if zeros and any(value.zeros):
            value.images, value.zeros = self.call(F.pad, value.images, value.zeros), (0, 0, 0, 0)
        return value.images

    def padded(self, value: Value, zeros: tuple[int, int, int, int]) -> Value:
        """With so many zeros more, still to come."""
        images = self.images(value, zeros=False)
        left, right, top, bottom = (a + b for a, b in zip(value.zeros, zeros, strict=True))
        return Value(value.rank, images=images, zeros=(left, right, top, bottom))

    def elementwise(self, value: Value, function: Callable[[fx.Node], fx.Node]) -> Value:
        """What does not ask where channels are."""
        if value.images is not None:
            return Value(value.rank, images=function(self.images(value)))
        return Value(value.rank, function(self.plain(value)))

    def combined(self, values: list[Value], function: Callable[[Any, Any], Any]) -> Value:
        """One by one; all are of one rank."""
        rank = values[0].rank
        as_images = rank > 2 and any(v.images is not None for v in values)
        first, *rest = [self.images(v) if as_images else self.plain(v) for v in values]
        for node in rest:
            first = self.call(function, first, node)
        return Value(rank, images=first) if as_images else Value(rank, first)
