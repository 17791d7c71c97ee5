"""Derivatives of the three bilinear maps of a convolution, each written with the other two:

    F(x, w) the result,   D(grad, w) the gradient of x,   W(grad, x) that of w.

All are called as op(a, b, extra, *geometry): `extra` is F's bias, or the size that D and W must be told; the
geometry of D ends with `algorithm`, that of W with `algorithm` and `out_dtype`. A rule's ctx has what `remember` put
there; `gradients` gets a, b (None where not needed) and the gradient of the result, `tangent` finds a and b among the
saved tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._ops import OpOverload

from .. import _flags
from .schema import FORWARD_OPS, ops


def overload(name: str) -> OpOverload:
    return getattr(ops, name).default


# As an overload's `_op`, what its __call__ calls: a third of a microsecond less.
D, W = overload("conv2d_input")._op, overload("conv2d_weight")._op
F_BY_ALGORITHM = {0: overload("conv2d")._op, 1: overload("im2col")._op, 2: overload("winograd")._op}


def remember(
    ctx: Any, op: OpOverload, a: Tensor, b: Tensor, extra: Sequence[int] | None, geometry: tuple[Any, ...]
) -> None:
    # What was ruled out in forward stays so in backward.
    algorithm = FORWARD_OPS.get(op._opname) or int(not _flags.winograd)
    # One attribute: each costs as much as the others.
    ctx.call = op._op, extra, geometry, a.shape, b.shape, algorithm, b.dtype


Gradients: TypeAlias = "tuple[Tensor | None, Tensor | None, Tensor | None]"


class ForwardRule:
    is_forward = True

    @staticmethod
    def gradients(ctx: Any, x: Any, w: Any, grad: Tensor) -> Gradients:
        _, need_x, need_w, need_bias, *_ = ctx.needs_input_grad
        _, _, geometry, x_shape, w_shape, algorithm, w_dtype = ctx.call
        told = *geometry, algorithm
        if grad.is_complex():
            x, w = _conj(x), _conj(w)
        told_w, out_dtype = told, None
        if w_dtype != grad.dtype:  # of a MixedOp
            w = None if w is None else w.to(grad.dtype)
            told_w, out_dtype = (*told, w_dtype), w_dtype
        dx = D(grad, w, _image_size(x_shape), *told) if need_x else None
        dw = W(grad, x, _kernel_size(w_shape), *told_w) if need_w else None
        dbias = _sum_of_pixels(grad, out_dtype) if need_bias else None
        return dx, dw, dbias

    @staticmethod
    def tangent(ctx: Any, dx: Tensor | None, dw: Tensor | None, dbias: Tensor | None) -> Tensor:
        x, w = ctx.saved_tensors
        op, _, geometry, *_ = ctx.call
        parts = [] if dx is None else [op(dx, w, None, *geometry)]
        parts += [] if dw is None else [op(x, dw, None, *geometry)]
        parts += [] if dbias is None else [dbias.expand(ctx.out_shape).contiguous()]
        return sum(parts[1:], parts[0])


class InputRule:
    is_forward = False

    @staticmethod
    def gradients(ctx: Any, grad: Any, w: Any, v: Tensor) -> Gradients:
        _, need_grad, need_w, *_ = ctx.needs_input_grad
        _, _, geometry, _, w_shape, *_ = ctx.call
        dgrad = _forward(v, _conj(w), geometry) if need_grad else None
        dw = W(_conj(grad), v, _kernel_size(w_shape), *geometry) if need_w else None
        return dgrad, dw, None

    @staticmethod
    def tangent(ctx: Any, dgrad: Tensor | None, dw: Tensor | None, _: None) -> Tensor:
        return _bilinear_tangent(ctx, dgrad, dw)


class WeightRule:
    is_forward = False

    @staticmethod
    def gradients(ctx: Any, grad: Any, x: Any, v: Tensor) -> Gradients:
        _, need_grad, need_x, *_ = ctx.needs_input_grad
        _, _, (*geometry, out_dtype), _, x_shape, _, dtype = ctx.call
        if out_dtype not in (None, dtype):  # computed in that of the result, as what v is multiplied with was
            x, grad = (t if t is None else t.to(out_dtype) for t in (x, grad))
        dgrad = _forward(_conj(x), v, tuple(geometry)).to(dtype) if need_grad else None
        dx = D(_conj(grad), v, _image_size(x_shape), *geometry).to(dtype) if need_x else None
        return dgrad, dx, None

    @staticmethod
    def tangent(ctx: Any, dgrad: Tensor | None, dx: Tensor | None, _: None) -> Tensor:
        return _bilinear_tangent(ctx, dgrad, dx)


Rule: TypeAlias = "type[ForwardRule] | type[InputRule] | type[WeightRule]"
RULES: dict[str, Rule] = {
    **{name: ForwardRule for name in FORWARD_OPS},
    "conv2d_input": InputRule,
    "conv2d_weight": WeightRule,
}


def _sum_of_pixels(grad: Tensor, dtype: torch.dtype | None) -> Tensor:
    if grad.dtype == torch.complex32:  # aten has no sum of these
        return _sum_of_pixels(grad.to(torch.complex64), dtype).to(grad.dtype)
    return grad.sum(tuple(range(grad.dim() - 1)), dtype=dtype)


def _forward(x: Tensor, w: Tensor, geometry: tuple[Any, ...]) -> Tensor:
    """F with the geometry of D and W, whose last value is the algorithm."""
    *rest, algorithm = geometry
    return F_BY_ALGORITHM[algorithm](x, w, None, *rest)


def _bilinear_tangent(ctx: Any, da: Tensor | None, db: Tensor | None) -> Tensor:
    a, b = ctx.saved_tensors
    op, extra, geometry, *_ = ctx.call
    parts = [] if da is None else [op(da, b, extra, *geometry)]
    parts += [] if db is None else [op(a, db, extra, *geometry)]
    return sum(parts[1:], parts[0])


# Plain tuples: ops take a slice of a shape, a torch.Size, a microsecond slower.
def _image_size(shape: Sequence[int]) -> tuple[int, int]:
    return shape[-3], shape[-2]


def _kernel_size(shape: Sequence[int]) -> tuple[int, int]:
    return shape[0], shape[1]


def _conj(t: Any) -> Any:
    return t.conj() if t is not None and t.is_complex() else t
