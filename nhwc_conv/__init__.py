"""NHWC/HWIO 2-D convolution for PyTorch on CPU, behind ops that every PyTorch subsystem understands."""

from . import functional, nn, reference
from . import keras as keras  # not in __all__, where it would stand in the way of Keras
from ._benchmark import BenchmarkReport, benchmark
from ._compile import compile_backend
from ._convert import ConvertReport, convert, revert
from ._explain import explain
from ._extension import show_config
from ._extension import version as __version__
from ._flags import flags, set_flags
from ._ops import ops
from ._prepack import prepack
from .functional import conv2d, conv_transpose2d
from .functional_1d import conv1d, conv_transpose1d
from .nn import (
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    LazyConv1d,
    LazyConv2d,
    LazyConvTranspose1d,
    LazyConvTranspose2d,
    LazyNHWCConv2d,
    LazyNHWCConvTranspose2d,
    LazyNWCConv1d,
    LazyNWCConvTranspose1d,
    NHWCConv2d,
    NHWCConvTranspose2d,
    NWCConv1d,
    NWCConvTranspose1d,
    weight_layout,
)

__all__ = [
    "BenchmarkReport",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvertReport",
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
    "__version__",
    "benchmark",
    "compile_backend",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "convert",
    "explain",
    "flags",
    "functional",
    "nn",
    "ops",
    "prepack",
    "reference",
    "revert",
    "set_flags",
    "show_config",
    "weight_layout",
]
