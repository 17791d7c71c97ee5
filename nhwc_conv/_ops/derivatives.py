"""Derivatives of the three bilinear maps of a convolution, each written with the other two:

    F(x, w) the result,   D(grad, w) the gradient of x,   W(grad, x) that of w.

All are called as op(a, b, extra, *geometry): `extra` is F's bias, or the size that D and W must be told; the
geometry of D and W ends with `algorithm`. A rule's ctx has what `remember` put there; `gradients` gets a, b
(None where not needed) and the gradient of the result, `tangent` finds a and b among the saved tensors.
"""

from __future__ import annotations

from .. import _flags
from .schema import FORWARD_OPS, ops


def overload(name):
    return getattr(ops, name).default


D, W = overload("conv2d_input"), overload("conv2d_weight")
F_BY_ALGORITHM = {0: overload("conv2d"), 1: overload("im2col"), 2: overload("winograd")}


def remember(ctx, op, a, b, extra, geometry):
    ctx.op, ctx.extra, ctx.geometry = op, extra, geometry
    ctx.a_shape, ctx.b_shape = a.shape, b.shape
    # What was ruled out in forward stays so in backward.
    ctx.algorithm = FORWARD_OPS.get(op._opname) or int(not _flags.winograd)


class ForwardRule:
    is_forward = True

    @staticmethod
    def gradients(ctx, x, w, grad):
        _, need_x, need_w, need_bias, *_ = ctx.needs_input_grad
        args = (*ctx.geometry, ctx.algorithm)
        dx = D(grad, _conj(w), ctx.a_shape[-3:-1], *args) if need_x else None
        dw = W(grad, _conj(x), ctx.b_shape[:2], *args) if need_w else None
        return dx, dw, grad.sum(tuple(range(grad.dim() - 1))) if need_bias else None

    @staticmethod
    def tangent(ctx, dx, dw, dbias):
        x, w = ctx.saved_tensors
        parts = [] if dx is None else [ctx.op(dx, w, None, *ctx.geometry)]
        parts += [] if dw is None else [ctx.op(x, dw, None, *ctx.geometry)]
        parts += [] if dbias is None else [dbias.expand(ctx.out_shape).contiguous()]
        return sum(parts[1:], parts[0])


class InputRule:
    is_forward = False

    @staticmethod
    def gradients(ctx, grad, w, v):
        _, need_grad, need_w, *_ = ctx.needs_input_grad
        *geometry, algorithm = ctx.geometry
        dgrad = F_BY_ALGORITHM[algorithm](v, _conj(w), None, *geometry) if need_grad else None
        dw = W(_conj(grad), v, ctx.b_shape[:2], *ctx.geometry) if need_w else None
        return dgrad, dw, None

    @staticmethod
    def tangent(ctx, dgrad, dw, _):
        return _bilinear_tangent(ctx, dgrad, dw)


class WeightRule:
    is_forward = False

    @staticmethod
    def gradients(ctx, grad, x, v):
        _, need_grad, need_x, *_ = ctx.needs_input_grad
        *geometry, algorithm = ctx.geometry
        dgrad = F_BY_ALGORITHM[algorithm](_conj(x), v, None, *geometry) if need_grad else None
        dx = D(_conj(grad), v, ctx.b_shape[-3:-1], *ctx.geometry) if need_x else None
        return dgrad, dx, None

    @staticmethod
    def tangent(ctx, dgrad, dx, _):
        return _bilinear_tangent(ctx, dgrad, dx)


RULES = {
    **{name: ForwardRule for name in FORWARD_OPS},
    "conv2d_input": InputRule,
    "conv2d_weight": WeightRule,
}


def _bilinear_tangent(ctx, da, db):
    a, b = ctx.saved_tensors
    parts = [] if da is None else [ctx.op(da, b, ctx.extra, *ctx.geometry)]
    parts += [] if db is None else [ctx.op(a, db, ctx.extra, *ctx.geometry)]
    return sum(parts[1:], parts[0])


def _conj(t):
    return t.conj() if t is not None and t.is_complex() else t
