"""What takes the place of each kind of Keras layer in the graph of a prepared model."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from keras.src import activations, layers
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.backend.torch.core import convert_to_tensor
from keras.src.ops import numpy as operations
from torch import Tensor, nn

from ..nn import Conv2d
from ..nn.exchange import set_parameters
from .pooling import max_pool_same
from .values import Maker, Value

Counterpart = Callable[[Maker, Any, Any], "Value | None"]  # None: the layer itself has to run

ACTIVATIONS: dict[Any, tuple[Callable[..., Any], dict[str, float]]] = {
    activations.relu: (F.relu, {}),
    activations.relu6: (F.relu6, {}),
    activations.sigmoid: (torch.sigmoid, {}),
    activations.hard_sigmoid: (F.hardsigmoid, {}),
    activations.silu: (F.silu, {}),
    activations.hard_silu: (F.hardswish, {}),
    activations.tanh: (torch.tanh, {}),
    activations.gelu: (F.gelu, {}),
    activations.mish: (F.mish, {}),
    activations.elu: (F.elu, {}),
    activations.leaky_relu: (F.leaky_relu, {"negative_slope": 0.2}),
}


def weights(variable: Any) -> Tensor:
    tensor: Tensor = convert_to_tensor(variable).detach()
    return tensor


def optional(variable: Any) -> Tensor | None:
    return None if variable is None else weights(variable)


def activated(make: Maker, value: Value, activation: Any) -> Value:
    if activation in (None, activations.linear):
        return value
    if activation not in ACTIVATIONS:
        return Value(value.rank, make.call(activation, make.plain(value)))
    function, given = ACTIVATIONS[activation]
    return make.elementwise(value, lambda node: make.call(function, node, **given))


Steps = tuple[bool, tuple[int, ...], tuple[int, ...]]  # whether padding is "same", strides, dilation_rate
POINTWISE: Steps = False, (1, 1), (1, 1)


def steps_of(layer: Any) -> Steps:
    return layer.padding == "same", tuple(layer.strides), tuple(layer.dilation_rate)


def convolved(
    make: Maker, name: str, value: Value, kernel: Tensor, steps: Steps, groups: int, bias: Any
) -> Value:
    """By `kernel` [KH, KW, C/groups, O]."""
    KH, KW, C, O = kernel.shape  # noqa: E741
    same, stride, dilation = steps
    images = make.images(value, zeros=same)  # without "same" the kernel does them
    left, right, top, bottom = value.zeros
    padding: Any = "same" if same else (top, bottom, left, right) if any(value.zeros) else 0
    module: Any = Conv2d(C * groups, O, (KH, KW), 1, padding, 1, groups, bias is not None, device="meta")
    module.stride, module.dilation = stride, dilation  # torch.nn takes no "same" with strides
    set_parameters(module, kernel.permute(3, 2, 0, 1), optional(bias))
    return Value(4, images=make.module(name, module, images))


def is_plain_convolution(layer: Any, value: Value) -> bool:
    return value.rank == 4 and layer.data_format == "channels_last" and layer.padding in ("same", "valid")


def conv2d(make: Maker, layer: Any, value: Value) -> Value | None:
    if not is_plain_convolution(layer, value):
        return None
    kernel, steps = weights(layer.kernel), steps_of(layer)
    out = convolved(make, layer.name, value, kernel, steps, layer.groups, layer.bias)
    return activated(make, out, layer.activation)


def depthwise(kernel: Tensor) -> tuple[Tensor, int]:
    KH, KW, C, M = kernel.shape
    return kernel.reshape(KH, KW, 1, C * M), C


def depthwise_conv2d(make: Maker, layer: Any, value: Value) -> Value | None:
    if not is_plain_convolution(layer, value):
        return None
    kernel, groups = depthwise(weights(layer.kernel))
    out = convolved(make, layer.name, value, kernel, steps_of(layer), groups, layer.bias)
    return activated(make, out, layer.activation)


def separable_conv2d(make: Maker, layer: Any, value: Value) -> Value | None:
    if not is_plain_convolution(layer, value):
        return None
    kernel, groups = depthwise(weights(layer.depthwise_kernel))
    inner = convolved(make, f"{layer.name}_depthwise", value, kernel, steps_of(layer), groups, None)
    out = convolved(make, layer.name, inner, weights(layer.pointwise_kernel), POINTWISE, 1, layer.bias)
    return activated(make, out, layer.activation)


def dense(make: Maker, layer: Any, value: Value) -> Value:
    kernel, bias = weights(layer.kernel), layer.bias
    if value.rank == 4:  # every pixel by itself
        out = convolved(make, layer.name, value, kernel[None, None], POINTWISE, 1, bias)
    else:
        inputs, outputs = kernel.shape
        module = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
        set_parameters(module, kernel.T, optional(bias))
        out = Value(value.rank, make.module(layer.name, module, make.plain(value)))
    return activated(make, out, layer.activation)


def batch_normalization(make: Maker, layer: Any, value: Value) -> Value | None:
    if layer.axis not in (-1, 3) or value.rank != 4 or layer.renorm:
        return None
    mean, variance = weights(layer.moving_mean), weights(layer.moving_variance)
    norm = nn.BatchNorm2d(len(mean), eps=layer.epsilon, device="meta")
    norm.running_mean, norm.running_var = mean.clone(), variance.clone()
    scale, shift = optional(layer.gamma), optional(layer.beta)
    set_parameters(
        norm, torch.ones_like(mean) if scale is None else scale, mean * 0 if shift is None else shift
    )
    return Value(4, images=make.module(layer.name, norm, make.images(value)))


def layer_normalization(make: Maker, layer: Any, value: Value) -> Value | None:
    variables = [v for v in (layer.gamma, layer.beta) if v is not None]
    if list(layer.axis) not in ([-1], [value.rank - 1]) or layer.rms_scaling or not variables:
        return None
    tensors = [
        None if v is None else make.tensor(f"{layer.name}_{v.name}", weights(v))
        for v in (layer.gamma, layer.beta)
    ]
    normalized = make.call(
        F.layer_norm, make.plain(value), tuple(variables[0].shape), *tensors, layer.epsilon
    )
    return Value(value.rank, normalized)


def layer_scale(make: Maker, layer: Any, value: Value) -> Value | None:
    if value.rank != 4:
        return None
    scale = make.tensor(f"{layer.name}_gamma", weights(layer.gamma)[:, None, None])
    return Value(4, images=make.call(operator.mul, make.images(value), scale))


def relu(make: Maker, layer: Any, value: Value) -> Value | None:
    if layer.threshold != 0 or layer.negative_slope != 0:
        return None
    if layer.max_value is None:
        return activated(make, value, activations.relu)
    return make.elementwise(value, lambda node: make.call(torch.clamp, node, min=0.0, max=layer.max_value))


def zero_padding2d(make: Maker, layer: Any, value: Value) -> Value | None:
    if layer.data_format != "channels_last":
        return None
    (top, bottom), (left, right) = layer.padding
    images, before = make.images(value, zeros=False), value.zeros
    zeros: Any = tuple(a + b for a, b in zip(before, (left, right, top, bottom), strict=True))
    return Value(4, images=images, zeros=zeros)


def pool(functions: dict[str, Callable[..., Any]], make: Maker, layer: Any, value: Value) -> Value | None:
    """By the function for the layer's padding, if there is one."""
    if layer.data_format != "channels_last" or layer.padding not in functions:
        return None
    steps = tuple(layer.pool_size), tuple(layer.strides)
    return Value(4, images=make.call(functions[layer.padding], make.images(value), *steps))


