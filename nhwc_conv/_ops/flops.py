"""What torch.utils.flop_counter.FlopCounterMode counts for each op: as for aten's convolutions, 2 per product.

A convolution and both of its gradients have the same products: one per output, tap and input channel of the group.
Products with padding count, additions of a bias do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch.utils.flop_counter import register_flop_formula

from .recorded import available, short_ops
from .schema import FORWARD_OPS, ops


def convolution_flops(out: Sequence[int], w: Sequence[int]) -> int:
    """Of the result's shape and the weight's, [KH, KW, C/groups, O]."""
    return 2 * prod(out) * prod(w[:3])


@register_flop_formula([getattr(ops, name) for name in (*FORWARD_OPS, "_aten_conv2d")])
def forward_flops(x: Any, w: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return convolution_flops(out_shape, w)


@register_flop_formula([ops.conv2d_packed])
def packed_flops(x: Any, packed: Any, weight_size: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return convolution_flops(out_shape, weight_size)


@register_flop_formula([ops.conv2d_input, ops._aten_conv2d_input])
def input_gradient_flops(grad: Any, w: Any, *_: Any, **__: Any) -> int:
    return convolution_flops(grad, w)


@register_flop_formula([ops.conv2d_weight, ops._aten_conv2d_weight])
def weight_gradient_flops(grad: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return convolution_flops(grad, out_shape)


@register_flop_formula([short_ops._convolution_gradients] if available else [])
def recorded_flops(grad: Any, input: Any, weight: Any, *rest: Any, **__: Any) -> int:
    output_padding, needs = rest[3], rest[5:7]
    nhwc = len(output_padding) == 3 and not output_padding[0] & 1
    return sum(needs) * convolution_flops(grad, weight if nhwc else weight[1:])
