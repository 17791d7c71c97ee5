"""Layers of channels-last tensors, `NHWC...` and `NWC...`, drop-ins for torch.nn, and lazy variants of both."""

from . import init
from .drop_in import Conv2d
from .drop_in_1d import Conv1d
from .drop_in_transposed import ConvTranspose1d, ConvTranspose2d
from .fused import FusedConv1d, FusedConv2d, FusedConvTranspose1d, FusedConvTranspose2d
from .layout import weight_layout
from .lazy import (
    LazyConv1d,
    LazyConv2d,
    LazyConvTranspose1d,
    LazyConvTranspose2d,
    LazyNHWCConv2d,
    LazyNHWCConvTranspose2d,
    LazyNWCConv1d,
    LazyNWCConvTranspose1d,
)
from .linear import FusedLinear
from .nhwc import NHWCConv2d
from .nwc import NWCConv1d
from .nwc_transposed import NWCConvTranspose1d
from .transposed import NHWCConvTranspose2d

__all__ = [
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "FusedConv1d",
    "FusedConv2d",
    "FusedConvTranspose1d",
    "FusedConvTranspose2d",
    "FusedLinear",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyNHWCConv2d",
    "LazyNHWCConvTranspose2d",
    "LazyNWCConv1d",
    "LazyNWCConvTranspose1d",
    "NHWCConv2d",
    "NHWCConvTranspose2d",
    "NWCConv1d",
    "NWCConvTranspose1d",
    "init",
    "weight_layout",
]
