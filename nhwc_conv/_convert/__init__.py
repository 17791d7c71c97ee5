"""Replacing the convolutions of a model, and back.

`public` is what users call; `survey` finds what there is, `classes` decides what is taken (`own` how, if it convolves
by itself), `layers` replaces it. For inference `calls` watches the model compute the example, `tracing` makes torch.fx
graphs, `simplify` goes through the model and rewrites them by `graph`, `functions`, `fold` and `fuse`, and `check`
compares what comes out.
"""

from .layers import revert
from .public import convert
from .report import ConvertReport

__all__ = ["ConvertReport", "convert", "revert"]
