"""Max pooling between convolutions: convert(model, inference=True) makes such layers."""

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
