"""Convolutions of Keras' PyTorch backend: those that ours compute, and the original for all others."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from keras.src.backend import standardize_data_format
from keras.src.backend.torch.core import convert_to_tensor
from keras.src.utils.argument_validation import standardize_tuple
from torch import Tensor
from torch._C import _get_tracing_state as tracing_state

from .._geometry import extent
from .._geometry.dtypes import COMPUTED
from ..functional import REFUSED, conv2d, conv_transpose2d
from ..functional_1d import conv1d, conv_transpose1d
from ..nn.exchange import padding_of_keras

# By the number of axes. What these refuse the original is asked for: it computes it, or says why not in Keras' words.
FORWARD: dict[int, Callable[..., Tensor]] = {1: conv1d, 2: conv2d}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {1: conv_transpose1d, 2: conv_transpose2d}


def on_cpu(*tensors: Tensor) -> bool:
    """Whether all are on the CPU and of one dtype that is computed here."""
    dtype = tensors[0].dtype
    return dtype in COMPUTED and all(t.dtype == dtype and t.device.type == "cpu" for t in tensors)


def are_ours(x: Tensor, w: Tensor, data_format: str | None) -> bool:
    channels_last = standardize_data_format(data_format) == "channels_last"
    # Keras exports to ONNX by torch.jit's tracer, whose exporter knows no ops but torch's.
    channels_last = channels_last and tracing_state() is None
    return channels_last and x.dim() == w.dim() and x.dim() - 2 in FORWARD and on_cpu(x, w)


def forward(
    x: Tensor, w: Tensor, bias: Tensor | None, strides: Any, padding: str, dilation_rate: Any
) -> Tensor:
    """A convolution whose groups follow from the sizes, as they do in Keras; padding is "same" or "valid"."""
    zeros = "same" if padding == "same" else 0
    return FORWARD[x.dim() - 2](x, w, bias, strides, zeros, dilation_rate, x.shape[-1] // w.shape[-2])


def conv(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def convolve(
        inputs: Any,
        kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
    ) -> Any:
        x, w = convert_to_tensor(inputs), convert_to_tensor(kernel)
        if are_ours(x, w, data_format) and x.shape[-1] % w.shape[-2] == 0:
            try:
                steps = standardize_tuple(strides, x.dim() - 2, "strides")
                return forward(x, w, None, steps, padding, dilation_rate)
            except REFUSED:
                pass
        return original(x, w, strides, padding, data_format, dilation_rate)

    return convolve


def conv_transpose(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def convolve(
        inputs: Any,
        kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
    ) -> Any:
        x, w = convert_to_tensor(inputs), convert_to_tensor(kernel)
        if are_ours(x, w, data_format):
            axes = x.dim() - 2
            try:
                steps = standardize_tuple(strides, axes, "strides")
                apart = standardize_tuple(dilation_rate, axes, "dilation_rate")
                more = output_padding
                if more is not None:
                    more = standardize_tuple(more, axes, "output_padding", allow_zero=True)
                extents = tuple(map(extent, w.shape[:axes], apart))
                sides, more = padding_of_keras(padding.lower(), more, extents, steps)
                return TRANSPOSED[axes](x, w, None, steps, sides, more, 1, apart)
            except REFUSED:
                pass
        return original(x, w, strides, padding, output_padding, data_format, dilation_rate)

    return convolve
