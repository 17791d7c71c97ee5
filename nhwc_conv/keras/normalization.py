"""Batch normalisation of the last axis in one pass, where Keras' PyTorch backend takes a row of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from keras.src import backend, ops
from keras.src.backend.torch.core import convert_to_tensor
from keras.src.layers import BatchNormalization
from torch import Tensor

from .._ops import is_transformed
from .convolutions import on_cpu


def is_ours(x: Tensor, axis: int, tensors: list[Tensor]) -> bool:
    """Whether torch's has the values and the gradients of Keras' for `x` and what belongs to each channel."""
    return (
        axis in (-1, x.dim() - 1)
        and x.dim() > 1
        and x.is_contiguous()
        and on_cpu(x, *tensors)
        and all(tuple(t.shape) == (x.shape[-1],) for t in tensors)
        and (torch.compiler.is_compiling() or not is_transformed())
    )


def normalized(
    x: Tensor,
    axis: int,
    mean: Tensor,
    variance: Tensor,
    offset: Tensor | None,
    scale: Tensor | None,
    epsilon: float,
) -> Tensor | None:
    """By given moments; None where that is for Keras to do."""
    tensors = [t for t in (mean, variance, offset, scale) if t is not None]
    if not is_ours(x, axis, tensors):
        return None
    if not (torch.is_grad_enabled() and any([t.requires_grad for t in (x, *tensors)])):
        # torch's takes these steps by itself, but not a vector at a time.
        factor = (variance + epsilon).rsqrt()
        factor = factor if scale is None else factor * scale
        shift = -mean * factor if offset is None else torch.addcmul(offset, mean, factor, value=-1)
        return torch.addcmul(shift, x, factor)
    if mean.requires_grad or variance.requires_grad:  # of which torch's has no gradients
        return None
    pixels = x.flatten(0, -2)
    return F.batch_norm(pixels, mean, variance, scale, offset, False, 0.0, epsilon).view(x.shape)


def batch_normalization(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def normalize(
        x: Any,
        mean: Any,
        variance: Any,
        axis: int,
        offset: Any = None,
        scale: Any = None,
        epsilon: float = 1e-3,
    ) -> Any:
        x, mean, variance = map(convert_to_tensor, (x, mean, variance))
        offset, scale = (None if t is None else convert_to_tensor(t) for t in (offset, scale))
        out = normalized(x, axis, mean, variance, offset, scale, epsilon)
        return original(x, mean, variance, axis, offset, scale, epsilon) if out is None else out

    return normalize


def trained(
    layer: Any, x: Tensor, mean: Tensor, variance: Tensor, offset: Tensor | None, scale: Tensor | None
) -> Tensor | None:
    """By the moments of `x`, towards which those of the layer are moved; None where that is for Keras to do."""
    usual = not (layer.renorm or layer.synchronized) and type(layer)._moments is BatchNormalization._moments
    count = x.numel() // max(x.shape[-1], 1)
    tensors = [mean, variance, *(t for t in (offset, scale) if t is not None)]
    if not usual or count < 2 or not is_ours(x, layer.axis, tensors):
        return None
    step, found = 1.0 - layer.momentum, torch.zeros_like(variance)
    out = F.batch_norm(x.flatten(0, -2), mean, found, scale, offset, True, step, layer.epsilon)
    # torch's is by count - 1, Keras' by count.
    variance.mul_(layer.momentum).add_(found, alpha=(count - 1) / count)
    return out.view(x.shape)


def call(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def normalize(self: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and self.trainable and mask is None):
            return original(self, inputs, training=training, mask=mask)
        x = ops.cast(inputs, backend.result_type(inputs.dtype, "float32"))
        moving = [ops.cast(t, x.dtype) for t in (self.moving_mean, self.moving_variance)]
        scale, offset = (None if t is None else ops.cast(t, x.dtype) for t in (self.gamma, self.beta))
        mean, variance = (torch.clone(t) for t in moving)
        out = trained(self, x, mean, variance, offset, scale)
        if out is None:
            return original(self, inputs, training=training, mask=mask)
        for variable, values in zip((self.moving_mean, self.moving_variance), (mean, variance), strict=True):
            variable.assign(values)
        return ops.cast(out, self.compute_dtype)

    return normalize
