"""Replacing the convolutions of a model, and back.

`public` is what users call; `layers` walks modules, `classes` decides which, `tracing` makes torch.fx graphs and
`graph` rewrites them for inference, `check` compares what comes out.
"""

from .layers import revert
from .public import convert
from .report import ConvertReport

__all__ = ["ConvertReport", "convert", "revert"]
