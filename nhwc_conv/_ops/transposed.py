"""Transposed convolutions in short calls, for tensors that nobody looks at, where no gradient is recorded.

With a gradient to come they are conv2d_input, which has derivatives, and a bias added to its results: the same bits. An
activation is done in the caches here, and by aten there.
The kernels are in csrc/binding/transposed.cpp.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import _is_any_autocast_enabled as autocast_enabled

from .._geometry.dtypes import ARITHMETIC
from .finish import NOTHING, Finish
from .listeners import needs_gradient
from .recorded import NOT_COMPUTED, as_fields, available, is_recordable

_pack: Any
_convolve: Any
_pack, _convolve = (
    getattr(torch.ops.nhwc_conv, name).default._op if available else None
    for name in ("_pack_transposed", "_conv_transpose")
)


class TransposedCall(NamedTuple):
    """All that a transposed convolution is told but its tensors: see csrc/binding/short_call.h."""

    kind: int
    steps: int
    sides: int
    groups: int
    output_padding: tuple[int, int]
    alpha: float  # of the activation
    beta: float

    @property
    def nchw(self) -> int:
        return self.kind & 1

    @property
    def has_activation(self) -> bool:
        return self.kind >> 8 != 0


def transposed_call(
    nchw: bool,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    auto_pad: int,
    finish: Finish = NOTHING,
) -> TransposedCall:
    """TypeError or ValueError: not ints, or another number of them, too large ones, or two that exclude each other."""
    more = (output_padding, output_padding) if isinstance(output_padding, int) else tuple(output_padding)
    if auto_pad and any(more):
        raise ValueError("the size of the result is told twice")
    kind = nchw | auto_pad << 5 | finish.kind
    return TransposedCall(
        kind, *as_fields(stride, padding, dilation), groups, more, finish.alpha, finish.beta
    )


def pack_transposed(weight: Tensor, call: TransposedCall) -> Tensor:
    """Of a weight [KH, KW, O/groups, C], or, where images are NCHW, [C, O/groups, KH, KW]. RuntimeError: no fit."""
    *steps, _, _ = call
    packed: Tensor = _pack(weight, *steps)
    return packed


def is_short(x: Tensor, w: Tensor, bias: Tensor | None) -> bool:
    """Whether a transposed convolution of these may be a short call."""
    return is_recordable(x, w, bias) and not needs_gradient(x, w, bias) and not autocast_enabled()


def convolve_transposed(
    x: Tensor, w: Tensor, bias: Tensor | None, call: TransposedCall, packed: Tensor | None
) -> Tensor | None:
    """The transposed convolution of tensors that are short; None where it is computed in another way, or refused."""
    # Added to rounded results, as with a gradient to come; not if an activation is still to come.
    late = bias if ARITHMETIC[x.dtype] != x.dtype and not call.has_activation else None
    outputs = w.shape[1 if call.nchw else 2] * call.groups if w.dim() == 4 else 0
    if late is not None and (late.dtype != x.dtype or late.shape != (outputs,)):
        return None
    try:
        out: Tensor = _convolve(x, w, bias if late is None else None, packed, *call)
    except NOT_COMPUTED:
        return None
    return out if late is None else out.add_(late.view(-1, 1, 1) if call.nchw else late)


def short_transposed(
    nchw: bool,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    auto_pad: int,
    finish: Finish = NOTHING,
) -> Tensor | None:
    """The transposed convolution in a short call; None where it is computed in another way, or refused."""
    if not is_short(x, w, bias):
        return None
    try:
        call = transposed_call(nchw, stride, padding, output_padding, groups, dilation, auto_pad, finish)
    except NOT_COMPUTED:
        return None
    return convolve_transposed(x, w, bias, call, None)
