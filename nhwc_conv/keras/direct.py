"""What layers of Keras compute, on tensors that need no conversion, from the values that their variables have now."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from keras.src import activations, layers
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.backend.common.stateless_scope import in_stateless_scope
from torch import Tensor

from ..functional import conv2d
from .activations import ACTIVATIONS
from .convolutions import forward
from .normalization import normalized, trained

# (layer, inputs, training); None: Keras has to be asked.
Direct = Callable[[Any, Any, Any], "Tensor | None"]
# Of Dense: from here on a 1x1 convolution of as many pixels is no slower than addmm where that is Intel's library on
# Intel's processors, and twice as fast on AMD's.
MANY_ROWS = 32
ACCUMULATED = torch.float32, torch.float64  # those that Keras sums as they are


def value(variable: Any) -> Tensor | None:
    tensor: Tensor | None = None if variable is None else variable.value
    return tensor


def bias_of(layer: Any) -> Tensor | None:
    return value(layer.bias) if layer.use_bias else None


def activated(layer: Any, out: Tensor) -> Any:
    activation = layer.activation
    if activation in (None, activations.linear):
        return out
    function, given = ACTIVATIONS.get(activation, (activation, {}))
    return function(out, **given)


def are_usual(layer: Any) -> bool:
    return layer.data_format == "channels_last" and layer.padding in ("same", "valid")


def steps_of(layer: Any) -> tuple[Any, ...]:
    return layer.strides, layer.padding, layer.dilation_rate


def conv(layer: Any, x: Tensor, training: Any) -> Any:
    if not are_usual(layer) or layer.lora_enabled:
        return None
    return activated(layer, forward(x, layer._kernel.value, bias_of(layer), *steps_of(layer)))


def depthwise_conv(layer: Any, x: Tensor, training: Any) -> Any:
    if not are_usual(layer):
        return None
    kernel = layer.kernel.value.flatten(-2).unsqueeze(-2)
    return activated(layer, forward(x, kernel, bias_of(layer), *steps_of(layer)))


def separable_conv(layer: Any, x: Tensor, training: Any) -> Any:
    if not are_usual(layer):
        return None
    kernel = layer.depthwise_kernel.value.flatten(-2).unsqueeze(-2)
    inner = forward(x, kernel, None, *steps_of(layer))
    return activated(layer, forward(inner, layer.pointwise_kernel.value, bias_of(layer), 1, "valid", 1))


def dense(layer: Any, x: Tensor, training: Any) -> Any:
    if layer.lora_enabled or x.dtype == torch.float16:  # which Keras computes in float32
        return None
    kernel, bias = layer._kernel.value, value(layer.bias)
    rows = x.flatten(0, -2)
    if len(rows) >= MANY_ROWS and x.dtype in ACCUMULATED:
        out = conv2d(rows[None, None], kernel[None, None], bias)
    else:
        out = torch.mm(rows, kernel) if bias is None else torch.addmm(bias, rows, kernel)
    return activated(layer, out.view(*x.shape[:-1], kernel.shape[1]))


def batch_normalization(layer: Any, x: Tensor, training: Any) -> Any:
    out = None
    if x.dtype in ACCUMULATED:
        scale, offset = (value(t) for t in (layer.gamma, layer.beta))
        moving = layer.moving_mean.value, layer.moving_variance.value
        if not (training and layer.trainable):
            out = normalized(x, layer.axis, *moving, offset, scale, layer.epsilon)
        elif not in_stateless_scope():  # where values are not the variables' own
            out = trained(layer, x, *moving, offset, scale)
    return layer.call(x, training=training) if out is None else out


def layer_normalization(layer: Any, x: Tensor, training: Any) -> Any:
    if layer.axis not in ([-1], [x.dim() - 1]) or layer.rms_scaling or x.dtype not in ACCUMULATED:
        return None
    return F.layer_norm(x, x.shape[-1:], value(layer.gamma), value(layer.beta), layer.epsilon)


def layer_scale(layer: Any, x: Tensor, training: Any) -> Any:
    return x * layer.gamma.value


def activation(layer: Any, x: Tensor, training: Any) -> Any:
    return activated(layer, x)


def relu(layer: Any, x: Tensor, training: Any) -> Any:
    if layer.threshold != 0 or layer.negative_slope != 0:
        return None
    if layer.max_value == 6:
        return F.relu6(x)
    x = torch.relu(x)  # before it is clamped, as Keras has it: gradients at zero are zero
    return x if layer.max_value is None else torch.clamp(x, max=layer.max_value)


def global_average(layer: Any, x: Tensor, training: Any) -> Any:
    if layer.data_format != "channels_last" or x.dtype not in ACCUMULATED:
        return None
    return torch.mean(x, tuple(range(1, x.dim() - 1)), layer.keepdims)


def zero_padding2d(layer: Any, x: Tensor, training: Any) -> Any:
    if layer.data_format != "channels_last":
        return None
    (top, bottom), (left, right) = layer.padding
    return F.pad(x, (0, 0, left, right, top, bottom))


def combine(function: Callable[[Any, Any], Any], layer: Any, inputs: Any, training: Any) -> Any:
    if type(inputs) is not list or layer._reshape_required:
        return None
    first, *rest = inputs
    for x in rest:
        first = function(first, x)
    return first


def as_it_is(layer: Any, inputs: Any, training: Any) -> Any:
    return layer.call(inputs)


def in_training(layer: Any, inputs: Any, training: Any) -> Any:
    return layer.call(inputs, training=training)


# By the very class: others may do more. None of these keeps anything of a call but in its variables.
TABLE: dict[type, Direct] = {
    layers.Conv1D: conv,
    layers.Conv2D: conv,
    layers.DepthwiseConv1D: depthwise_conv,
    layers.DepthwiseConv2D: depthwise_conv,
    layers.SeparableConv1D: separable_conv,
    layers.SeparableConv2D: separable_conv,
    layers.Dense: dense,
    layers.BatchNormalization: batch_normalization,
    layers.LayerNormalization: layer_normalization,
    LayerScale: layer_scale,
    layers.Activation: activation,
    layers.ReLU: relu,
    layers.ZeroPadding2D: zero_padding2d,
    **dict.fromkeys((layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D), global_average),
    layers.Add: partial(combine, torch.add),
    layers.Multiply: partial(combine, torch.mul),
    **dict.fromkeys(
        (layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, StochasticDepth), in_training
    ),
    **dict.fromkeys(
        (
            layers.Conv1DTranspose,
            layers.Conv2DTranspose,
            layers.MaxPooling1D,
            layers.MaxPooling2D,
            layers.AveragePooling1D,
            layers.AveragePooling2D,
            layers.GlobalMaxPooling1D,
            layers.GlobalMaxPooling2D,
            layers.Concatenate,
            layers.Cropping2D,
            layers.UpSampling2D,
            layers.Reshape,
            layers.Flatten,
            layers.Identity,
        ),
        as_it_is,
    ),
}
