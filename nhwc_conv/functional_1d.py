"""Convolution of channels-last signals as a function: that of images of one row, without a copy."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from ._geometry import as_int, as_row, check_row, padding_argument, require_tensors, transposed_geometry
from ._ops import nchw
from ._ops.finish import ActivationArgument
from .functional import REFUSED, Algorithm, conv2d, conv_transpose2d, refuse_scripting


def conv1d(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
    *,
    algorithm: Algorithm = "auto",
    activation: ActivationArgument = None,
    residual: Tensor | None = None,
    activation_first: bool = False,
) -> Tensor:
    """1-D convolution (cross-correlation, as F.conv1d) of channels-last signals: nhwc_conv.conv2d of images of one row.

    Args:
        x: [N, W, C], or one signal [W, C]; any strides, channels contiguous are read in place.
        w: [K, C/groups, O], of the dtype of x; any strides.
        bias: [O].
        stride, dilation: an int or (w,).
        padding: zeros around the signal: an int, (w,), (left, right), or a string in any case: "valid", "same" (the odd
            zero goes to the right) or "same_lower" (to the left); causal padding is (dilation * (K - 1), 0).
        groups: independent sets of channels.
        algorithm: as for conv2d; "winograd", which has 3x3 kernels only, raises.
        activation, activation_first: as for conv2d.
        residual: as for conv2d, of the size of the result.

    Returns:
        [N, OW, O] (or [OW, O]), contiguous, in the dtype of x. Dtypes, devices and derivatives are those of conv2d.

    Raises:
        TypeError, ValueError, RuntimeError: as for conv2d.
    """
    if has_torch_function_variadic(x, w, bias, residual):
        arguments = x, w, bias, stride, padding, dilation, groups
        finish: Any = dict(activation=activation, residual=residual, activation_first=activation_first)
        tensors = x, w, bias, residual
        return handle_torch_function(conv1d, tensors, *arguments, algorithm=algorithm, **finish)
    steps, (step, zeros, dilated), auto_pad = row_steps(stride, padding, dilation, groups)
    try:
        with nchw.without_views(x, w, bias, residual):
            out = conv2d(
                x.unsqueeze(-3),
                w.unsqueeze(0),
                bias,
                *steps,
                algorithm=algorithm,
                activation=activation,
                residual=None if residual is None else residual.unsqueeze(-3),
                activation_first=activation_first,
            )
            return out.squeeze(-3)
    except REFUSED:
        require_tensors(x, w, bias, residual)
        sizes = [None if t is None else t.shape for t in (bias, residual)]
        check_row(x.shape, w.shape, sizes[0], sizes[1], step, zeros, dilated, steps[3], auto_pad)
        raise


def conv_transpose1d(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int, ...] | str = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
    *,
    output_size: int | list[int] | tuple[int, ...] | None = None,
    activation: ActivationArgument = None,
) -> Tensor:
    """1-D transposed convolution of channels-last signals, as F.conv_transpose1d: the input gradient of conv1d.

    Args:
        x: [N, W, C], or one signal [W, C]; any strides.
        w: [K, O/groups, C], the weight of the convolution from O to C channels whose gradient this is. torch's
            transposed weight [C, O/groups, K] is w.permute(2, 1, 0). Any strides, the dtype of x.
        bias: [O].
        stride, dilation: an int or (w,).
        padding: what to take off the result: an int, (w,), (left, right), or a string: as for conv_transpose2d.
        output_padding: an int or (w,), smaller than stride or dilation: what the result has more at the right.
        groups: independent sets of channels.
        output_size: OW of the result, or (OW,), in place of output_padding.
        activation: as for conv_transpose2d.

    Returns:
        [N, OW, O] (or [OW, O]), contiguous, in the dtype of x, where
        OW = (W - 1) * stride - left - right + dilation * (K - 1) + 1 + output_padding, or W * stride for "same".
        Differentiable in x, w and bias any number of times.

    Raises:
        TypeError, ValueError, RuntimeError: as for conv_transpose2d.
    """
    if has_torch_function_variadic(x, w, bias):
        arguments = x, w, bias, stride, padding, output_padding, groups, dilation
        options: Any = dict(output_size=output_size, activation=activation)
        return handle_torch_function(conv_transpose1d, (x, w, bias), *arguments, **options)
    (steps, sides, apart, groups), (step, zeros, dilated), auto_pad = row_steps(
        stride, padding, dilation, groups
    )
    more = as_row("output_padding", output_padding)
    size = None if output_size is None else as_row("output_size", output_size)
    try:
        with nchw.without_views(x, w, bias):
            out = conv_transpose2d(
                x.unsqueeze(-3),
                w.unsqueeze(0),
                bias,
                steps,
                sides,
                (0, *more),  # type: ignore[arg-type]  # it is a pair
                groups,
                apart,
                output_size=None if size is None else (1, *size),
                activation=activation,
            )
            return out.squeeze(-3)
    except REFUSED:
        require_tensors(x, w, bias)
        shapes = x.shape, w.shape, None if bias is None else bias.shape
        transposed_geometry(*shapes, step, zeros, more, dilated, groups, auto_pad, size, axes=1)
        raise


def row_steps(stride: Any, padding: Any, dilation: Any, groups: Any) -> tuple[Any, tuple[Any, Any, Any], int]:
    """What conv2d is told; stride, padding and dilation along the row alone; and auto_pad."""
    sides, auto_pad = padding_argument(padding)
    step, apart = as_row("stride", stride), as_row("dilation", dilation)
    zeros, groups = as_row("padding", sides, (1, 2)), as_int("groups", groups)
    both: Any = padding if isinstance(padding, str) else (0,) * len(zeros) + zeros
    return ((1, *step), both, (1, *apart), groups), (step, zeros, apart), auto_pad


_function: Any
for _function in (conv1d, conv_transpose1d):
    _function.__prepare_scriptable__ = refuse_scripting(_function.__name__)
