"""Images put together, cut, added, multiplied and resized: convert(model, inference=True) makes such layers.

`step` of a layer is its kind and three numbers, of a step of a program: csrc/binding/program.cpp.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._ops.finish import NAMES, ActivationArgument, finish_argument


class Concatenation(torch.nn.Module):
    """Tensors [N, C, H, W] as one, along their channels."""

    kind = -4
    step = kind, 0, 0, 0  # the program says which tensors it reads

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
        self.numbers = self.finish.alpha, self.finish.beta

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.finish.of(input, residual)

    def extra_repr(self) -> str:
        return f"activation={NAMES[self.finish.activation]!r}"


class Product(torch.nn.Module):
    """Images [N, C, H, W] times others, or times factors [N, C, 1, 1] of their channels."""

    step = -2, 0, 0, 0

    def forward(self, input: Tensor, factors: Tensor) -> Tensor:
        return input * factors


class ChannelShuffle(torch.nn.Module):
    """As torch.nn.ChannelShuffle."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.step = -9, 0, 0, groups

    def forward(self, input: Tensor) -> Tensor:
        return torch.channel_shuffle(input, self.step[-1])

    def extra_repr(self) -> str:
        return f"groups={self.step[-1]}"


class Flattening(torch.nn.Module):
    """Images [N, C, H, W] as rows of numbers [N, C * H * W]: where they lie, if that is possible."""

    kind = -10
    step = kind, 0, 0, 0

    def forward(self, input: Tensor) -> Tensor:
        return torch.flatten(input, 1)


class Resizing(torch.nn.Module):
    """Images [N, C, H, W] of another height and width, as by F.interpolate.

    Args:
        mode: "nearest", "nearest-exact" or "bilinear".
        align_corners: of "bilinear"; None for the others.
        size: the height and width. None: those of a second tensor that the layer is called with, or `scale`.
        scale: factors of the height and the width.
    """

    MODES = ("nearest", None), ("nearest-exact", None), ("bilinear", False), ("bilinear", True)

    def __init__(
        self,
        mode: str,
        align_corners: bool | None,
        size: tuple[int, int] | None = None,
        scale: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.mode, self.align_corners, self.size, self.scale = mode, align_corners, size, scale
        self.step = -8, *(size or (0, 0)), self.MODES.index((mode, align_corners))
        self.numbers = scale or (0.0, 0.0)

    def forward(self, input: Tensor, like: Tensor | None = None) -> Tensor:
        size = self.size if like is None else like.shape[2:]
        return F.interpolate(input, size, self.scale, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        size = f"size={self.size}" if self.scale is None else f"scale={self.scale}"
        return f"mode={self.mode!r}, align_corners={self.align_corners}, {size}"
