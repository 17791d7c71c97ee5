"""Layers: `NHWCConv2d`, of NHWC tensors and HWIO weights, and `Conv2d`, a drop-in for torch.nn.Conv2d."""

from .drop_in import Conv2d
from .fused import ConvReLU2d
from .nhwc import NHWCConv2d

__all__ = ["Conv2d", "ConvReLU2d", "NHWCConv2d"]
