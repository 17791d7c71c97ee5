"""The ops for type checkers and editors, to which torch.ops tells nothing: what the schemas say, as signatures.

`= ...` is a default, whose value the schema has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch._ops import OpOverload


class ForwardOp(Protocol):
    default: OpOverload

    def __call__(
        self,
        x: Tensor,
        w: Tensor,
        bias: Tensor | None = ...,
        stride: int | Sequence[int] = ...,
        padding: int | Sequence[int] = ...,
        dilation: int | Sequence[int] = ...,
        groups: int = ...,
        auto_pad: int = ...,
    ) -> Tensor: ...


class InputGradientOp(Protocol):
    default: OpOverload

    def __call__(
        self,
        grad: Tensor,
        w: Tensor,
        input_size: Sequence[int],
        stride: int | Sequence[int] = ...,
        padding: int | Sequence[int] = ...,
        dilation: int | Sequence[int] = ...,
        groups: int = ...,
        auto_pad: int = ...,
        algorithm: int = ...,
    ) -> Tensor: ...


class WeightGradientOp(Protocol):
    default: OpOverload

    def __call__(
        self,
        grad: Tensor,
        x: Tensor,
        kernel_size: Sequence[int],
        stride: int | Sequence[int] = ...,
        padding: int | Sequence[int] = ...,
        dilation: int | Sequence[int] = ...,
        groups: int = ...,
        auto_pad: int = ...,
        algorithm: int = ...,
        out_dtype: torch.dtype | None = ...,
    ) -> Tensor: ...


class PackOp(Protocol):
    default: OpOverload

    def __call__(self, w: Tensor, groups: int = ..., winograd: bool = ..., oihw: bool = ...) -> Tensor: ...


class PackedOp(Protocol):
    default: OpOverload

    def __call__(
        self,
        x: Tensor,
        packed: Tensor,
        weight_size: Sequence[int],
        bias: Tensor | None = ...,
        stride: int | Sequence[int] = ...,
        padding: int | Sequence[int] = ...,
        dilation: int | Sequence[int] = ...,
        groups: int = ...,
        auto_pad: int = ...,
        weight: Tensor | None = ...,
        oihw: bool = ...,
        nchw: bool = ...,
        residual: Tensor | None = ...,
        activation: int = ...,
        alpha: float = ...,
        beta: float = ...,
        activation_first: bool = ...,
    ) -> Tensor: ...


class Ops(Protocol):
    """torch.ops.nhwc_conv."""

    im2col: ForwardOp
    matmul: ForwardOp
    winograd: ForwardOp
    conv2d: ForwardOp
    conv2d_input: InputGradientOp
    conv2d_weight: WeightGradientOp
    pack_weight: PackOp
    conv2d_packed: PackedOp
    _aten_conv2d: ForwardOp
    _aten_conv2d_input: InputGradientOp
    _aten_conv2d_weight: WeightGradientOp
