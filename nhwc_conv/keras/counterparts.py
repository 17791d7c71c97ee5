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
from keras.src.ops import numpy as operations
from torch import Tensor, nn

from ..nn.exchange import set_parameters
from .activations import activated
from .convolved import conv, conv_transpose, dense, depthwise_conv, in_images, separable_conv
from .pooling import max_pool_same
from .values import Maker, Value, optional, weights

Counterpart = Callable[[Maker, Any, Any], "Value | None"]  # None: the layer itself has to run


def batch_normalization(make: Maker, layer: Any, value: Value) -> Value | None:
    if layer.axis not in (-1, value.rank - 1) or value.rank not in (3, 4) or layer.renorm:
        return None
    mean, variance = weights(layer.moving_mean), weights(layer.moving_variance)
    norm = nn.BatchNorm2d(len(mean), eps=layer.epsilon, device="meta")
    norm.running_mean, norm.running_var = mean.clone(), variance.clone()
    scale, shift = optional(layer.gamma), optional(layer.beta)
    set_parameters(
        norm, torch.ones_like(mean) if scale is None else scale, mean * 0 if shift is None else shift
    )
    return Value(value.rank, images=make.module(layer.name, norm, make.images(value)))


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


def zero_padding(make: Maker, layer: Any, value: Value) -> Value | None:
    if value.rank == 4 and layer.data_format != "channels_last":
        return None
    (top, bottom), (left, right) = ((0, 0), layer.padding) if value.rank == 3 else layer.padding
    return make.padded(value, (left, right, top, bottom))


def pool(functions: dict[str, Callable[..., Any]], make: Maker, layer: Any, value: Value) -> Value | None:
    """By the function for the layer's padding, if there is one."""
    if layer.data_format != "channels_last" or layer.padding not in functions:
        return None
    steps = in_images(layer.pool_size), in_images(layer.strides)
    return Value(value.rank, images=make.call(functions[layer.padding], make.images(value), *steps))


def global_pool(function: Callable[..., Any], make: Maker, layer: Any, value: Value) -> Value | None:
    if layer.data_format != "channels_last":
        return None
    images = make.call(function, make.images(value), (2, 3), keepdim=True)
    return Value(value.rank if layer.keepdims else 2, images=images)


def up_sampling(make: Maker, layer: Any, value: Value) -> Value | None:
    times = (1, layer.size) if value.rank == 3 else layer.size
    if value.rank == 4 and (layer.data_format != "channels_last" or layer.interpolation != "nearest"):
        return None
    return Value(value.rank, images=make.call(repeated, make.images(value), times))


def repeated(images: Tensor, times: tuple[int, int]) -> Tensor:
    return F.interpolate(images, scale_factor=[float(n) for n in times], mode="nearest")


def flatten(make: Maker, layer: Any, value: Value) -> Value | None:
    if layer.data_format != "channels_last" or value.rank < 3:
        return None
    return Value(2, make.call(torch.flatten, make.plain(value), 1))


def reshape(make: Maker, layer: Any, value: Value) -> Value | None:
    one_pixel = value.rank == 2 and value.images is not None and tuple(layer.target_shape[:2]) == (1, 1)
    return Value(4, images=value.images) if one_pixel and len(layer.target_shape) == 3 else None


def activation(make: Maker, layer: Any, value: Value) -> Value:
    return activated(make, value, layer.activation)


def idle(make: Maker, layer: Any, value: Value) -> Value:
    return value


def concatenate(make: Maker, layer: Any, values: list[Value]) -> Value | None:
    ranks = {v.rank for v in values}
    if not (ranks == {3} or ranks == {4}) or layer.axis not in (-1, values[0].rank - 1):
        return None
    return Value(values[0].rank, images=make.call(torch.cat, [make.images(v) for v in values], dim=1))


def combine(
    function: Callable[[Any, Any], Any], make: Maker, layer: Any, values: list[Value]
) -> Value | None:
    return make.combined(values, function) if len({v.rank for v in values}) == 1 else None


# By the very class: others may do more.
TABLE: dict[type, Counterpart] = {
    **dict.fromkeys((layers.Conv1D, layers.Conv2D), conv),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), depthwise_conv),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), separable_conv),
    **dict.fromkeys((layers.Conv1DTranspose, layers.Conv2DTranspose), conv_transpose),
    layers.Dense: dense,
    layers.BatchNormalization: batch_normalization,
    layers.LayerNormalization: layer_normalization,
    LayerScale: layer_scale,
    layers.Activation: activation,
    layers.ReLU: relu,
    **dict.fromkeys((layers.ZeroPadding1D, layers.ZeroPadding2D), zero_padding),
    **dict.fromkeys(
        (layers.MaxPooling1D, layers.MaxPooling2D),
        partial(pool, {"valid": F.max_pool2d, "same": max_pool_same}),
    ),
    **dict.fromkeys(
        (layers.AveragePooling1D, layers.AveragePooling2D), partial(pool, {"valid": F.avg_pool2d})
    ),
    **dict.fromkeys(
        (layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D), partial(global_pool, torch.mean)
    ),
    **dict.fromkeys((layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D), partial(global_pool, torch.amax)),
    **dict.fromkeys((layers.UpSampling1D, layers.UpSampling2D), up_sampling),
    layers.Reshape: reshape,
    layers.Flatten: flatten,
    **dict.fromkeys(
        (layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.Identity, StochasticDepth),
        idle,
    ),
    layers.Concatenate: concatenate,
    **dict.fromkeys((layers.Add, operations.Add), partial(combine, operator.add)),
    **dict.fromkeys((layers.Multiply, operations.Multiply), partial(combine, operator.mul)),
}
