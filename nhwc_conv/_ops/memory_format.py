"""Memory formats of NCHW tensors, by PyTorch's rules."""

from __future__ import annotations

import torch
from torch import Tensor


def in_format(t: Tensor, channels_last: bool) -> Tensor:
    """NCHW or CHW `t`, channels last in memory, as it is or contiguous."""
    # Not contiguous(), which would keep the strides that channels_last gives to dimensions of length 1.
    return t if channels_last else t.clone(memory_format=torch.contiguous_format)


def is_result_channels_last(input: Tensor, weight: Tensor) -> bool:
    """Whether F.conv2d would return its result, and the gradient of `input`, channels last in memory."""
    batch = input if input.dim() == 4 else input.unsqueeze(0)
    return suggests_channels_last(batch) or suggests_channels_last(weight)


def suggests_channels_last(t: Tensor) -> bool:
    """PyTorch's rule for the memory format that an operator on the 4-D tensor `t` should return."""
    stride, size = t.stride(), t.shape
    if stride[1] == 0:
        return False
    least = 0
    for dim in (1, 3, 2, 0):
        if size[dim] == 0 or stride[dim] < least or (dim == 0 and least == stride[1]):
            return False
        least = stride[dim] * max(size[dim], 1)
    return True


def weight_format(weight: Tensor) -> torch.memory_format:
    """The format of an OIHW weight's gradient. In any other, a parameter's `grad` would be one more copy."""
    return torch.channels_last if suggests_channels_last(weight) else torch.contiguous_format
