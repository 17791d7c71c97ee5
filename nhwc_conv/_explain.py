"""What a convolution would run, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal

import torch

from . import _extension
from ._geometry import forward_geometry, op_geometry, padding_argument
from .functional import Algorithm


def explain(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    dtype: torch.dtype = torch.float32,
    algorithm: Algorithm = "auto",
    direction: Literal["forward", "input_gradient", "weight_gradient"] = "forward",
) -> dict[str, Any]:
    """The plan of a convolution of contiguous tensors, as the extension would make it now.

    Args:
        x_shape: [N, H, W, C] or [H, W, C]; w_shape: [KH, KW, C/groups, O].
        stride, padding, dilation, groups, algorithm: as for nhwc_conv.conv2d.
        dtype: torch.float32, torch.float64, torch.bfloat16 or torch.float16.
        direction: "forward", "input_gradient" or "weight_gradient".

    Returns:
        A dict:
        `algorithm`: "im2col", "matmul", "winograd", "lanewise" (lanes over the channels of all groups: depthwise
            layers above all), "direct" (of weight gradients: products over output pixels), or "zero" (an input
            gradient that no output pixel reaches; then nothing else is told);
        `runner`: what computes, a file of csrc/conv: "view", "panel", "pieces", "stream", "planes", "lanewise",
            "winograd", or "weight_gradient_" and "dense", "stream", "lanewise" or "winograd";
        `instruction_set`;
        `source`: "view" (the input is read where it lies), or how it is copied, a part at a time: in "pixels"
            (channels of a group as neighbours), "fields" (receptive fields, the rows of the im2col matrix), "planes"
            (pixels of a row as neighbours) or "lanes" (channels of all groups as neighbours);
        `reduction`: loop lengths of the tile kernel, over kernel rows, taps of a row and values (of weight gradients,
            over rows and pixels of a block), and `reduction_blocks`, how many blocks they are cut into, over kernel
            rows and within one (of Winograd, over channels); those only of dense layers forward and of their input
            gradients;
        `pairs`: True where products are of pairs of channels, which `reduction` then counts (bfloat16 on amx_bf16
            and avx512_bf16);
        `tile`: [rows, columns];
        `packed_weights`: whether a call packs them first, or reads them where they lie;
        `phases`: convolutions of stride 1 that an input gradient consists of, 1 in forward;
        `partials`: sums over parts of the batch and the image that a weight gradient adds at the end;
        `winograd_tile`, `block_tiles`: of Winograd forward and input gradient, outputs of a patch along an axis, and
            patches transformed together;
        `workspace_shared`, `workspace_per_thread`: bytes; a bias that is of bfloat16 or float16, or whose values are no
            neighbours, takes room in the dtype of the sums besides, in whole lines of 64 bytes;
        `flops`: multiplications and additions, padding counted;
        `arithmetic_intensity`: flops per byte of x, w and result.

    Raises:
        RuntimeError: shapes that do not fit, or no extension. ValueError: unknown names or dtypes.
    """
    if _extension.module is None:
        raise RuntimeError(
            f"explain tells what the C++ extension does, but there is none: {_extension.reason}"
        )
    sides, auto_pad = padding_argument(padding)
    geometry = op_geometry(stride, sides, dilation, groups, auto_pad)
    g = forward_geometry(tuple(x_shape), tuple(w_shape), None, *geometry)
    name = str(dtype).removeprefix("torch.")
    plan = _extension.module.explain(direction, algorithm, name, tuple(x_shape), tuple(w_shape), *geometry)
    flops = 2 * prod(g.out_shape) * prod(w_shape[:3])
    size = torch.empty((), dtype=dtype).element_size()
    moved = size * (prod(x_shape) + prod(w_shape) + prod(g.out_shape))
    return {**plan, "flops": flops, "arithmetic_intensity": flops / max(moved, 1)}
