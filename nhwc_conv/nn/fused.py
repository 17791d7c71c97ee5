"""A convolution that does what follows it, too: made by convert(model, inference=True)."""

from __future__ import annotations

import torch
from torch import Tensor

from .drop_in import Conv2d, as_torch


class ConvReLU2d(Conv2d):
    """nhwc_conv.Conv2d followed by ReLU, in place of the convolution's result."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, weight, bias).relu_()

    def to_torch(self) -> torch.nn.Sequential:  # type: ignore[override]  # no convolution of torch.nn does ReLU
        """A torch.nn.Conv2d that shares everything with this layer, and a ReLU behind it."""
        return torch.nn.Sequential(as_torch(self, torch.nn.Conv2d), torch.nn.ReLU()).train(self.training)