def global_average(make: Maker, layer: Any, value: Value) -> Value | None:
    if layer.data_format != "channels_last":
        return None
    return Value(
        4 if layer.keepdims else 2, images=make.call(torch.mean, make.images(value), (2, 3), keepdim=True)
    )


def reshape(make: Maker, layer: Any, value: Value) -> Value | None:
    one_pixel = value.rank == 2 and value.images is not None and tuple(layer.target_shape[:2]) == (1, 1)
    return Value(4, images=value.images) if one_pixel and len(layer.target_shape) == 3 else None


def activation(make: Maker, layer: Any, value: Value) -> Value:
    return activated(make, value, layer.activation)


def idle(make: Maker, layer: Any, value: Value) -> Value:
    return value


def concatenate(make: Maker, layer: Any, values: list[Value]) -> Value | None:
    if any(v.rank != 4 for v in values) or layer.axis not in (-1, 3):
        return None
    return Value(4, images=make.call(torch.cat, [make.images(v) for v in values], dim=1))


def combine(
    function: Callable[[Any, Any], Any], make: Maker, layer: Any, values: list[Value]
) -> Value | None:
    return make.combined(values, function) if len({v.rank for v in values}) == 1 else None


# By the very class: others may do more.
TABLE: dict[type, Counterpart] = {
    layers.Conv2D: conv2d,
    layers.DepthwiseConv2D: depthwise_conv2d,
    layers.SeparableConv2D: separable_conv2d,
    layers.Dense: dense,
    layers.BatchNormalization: batch_normalization,
    layers.LayerNormalization: layer_normalization,
    LayerScale: layer_scale,
    layers.Activation: activation,
    layers.ReLU: relu,
    layers.ZeroPadding2D: zero_padding2d,
    layers.MaxPooling2D: partial(pool, {"valid": F.max_pool2d, "same": max_pool_same}),
    layers.AveragePooling2D: partial(pool, {"valid": F.avg_pool2d}),
    layers.GlobalAveragePooling2D: global_average,
    layers.Reshape: reshape,
    **dict.fromkeys((layers.Dropout, layers.SpatialDropout2D, layers.Identity, StochasticDepth), idle),
    layers.Concatenate: concatenate,
    **dict.fromkeys((layers.Add, operations.Add), partial(combine, operator.add)),
    **dict.fromkeys((layers.Multiply, operations.Multiply), partial(combine, operator.mul)),
}
