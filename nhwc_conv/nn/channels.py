"""What squeeze-and-excitation does between its convolutions: convert(model, inference=True) makes such layers."""

from __future__ import annotations

import torch
from torch import Tensor


class ChannelMeans(torch.nn.Module):
    """Means of channels over all pixels: [N, C, H, W] to [N, C, 1, 1], as torch.nn.AdaptiveAvgPool2d(1)."""

    step = -1, 0, 0, 0  # of a program: csrc/binding/program.cpp

    def forward(self, input: Tensor) -> Tensor:
        return input.mean((-2, -1), keepdim=True)


class ChannelScale(torch.nn.Module):
    """Images [N, C, H, W] whose channels are multiplied by factors [N, C, 1, 1]."""

    step = -2, 0, 0, 0

    def forward(self, input: Tensor, factors: Tensor) -> Tensor:
        return input * factors
