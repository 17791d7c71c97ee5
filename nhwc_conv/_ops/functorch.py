"""torch.func: a Function that knows tangents and batches, at the key where functorch's transforms begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from .batching import BATCHING
from .derivatives import RULES, Gradients, Rule, overload, remember
from .mixed_precision import MixedOp, cast_as_active, is_mixed
from .schema import completed, library


def transformed_function(rule: Rule) -> type[torch.autograd.Function]:
    """The Function of a rule with jvp and vmap. setup_context makes it slower than the one in autograd.py."""

    class TransformedConvolution(torch.autograd.Function):
        @staticmethod
        def forward(op: OpOverload, a: Tensor, b: Tensor, extra: Any, *geometry: Any) -> Tensor:
            return op(a, b, extra, *geometry)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            op, a, b, extra, *geometry = inputs
            remember(ctx, op, a, b, None if rule.is_forward else extra, tuple(geometry))
            ctx.out_shape = output.shape
            ctx.save_for_backward(a, b)
            ctx.save_for_forward(a, b)
            ctx.set_materialize_grads(False)  # a zero tangent would cost a convolution

        @staticmethod
        def backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
            gradients: Gradients = (None, None, None)
            if grad is not None:
                a, b = ctx.saved_tensors
                gradients = rule.gradients(ctx, a, b, grad)
            _, _, geometry, *_ = ctx.call
            return None, *gradients, *(None,) * len(geometry)

        @staticmethod
        def jvp(ctx: Any, _: None, da: Any, db: Any, dextra: Any, *__: None) -> Tensor:
            return rule.tangent(ctx, da, db, dextra)

        @staticmethod
        def vmap(
            info: Any,
            in_dims: tuple[Any, ...],
            op: OpOverload,
            a: Tensor,
            b: Tensor,
            extra: Any,
            *geometry: Any,
        ) -> tuple[Tensor, int]:
            _, a_dim, b_dim, extra_dim, *_ = in_dims
            batch = BATCHING[rule]
            return batch(info.batch_size, op, a, a_dim, b, b_dim, extra, extra_dim, geometry), 0

    return TransformedConvolution


TRANSFORMED = {rule: transformed_function(rule) for rule in set(RULES.values())}


def transform_kernel(name: str, rule: Rule) -> Callable[..., Tensor]:
    op = overload(name)
    mixed = MixedOp(op)
    apply: Callable[..., Any] = TRANSFORMED[rule].apply

    def kernel(a: Tensor, b: Tensor, extra: Any, *geometry: Any) -> Tensor:
        if not rule.is_forward:
            return apply(op, a, b, extra, *geometry)
        # Here, since what this Function saves must be what the op computes with.
        cast = cast_as_active(a, b, extra)
        if cast[1] is not b and is_mixed(cast[0], b):
            return apply(mixed, cast[0], b, extra, *geometry)
        return apply(op, *cast, *geometry)

    return completed(name, kernel)


for _name, _rule in RULES.items():
    library.impl(_name, transform_kernel(_name, _rule), "FuncTorchDynamicLayerFrontMode")
