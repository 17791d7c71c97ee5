"""A convolution with its last steps, for those who need its derivative or look at ops, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from .. import _flags
from .._geometry.dtypes import ARITHMETIC
from .autograd import SHORTCUTS
from .finish import Finish
from .listeners import is_transformed, needs_gradient
from .memory_format import in_format, is_result_channels_last
from .mixed_precision import cast_as_active
from .nchw import to_nchw, views
from .recorded import as_fields, gradients
from .schema import ops
from .weight_order import hwio_size


class Call(NamedTuple):
    """All that a convolution is told but its tensors."""

    nchw: bool
    algorithm: str
    geometry: tuple[Any, ...]  # stride, padding, dilation, groups, auto_pad
    finish: Finish

    def in_one(self, x: Tensor, w: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
        """By the op that finishes sums in the caches."""
        packed = w.new_empty(0, dtype=ARITHMETIC.get(w.dtype))  # none
        rest: tuple[Any, ...] = w, self.nchw, self.nchw, residual, *self.finish
        return ops.conv2d_packed(x, packed, hwio_size(w, self.nchw), bias, *self.geometry, *rest)

    def in_steps(self, x: Tensor, w: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
        """By ops that have derivatives, batching rules and tangents, in the dtype of the sums."""
        wide = ARITHMETIC.get(x.dtype, x.dtype)
        images, weight, b = (None if t is None else t.to(wide) for t in (x, w, bias))
        if self.nchw:
            images, weight = views(images, weight)  # type: ignore[arg-type]  # they are never None
        name = "conv2d" if self.algorithm == "auto" else self.algorithm
        sums = SHORTCUTS[name](images, weight, b, *self.geometry)
        # In the caller's layout: an exporter to ONNX would leave an activation between two transpositions.
        out = self.finish.of(to_nchw(sums) if self.nchw else sums, residual).to(x.dtype)
        return in_format(out, is_result_channels_last(x, w)) if self.nchw else out


def convolve_and_finish(
    call: Call, x: Tensor, w: Tensor, bias: Tensor | None, residual: Tensor | None
) -> Tensor:
    """The convolution and its last steps, by one op where nobody looks but autograd."""
    x, w, bias, residual = cast_as_active(x, w, bias, residual)
    recorded = needs_gradient(x, w, bias, residual)
    if (
        call.algorithm != "auto"
        or x.dtype not in ARITHMETIC
        or is_transformed()
        or (recorded and torch.compiler.is_compiling())
    ):
        return call.in_steps(x, w, bias, residual)
    if not recorded:
        return call.in_one(x, w, bias, residual)
    finished: Tensor = Finished.apply(call, x, w, bias, residual)
    return finished


class Finished(Function):
    """A convolution with its last steps. The derivative is that of the steps one by one.

    It is computed from the result where that tells it, else from the sums, which are then made once more.
    """

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor | None) -> Tensor:
        y = call.in_one(*tensors)  # type: ignore[arg-type]  # four of them
        ctx.call, ctx.from_result = call, call.finish.backward(tensors[3])
        ctx.winograd = _flags.winograd  # what was ruled out in forward stays so in backward
        needs_result = ctx.from_result is not None and call.finish.activation != 0
        ctx.save_for_backward(*tensors, y if needs_result else None)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, y = ctx.saved_tensors
        if ctx.from_result is not None and not torch.is_grad_enabled():
            return None, *Finished.of_result(ctx, grad, tensors, y)
        again = torch.is_grad_enabled()
        if not again:
            tensors = [None if t is None else t.detach().requires_grad_(t.requires_grad) for t in tensors]
        needs = ctx.needs_input_grad[1:]
        with torch.enable_grad():
            x, w, *rest = tensors
            out = ctx.call.in_steps(x, w, *rest)
            wanted = [t for t, need in zip(tensors, needs, strict=True) if need]
            found = iter(torch.autograd.grad(out, wanted, grad, create_graph=again))
        return None, *(next(found) if need else None for need in needs)

    @staticmethod
    def of_result(ctx: Any, grad: Tensor, tensors: Sequence[Any], y: Any) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        x, w, _, _ = tensors
        *needs, need_residual = ctx.needs_input_grad[1:]
        grad = ctx.from_result(grad, y)
        *steps, groups, auto_pad = call.geometry
        fields = call.nchw | (not ctx.winograd) << 3 | auto_pad << 5, *as_fields(*steps)
        found = gradients(grad, x, w, (), (), (), fields, groups, *needs)
        return *found, grad if need_residual else None
