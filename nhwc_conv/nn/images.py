"""Images put together, cut and added between convolutions: convert(model, inference=True) makes such layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._ops.finish import NAMES, ActivationArgument, finish_argument


class Concatenation(torch.nn.Module):
    """Two to five tensors [N, C, H, W] as one, along their channels."""

    MOST = 5
    kind = -4  # of a step of a program, csrc/binding/program.cpp
    step = kind, -1, -1, -1  # the program says which further tensors it reads

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, 1)


class SomeChannels(torch.nn.Module):
    """Channels of images [N, C, H, W], where they lie.

    Args:
        begin, end: the first of them, and the first behind them.
        index: what the images are indexed with; those that are not four-dimensional may be refused by it.
    """

    kind = -5

    def __init__(self, begin: int, end: int, index: tuple[Any, ...]) -> None:
        super().__init__()
        self.index = index
        self.step = self.kind, begin, end, 0

    def forward(self, input: Tensor) -> Tensor:
        return input[self.index]

    def extra_repr(self) -> str:
        return f"begin={self.step[1]}, end={self.step[2]}"


class Finishing(torch.nn.Module):
    """An activation of a tensor, or of the sum of two.

    Args:
        activation: "relu", or a clamp, as conv2d_packed takes them; None for the sum alone. Both have the same bits
            wherever they are computed, as those of other activations have not.
    """

    def __init__(self, activation: ActivationArgument = None) -> None:
        super().__init__()
        self.finish = finish_argument(activation, False)
        self.step = -6, self.finish.activation, 0, 0

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.finish.of(input, residual)

    def extra_repr(self) -> str:
        return f"activation={NAMES[self.finish.activation]!r}"
