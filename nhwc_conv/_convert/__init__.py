"""Replacing the convolutions of a model, and back.

`public` is what users call; `layers` walks modules, `classes` decides which, `graph` rewrites torch.fx graphs for
inference, `check` compares what comes out.
"""

from .layers import revert
from .public import convert
from .report import ConvertReport

__all__ = ["ConvertReport", "convert", "revert"]
