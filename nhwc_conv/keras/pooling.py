"""Pooling of Keras' PyTorch backend, which copies images in channels_last into NCHW memory and leaves results there."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from .convolutions import on_cpu


def transpose_spatial_inputs(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def transposed(inputs: Any) -> Any:
        # A view in channels_last, which torch pools as it lies. Of sequences it would make a copy of its own.
        return inputs.permute(0, 3, 1, 2) if inputs.dim() == 4 and on_cpu(inputs) else original(inputs)

    return transposed
