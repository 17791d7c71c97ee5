"""Which functions of Keras are replaced, and by what: each entry makes the new one from the original."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras.src.backend.torch import nn
from keras.src.backend.torch.layer import TorchLayer
from keras.src.layers import BatchNormalization, Layer
from keras.src.ops.symbolic_arguments import SymbolicArguments

from .calls import fill_in, layer_call, track_variables
from .convolutions import conv, conv_transpose
from .normalization import batch_normalization, call
from .pooling import transpose_spatial_inputs

# depthwise_conv and separable_conv of that module call its conv.
TABLE: list[tuple[Any, str, Callable[[Any], Any]]] = [
    (nn, "conv", conv),
    (nn, "conv_transpose", conv_transpose),
    (nn, "_transpose_spatial_inputs", transpose_spatial_inputs),
    (nn, "batch_normalization", batch_normalization),
    (BatchNormalization, "call", call),
    (Layer, "__call__", layer_call),
    (SymbolicArguments, "fill_in", fill_in),
    (TorchLayer, "_track_variables", track_variables),
]
