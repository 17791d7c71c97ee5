"""Convolution as a function."""

from __future__ import annotations

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from ._geometry import padding_argument
from ._ops import SHORTCUTS

ALGORITHMS = {
    "auto": SHORTCUTS["conv2d"],
    **{name: SHORTCUTS[name] for name in ("im2col", "matmul", "winograd")},
}


def conv2d(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
) -> Tensor:
    """2-D convolution (cross-correlation, as F.conv2d) of NHWC images with HWIO weights.

    Args:
        x: [N, H, W, C], or one image [H, W, C]; any strides, channels contiguous are read in place.
        w: [KH, KW, C/groups, O], of the dtype of x; any strides.
        bias: [O].
        stride, dilation: an int or (h, w).
        padding: zeros around the image: an int, (h, w), (top, bottom, left, right), or a string in any case:
            "valid" (none), "same" (TensorFlow's rule: ceil(H / stride) outputs, for any stride; the odd pixel
            goes to the bottom and the right) or "same_lower" (to the top and the left).
        groups: independent sets of channels.
        algorithm: "im2col" (products of depth KH*KW*C/groups), "matmul" (KH*KW products of depth C/groups),
            "winograd" (3x3 kernels of stride and dilation 1 only: F(4x4, 3x3), Lavin and Gray 2016, at points
            chosen for accuracy), or "auto", which takes Winograd where it is clearly faster and
            nhwc_conv.flags allows it, else one of the others.

    Winograd multiplies four times less and rounds differently: in float32 its rms error is about 8e-7 of the
    result's rms, against 2e-7, and hardly grows with C, since channels are summed in blocks of 64. One NaN
    or infinity spreads to its 4x4 tile, and an output whose inputs are all zero may be a tiny number instead.

    Returns:
        [N, OH, OW, O] (or [OH, OW, O]), contiguous, in the dtype of x. float32 and float64 on CPU are
        computed by this package, everything else by aten convolution. Differentiable in x, w and bias any
        number of times.

    Raises:
        ValueError: unknown `algorithm` or padding string.
        RuntimeError: shapes, dtypes, devices or values that do not fit, in F.conv2d's wording.
    """
    if has_torch_function_variadic(x, w, bias):  # subclasses, function modes, torch.fx
        return handle_torch_function(
            conv2d, (x, w, bias), x, w, bias, stride, padding, dilation, groups, algorithm=algorithm
        )
    call = ALGORITHMS.get(algorithm)
    if call is None:
        raise ValueError(
            f"Unknown algorithm: algorithm={algorithm!r}; valid ones are {', '.join(ALGORITHMS)}"
        )
    auto_pad = 0
    if isinstance(padding, str):
        padding, auto_pad = padding_argument(padding)
    return call(x, w, bias, stride, padding, dilation, groups, auto_pad)
