"""Gradients: one Function per rule at the Autograd key, in the old style (ctx in forward), which is fast.

torch.library.register_autograd would be slower, break torch.func.grad, and make forward-mode derivatives
silently zero. Dual tensors take the Function in functorch.py, which knows tangents.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active as transforms_active
from torch._C import _AutoDispatchBelowAutograd as BelowAutograd
from torch._ops import OpOverload

from .._geometry import op_geometry
from .derivatives import RULES, Rule, overload, remember
from .functorch import TRANSFORMED
from .listeners import PLAIN, has_tangents, nothing_listens
from .onnx_export import FORMS
from .recorded import convolve, gradients_in_order, is_recordable
from .schema import DEFAULTS, FORWARD_OPS, library


def eager_function(rule: Rule) -> type[torch.autograd.Function]:
    class Convolution(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, op: OpOverload, a: Tensor, b: Tensor, extra: Any, geometry: tuple[Any, ...]
        ) -> Tensor:
            _, need_a, need_b, *_ = ctx.needs_input_grad
            remember(ctx, op, a, b, None, geometry)
            ctx.save_for_backward(a if need_b else None, b if need_a else None)
            with BelowAutograd():
                return op._op(a, b, extra, *geometry)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
            a, b = ctx.saved_tensors  # under checkpoint this computes and records, so not below autograd
            with nullcontext() if is_recorded_again() else BelowAutograd():
                found = gradients_in_order(ctx, a, b, grad) if rule.is_forward else None
                return None, *(found or rule.gradients(ctx, a, b, grad)), None

    return Convolution


EAGER = {rule: eager_function(rule) for rule in set(RULES.values())}


def is_recorded_again() -> bool:
    """Whether a backward is itself differentiated. Trips to the Autograd key are saved where it is not."""
    return torch.is_grad_enabled() or has_tangents() or transforms_active()


def is_exporting_to_onnx(t: Tensor) -> bool:
    """Whether `t` stands for a tensor of a program that torch.onnx.export takes apart."""
    return type(t) not in PLAIN and torch.onnx.is_in_onnx_export()


def algorithm_of(name: str) -> str:
    """Of a forward op, as conv2d's argument has it."""
    return "auto" if name == "conv2d" else name


def autograd_kernel(name: str, rule: Rule) -> Callable[..., Tensor]:
    op = overload(name)
    apply: Callable[..., Any] = EAGER[rule].apply
    apply_with_tangents: Callable[..., Any] = TRANSFORMED[rule].apply
    defaults = DEFAULTS[name][2:]
    algorithm = algorithm_of(name)

    # Completed within: another call would cost a tenth of a microsecond.
    def kernel(a: Tensor, b: Tensor, *rest: Any) -> Tensor:
        if is_exporting_to_onnx(a):
            return FORMS[name](a, b, *rest)
        rest += defaults[len(rest) :]
        if has_tangents():
            return apply_with_tangents(op, a, b, *rest)
        if torch.is_grad_enabled() and (
            a.requires_grad
            or b.requires_grad
            or (rule.is_forward and rest[0] is not None and rest[0].requires_grad)
        ):
            if rule.is_forward and is_recordable(a, b, rest[0]):
                try:
                    return convolve(False, algorithm, a, b, *rest)
                except (TypeError, ValueError):
                    pass  # no short form
            return apply(op, a, b, rest[0], rest[1:])
        with BelowAutograd():
            return op._op(a, b, *rest)

    return kernel


for _name, _rule in RULES.items():
    library.impl(_name, autograd_kernel(_name, _rule), "Autograd")


def shortcut(name: str) -> Callable[..., Tensor]:
    """The forward op as a function that takes the short form wherever nobody could notice.

    The trip to the Autograd key costs as much as a small convolution. Whatever else listens to ops gets the op itself:
    a compiler, a transform, forward AD, a tracer, a mode, a tensor subclass.
    """
    overloaded = overload(name)
    op, algorithm = overloaded._op, algorithm_of(name)

    def call(x: Tensor, w: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        if is_recordable(x, w, bias):
            try:
                return convolve(False, algorithm, x, w, bias, *geometry)
            except (TypeError, ValueError):
                pass  # no short form
        if not nothing_listens():
            # In pairs: the compiler's ints are symbols, which an op takes in a list only.
            return overloaded(x, w, bias, *op_geometry(*geometry))
        return op(x, w, bias, *geometry)

    return call


SHORTCUTS = {name: shortcut(name) for name in FORWARD_OPS}
