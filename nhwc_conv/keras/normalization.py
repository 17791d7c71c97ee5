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


def call(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def normalize(self: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        usual = not (self.renorm or self.synchronized) and type(self)._moments is BatchNormalization._moments
        if not (training and self.trainable and usual and mask is None):
            return original(self, inputs, training=training, mask=mask)
        x = ops.cast(inputs, backend.result_type(inputs.dtype, "float32"))
        moving = [ops.cast(t, x.dtype) for t in (self.moving_mean, self.moving_variance)]
        scale, offset = (None if t is None else ops.cast(t, x.dtype) for t in (self.gamma, self.beta))
        count = x.numel() // max(x.shape[-1], 1)
        tensors = [*moving, *(t for t in (scale, offset) if t is not None)]
        if count < 2 or not is_ours(x, self.axis, tensors):
            return original(self, inputs, training=training, mask=mask)
        mean, variance = torch.zeros_like(moving[0]), torch.zeros_like(moving[1])
        # With this momentum they become those of the batch; the variance by count - 1, Keras' is by count.
        out = F.batch_norm(x.flatten(0, -2), mean, variance, scale, offset, True, 1.0, self.epsilon)
        batch = mean, variance * ((count - 1) / count)
        for variable, old, new in zip((self.moving_mean, self.moving_variance), moving, batch, strict=True):
            variable.assign(old * self.momentum + new * (1.0 - self.momentum))
        return ops.cast(out.view(x.shape), self.compute_dtype)

    return normalize
