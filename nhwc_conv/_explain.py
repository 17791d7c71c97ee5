"""What a convolution would run, without running it."""

from __future__ import annotations

from math import prod

import torch

from . import _extension
from ._geometry import forward_geometry, op_geometry, padding_argument

PASSES = ("forward", "input_gradient", "weight_gradient")


def explain(
    x_shape,
    w_shape,
    stride=1,
    padding=0,
    dilation=1,
    groups: int = 1,
    *,
    dtype: torch.dtype = torch.float32,
    algorithm: str = "auto",
    direction: str = "forward",
) -> dict:
    """The plan of a convolution of contiguous tensors, as the extension would make it now.

    Args:
        x_shape: [N, H, W, C] or [H, W, C]; w_shape: [KH, KW, C/groups, O].
        stride, padding, dilation, groups, algorithm: as for nhwc_conv.conv2d.
        dtype: torch.float32 or torch.float64.
        direction: "forward", "input_gradient" or "weight_gradient".

    Returns:
        A dict: `algorithm`, `instruction_set`, `source` ("view": the input is read where it lies; "window":
        from copies of a block at a time; "panel": through a buffer of one tile; "planes": from copies with
        pixels as neighbours, and tiles of channels by pixels), `reduction` (loop lengths of the tile
        kernel), `tile` [rows, columns], `packed_weights`, for Winograd `winograd_tile` and `block_tiles`,
        `workspace_shared` and `workspace_per_thread` in bytes, `flops` (multiplications and additions,
        padding counted) and `arithmetic_intensity` (flops per byte of x, w and result).

    Raises:
        RuntimeError: shapes that do not fit, or no extension. ValueError: unknown names or dtypes.
    """
    if not _extension.available:
        raise RuntimeError(
            f"explain tells what the C++ extension does, but there is none: {_extension.reason}"
        )
    sides, auto_pad = padding_argument(padding)
    *steps, groups, _ = op_geometry(stride, sides, dilation, groups, auto_pad)
    g = forward_geometry(tuple(x_shape), tuple(w_shape), None, *steps, groups, auto_pad)
    name = str(dtype).removeprefix("torch.")
    plan = _extension.module.explain(
        direction, algorithm, name, tuple(x_shape), tuple(w_shape), *steps, groups, auto_pad
    )
    flops = 2 * prod(g.out_shape) * prod(w_shape[:3])
    size = torch.empty((), dtype=dtype).element_size()
    moved = size * (prod(x_shape) + prod(w_shape) + prod(g.out_shape))
    return {**plan, "flops": flops, "arithmetic_intensity": flops / max(moved, 1)}
