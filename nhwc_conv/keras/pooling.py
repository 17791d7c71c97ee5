"""Pooling, of images in channels_last: Keras' PyTorch backend copies them into NCHW memory and leaves results there."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .._geometry import SAME, same_sides
from .convolutions import on_cpu


def transpose_spatial_inputs(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def transposed(inputs: Any) -> Any:
        # A view in channels_last, which torch pools as it lies. Of sequences it would make a copy of its own.
        return inputs.permute(0, 3, 1, 2) if inputs.dim() == 4 and on_cpu(inputs) else original(inputs)

    return transposed


def max_pool_same(images: Tensor, size: tuple[int, int], strides: tuple[int, int]) -> Tensor:
    """Of images [N, C, H, W], with windows that reach as far beyond them as padding="same" has it."""
    down, across = (
        same_sides(n, k, step, 1, SAME) for n, k, step in zip(images.shape[2:], size, strides, strict=True)
    )
    axes = zip((down, across), strides, strict=True)
    if all(before == after or step > 1 for (before, after), step in axes):
        # Windows end beyond the image.
        return F.max_pool2d(images, size, strides, (down[0], across[0]), 1, True)
    return F.max_pool2d(F.pad(images, (*across, *down), value=float("-inf")), size, strides)
