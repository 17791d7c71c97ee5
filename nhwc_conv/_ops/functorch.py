"""torch.func: a Function that knows tangents and batches, at the key where functorch's transforms begin."""

from __future__ import annotations

from functools import cache

import torch

from .autocast import cast_as_active
from .batching import BATCHING
from .derivatives import RULES, overload, remember
from .schema import library


@cache
def differentiable(rule):
    """The Function of a rule with jvp and vmap. setup_context makes it slower than the one in autograd.py."""

    class TransformedConvolution(torch.autograd.Function):
        @staticmethod
        def forward(op, a, b, extra, *geometry):
            return op(a, b, extra, *geometry)

        @staticmethod
        def setup_context(ctx, inputs, output):
            op, a, b, extra, *geometry = inputs
            remember(ctx, op, a, b, None if rule.is_forward else extra, tuple(geometry))
            ctx.out_shape = output.shape
            ctx.save_for_backward(a, b)
            ctx.save_for_forward(a, b)
            ctx.set_materialize_grads(False)  # a zero tangent would cost a convolution

        @staticmethod
        def backward(ctx, grad):
            gradients = (None,) * 3 if grad is None else rule.gradients(ctx, *ctx.saved_tensors, grad)
            _, _, geometry, *_ = ctx.call
            return None, *gradients, *(None,) * len(geometry)

        @staticmethod
        def jvp(ctx, _, da, db, dextra, *__):
            return rule.tangent(ctx, da, db, dextra)

        @staticmethod
        def vmap(info, in_dims, op, a, b, extra, *geometry):
            _, a_dim, b_dim, extra_dim, *_ = in_dims
            batch = BATCHING[rule]
            return batch(info.batch_size, op, a, a_dim, b, b_dim, extra, extra_dim, geometry), 0

    return TransformedConvolution


def transform_kernel(name, rule):
    op = overload(name)
    apply = differentiable(rule).apply
    defaults = (1, 1), (0, 0), (1, 1), 1, 0, *(() if rule.is_forward else (0,))

    def kernel(a, b, extra=None, *geometry):
        if rule.is_forward:  # here, since what this Function saves must be what the op computes with
            a, b, extra = cast_as_active(a, b, extra)
        return apply(op, a, b, extra, *geometry, *defaults[len(geometry) :])

    return kernel


for _name, _rule in RULES.items():
    library.impl(_name, transform_kernel(_name, _rule), "FuncTorchDynamicLayerFrontMode")
