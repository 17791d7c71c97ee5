"""A drop-in subclass of torch.nn.Conv2d: its parameters, arguments and memory formats, our convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._geometry import padding_argument, texts
from .._ops import nothing_listens
from ..functional import check_algorithm, conv2d
from .packed import Prepackable
from .twin import twin


@torch.fx.wrap
def conv2d_nchw(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride,
    padding,
    dilation,
    groups: int,
    algorithm: str = "auto",
) -> Tensor:
    """F.conv2d by nhwc_conv.conv2d: NCHW (or CHW) input, OIHW weight, F.conv2d's memory format."""
    out = conv2d(
        nhwc(input, weight),
        weight.permute(2, 3, 1, 0),
        bias,
        stride,
        padding,
        dilation,
        groups,
        algorithm=algorithm,
    ).movedim(-1, -3)
    return in_format_of(out, input, weight)


def nhwc(input: Tensor, weight: Tensor) -> Tensor:
    """The NHWC view of `input`. Ranks that F.conv2d refuses, which no view exists for, raise in its words."""
    if weight.dim() != 4:
        texts.fail(texts.RANKS, dims=weight.dim(), weight=weight.shape, input=input.shape, actual=input.dim())
    if input.dim() not in (3, 4):
        texts.fail(texts.RANK, name="input", size=input.shape, op="conv2d")
    return input.movedim(-3, -1)


def in_format_of(out: Tensor, input: Tensor, weight: Tensor) -> Tensor:
    """NCHW `out`, channels last in memory, in the memory format that F.conv2d would return it in."""
    batch = input if input.dim() == 4 else input.unsqueeze(0)
    if suggests_channels_last(batch) or suggests_channels_last(weight):
        return out
    # Not contiguous(), which would keep the strides that channels_last gives to dimensions of length 1.
    return out.clone(memory_format=torch.contiguous_format)


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


class Conv2d(Prepackable, torch.nn.Conv2d):
    """torch.nn.Conv2d computed by nhwc_conv.

    Takes the arguments of torch.nn.Conv2d and `algorithm` (see nhwc_conv.conv2d). Parameters, initial values,
    state_dict, shapes, dtypes and memory formats of results are those of torch.nn.Conv2d; input in
    channels_last is used in place.

    Raises:
        ValueError: unknown `algorithm`, and whatever torch.nn.Conv2d raises.
    """

    algorithm = "auto"  # for layers unpickled from before they had one

    def __init__(self, *args, algorithm: str = "auto", **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_algorithm(algorithm)
        self.algorithm = algorithm

    @classmethod
    def from_torch(cls, module: torch.nn.Conv2d, algorithm: str = "auto") -> Conv2d:
        """The layer that shares the parameters, the hooks and everything else of `module`."""
        layer = twin(module, cls)
        layer.algorithm = algorithm
        return layer

    def to_torch(self) -> torch.nn.Conv2d:
        """The torch.nn.Conv2d that shares the parameters, the hooks and everything else of this layer."""
        return as_torch(self, torch.nn.Conv2d)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        if self._packed is not None and nothing_listens():
            sides, auto_pad = padding_argument(padding)
            geometry = self.stride, sides, self.dilation, self.groups, auto_pad
            out = self.packed_conv2d(nhwc(input, weight), weight, bias, *geometry)
            if out is not None:
                return in_format_of(out.movedim(-1, -3), input, weight)
        return conv2d_nchw(
            input, weight, bias, self.stride, padding, self.dilation, self.groups, self.algorithm
        )

    def hwio(self, weight: Tensor) -> Tensor:
        return weight.permute(2, 3, 1, 0)

    def extra_repr(self) -> str:
        algorithm = "" if self.algorithm == "auto" else f", algorithm={self.algorithm}"
        return super().extra_repr() + algorithm


def as_torch(layer: Conv2d, cls: type) -> torch.nn.Conv2d:
    """The twin of `layer` whose class `cls` knows nothing of ours."""
    module = twin(layer, cls)
    for ours in ("algorithm", "_packed"):
        module.__dict__.pop(ours, None)
    return module
