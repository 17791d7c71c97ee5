"""The forward ops on NCHW images and OIHW weights: results and gradients in memory formats that F.conv2d would choose.

Results are no views to autograd, which would forbid to change them in place where it cannot rewrite their history.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._C import _AutoDispatchBelowADInplaceOrView as BelowViews
from torch._C import _len_torch_function_stack as function_modes

from .autograd import PLAIN, is_recorded_again, nothing_listens, plain_apply
from .derivatives import ForwardRule, overload, remember
from .memory_format import in_format, is_result_channels_last, weight_format
from .mixed_precision import MixedOp, cast_as_active, is_mixed
from .schema import FORWARD_OPS, ops
from .weight_order import HWIO, OIHW

OPS = {name: overload(name) for name in FORWARD_OPS}
MIXED = {name: MixedOp(op) for name, op in OPS.items()}


def to_nhwc(t: Tensor) -> Tensor:
    return t.movedim(-3, -1)


def to_nchw(t: Tensor) -> Tensor:
    return t.movedim(-1, -3)


def is_plain(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether nobody but autograd needs to see what is done to the tensors."""
    return (
        type(input) in PLAIN
        and type(weight) in PLAIN
        and (bias is None or type(bias) in PLAIN)
        and nothing_listens()
        and not function_modes()
    )


def convolve(name: str, input: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    """Forward op `name` of tensors that are plain."""
    op, given = OPS[name], (weight, bias)
    input, weight, bias = cast_as_active(input, weight, bias)
    if weight is not given[0] and is_mixed(input, given[0]):
        return apply(MIXED[name], input, *given, geometry)
    if torch.is_grad_enabled() and (
        input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        return apply(op, input, weight, bias, geometry)
    with BelowViews():
        out = op._op(*views(input, weight), bias, *geometry)
        return result(out, input, weight)


def convolve_packed(
    input: Tensor, weight: Tensor, packed: Tensor, size: Sequence[int], bias: Tensor | None, *rest: Any
) -> Tensor:
    """conv2d_packed where `convolve` would record no gradient; `weight` is what was packed."""
    with BelowViews() if nothing_listens() else nullcontext():
        out = ops.conv2d_packed(to_nhwc(input), packed, size, bias, *rest)
        return result(out, input, weight)


def views(input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return to_nhwc(input), weight.permute(HWIO)


def result(out: Tensor, input: Tensor, weight: Tensor) -> Tensor:
    """NHWC `out` as F.conv2d would return it."""
    return in_format(to_nchw(out), is_result_channels_last(input, weight))


class NCHWConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, op: Any, input: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...]
    ) -> Tensor:
        _, need_input, need_weight, *_ = ctx.needs_input_grad
        ctx.save_for_backward(input if need_weight else None, weight if need_input else None)
        ctx.formats = is_result_channels_last(input, weight), weight_format(weight)
        with BelowViews():
            x, w = views(input, weight)
            remember(ctx, op, x, w, None, geometry)
            return in_format(to_nchw(op._op(x, w, bias, *geometry)), ctx.formats[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        input, weight = ctx.saved_tensors
        channels_last, format_of_weight = ctx.formats
        with nullcontext() if is_recorded_again() else BelowViews():
            x = None if input is None else to_nhwc(input)
            w = None if weight is None else weight.permute(HWIO)
            dx, dw, dbias = ForwardRule.gradients(ctx, x, w, to_nhwc(grad))
            dinput = None if dx is None else in_format(to_nchw(dx), channels_last)
            dweight = None if dw is None else dw.permute(OIHW).clone(memory_format=format_of_weight)
        return None, dinput, dweight, dbias, None


apply = plain_apply(NCHWConvolution)
