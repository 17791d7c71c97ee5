"""Pooling between convolutions: convert(model, inference=True) makes such layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._ops.recorded import as_fields


class MaxPool(torch.nn.Module):
    """Maxima of windows of images [N, C, H, W], as torch.nn.MaxPool2d without dilation; both padding sides are alike.

    Raises:
        TypeError, ValueError: sizes that are no ints below 2^15.
    """

    def __init__(
        self, kernel_size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], ceil_mode: bool
    ) -> None:
        super().__init__()
        self.arguments = kernel_size, stride, padding, (1, 1), ceil_mode
        self.step = -3, *as_fields(stride, padding, kernel_size), int(ceil_mode)

    def forward(self, input: Tensor) -> Tensor:
        return F.max_pool2d(input, *self.arguments)

    def extra_repr(self) -> str:
        kernel_size, stride, padding, _, ceil_mode = self.arguments
        return f"{kernel_size=}, {stride=}, {padding=}, {ceil_mode=}"


class AveragePool(torch.nn.Module):
    """Means of windows of images [N, C, H, W], as torch.nn.AvgPool2d without a divisor of its own.

    Raises:
        TypeError, ValueError: sizes that are no ints below 2^15.
    """

    def __init__(
        self,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> None:
        super().__init__()
        self.arguments = kernel_size, stride, padding, ceil_mode, count_include_pad
        self.step = -7, *as_fields(stride, padding, kernel_size), ceil_mode | count_include_pad << 1

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool2d(input, *self.arguments)

    def extra_repr(self) -> str:
        kernel_size, stride, padding, ceil_mode, count_include_pad = self.arguments
        return f"{kernel_size=}, {stride=}, {padding=}, {ceil_mode=}, {count_include_pad=}"


class ChannelMeans(torch.nn.Module):
    """Means of channels over all pixels: [N, C, H, W] to [N, C, 1, 1], as torch.nn.AdaptiveAvgPool2d(1)."""

    step = -1, 0, 0, 0

    def forward(self, input: Tensor) -> Tensor:
        return input.mean((-2, -1), keepdim=True)
