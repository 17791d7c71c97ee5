"""NHWC/HWIO 2-D convolution for PyTorch on CPU, behind ops that every PyTorch subsystem understands."""

from . import functional, nn, reference
from ._convert import convert
from ._explain import explain
from ._extension import show_config
from ._extension import version as __version__
from ._flags import flags, set_flags
from ._prepack import prepack
from .functional import conv2d
from .nn import Conv2d, NHWCConv2d

__all__ = [
    "Conv2d",
    "NHWCConv2d",
    "__version__",
    "conv2d",
    "convert",
    "explain",
    "flags",
    "functional",
    "nn",
    "prepack",
    "reference",
    "set_flags",
    "show_config",
]
