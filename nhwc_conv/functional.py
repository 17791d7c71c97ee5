"""Convolution as a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NoReturn, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C import _get_tracing_state as tracing_state
from torch.overrides import handle_torch_function, has_torch_function_variadic

from ._geometry import (
    as_ints,
    check_tensors,
    op_geometry,
    padding_argument,
    require_tensors,
    texts,
    transposed_geometry,
)
from ._ops import SHORTCUTS, cast_as_active, nothing_listens, ops
from ._ops.finish import NOTHING, ActivationArgument, Finish, finish_argument
from ._ops.finished import Call, convolve_and_finish
from ._ops.transposed import short_transposed

Algorithm: TypeAlias = Literal["auto", "im2col", "matmul", "winograd"]
AUTO: Algorithm = "auto"
ALGORITHMS: dict[str, Callable[..., Tensor]] = {
    "auto": SHORTCUTS["conv2d"],
    **{name: SHORTCUTS[name] for name in ("im2col", "matmul", "winograd")},
}


# What our calls raise for arguments that do not fit, before these are told in words that their users know.
REFUSED = AttributeError, IndexError, RuntimeError, TypeError, ValueError


def check_algorithm(algorithm: str) -> None:
    """ValueError unless conv2d knows `algorithm`."""
    if algorithm not in ALGORITHMS:
        raise unknown_algorithm(algorithm)


def unknown_algorithm(algorithm: str) -> ValueError:
    return ValueError(f"Unknown algorithm: algorithm={algorithm!r}; valid ones are {', '.join(ALGORITHMS)}")


def only_ints(*values: object) -> bool:
    return all(only_ints(*v) if isinstance(v, (tuple, list)) else type(v) in (int, bool) for v in values)


def conv2d(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    algorithm: Algorithm = "auto",
    activation: ActivationArgument = None,
    residual: Tensor | None = None,
    activation_first: bool = False,
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
        algorithm: "im2col" (products of depth `KH*KW*C/groups`), "matmul" (`KH*KW` of depth `C/groups`),
            "winograd" (3x3 kernels of stride and dilation 1 only: F(4x4, 3x3), Lavin and Gray 2016, at points
            chosen for accuracy), or "auto", which takes Winograd where it is clearly faster and
            nhwc_conv.flags allows it, else one of the others.
        activation: what is done to the sums while they are in the caches, in float64 for float64 and else in float32:
            "relu", "relu6", ("clamp", min, max), "leaky_relu" or ("leaky_relu", negative_slope), "hardsigmoid",
            "hardswish", "sigmoid", "silu", "tanh", "elu" or ("elu", alpha), "mish", "gelu", or "gelu_tanh", which is
            torch's approximate="tanh". Within 3.2 units in the last place of the exact function.
        residual: what is added to the sums, before the activation or, with activation_first, behind it: a tensor of the
            size of the result and the dtype of x, of any strides.

    Winograd multiplies four times less and rounds differently: in float32 its rms error is 9e-7 of the result's
    rms or less for 8 to 512 channels (the others': 2e-7 to 9e-7), since channels are summed in blocks of 64.
    No element is off by more than 40 * 2^-24 * the largest sum |x||w| of the image. One NaN or infinity
    spreads to the 4x4 tiles that read it, and an output whose inputs are all zero may be a tiny number.

    Returns:
        [N, OH, OW, O] (or [OH, OW, O]), contiguous, in the dtype of x. float32, float64, bfloat16
        and float16 on CPU are computed by this package (the last two in float32, rounded once), everything
        else by aten convolution. Differentiable in x, w, bias and residual any number of times.

    Raises:
        TypeError: an argument that is no tensor, or no integer or integers; those of NumPy and torch are.
        ValueError: unknown `algorithm`, `activation` or padding string.
        RuntimeError: shapes, dtypes, devices or values that do not fit, in F.conv2d's wording.
    """
    if has_torch_function_variadic(x, w, bias, residual):  # subclasses, function modes, torch.fx
        arguments = x, w, bias, stride, padding, dilation, groups
        finish: Any = dict(activation=activation, residual=residual, activation_first=activation_first)
        tensors = x, w, bias, residual
        return handle_torch_function(conv2d, tensors, *arguments, algorithm=algorithm, **finish)
    call = ALGORITHMS.get(algorithm)
    if call is None:
        raise unknown_algorithm(algorithm)
    if activation is not None or residual is not None:
        steps = finish_argument(activation, activation_first)
        require_tensors(x, w, bias, residual)
        sides, auto_pad = padding_argument(padding)
        geometry = op_geometry(stride, sides, dilation, groups, auto_pad)
        return convolve_and_finish(Call(False, algorithm, geometry, steps), x, w, bias, residual)
    auto_pad = 0
    if isinstance(padding, str):
        padding, auto_pad = padding_argument(padding)
    try:
        return call(x, w, bias, stride, padding, dilation, groups, auto_pad)
    except (AttributeError, TypeError, ValueError, RuntimeError):
        # What the op cannot read: here, where it costs the other calls nothing.
        require_tensors(x, w, bias)
        geometry = op_geometry(stride, padding, dilation, groups, auto_pad)
        if only_ints(stride, padding, dilation, groups):
            raise
    return call(x, w, bias, *geometry)


def conv_transpose2d(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, ...] | str = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
    *,
    output_size: list[int] | tuple[int, ...] | None = None,
    activation: ActivationArgument = None,
) -> Tensor:
    """2-D transposed convolution of NHWC images, as F.conv_transpose2d: the input gradient of conv2d.

    Args:
        x: [N, H, W, C], or one image [H, W, C]; any strides.
        w: [KH, KW, O/groups, C], the weight of the convolution from O to C channels whose gradient this is.
            torch's transposed weight [C, O/groups, KH, KW] is w.permute(3, 2, 0, 1); with groups=1 TensorFlow's
            Conv2DTranspose kernel [KH, KW, O, C] is w itself. Any strides, the dtype of x.
        bias: [O].
        stride, dilation: an int or (h, w).
        padding: what to take off the result: an int, (h, w), (top, bottom, left, right), or a string in any case:
            "valid" (nothing), or "same" and "same_lower", whose results are `stride` times as large as x; the odd
            pixel is taken off at the bottom and the right, or at the top and the left.
        output_padding: an int or (h, w), smaller than stride or dilation: rows and columns that the result has
            more, at the bottom and the right. Of the sizes that a convolution of that stride would map to H, 0
            chooses the least.
        groups: independent sets of channels.
        output_size: (OH, OW) of the result in place of output_padding.
        activation: as for conv2d. Where a gradient is to come, or somebody looks, it is torch's function of the result.

    Returns:
        [N, OH, OW, O] (or [OH, OW, O]), contiguous, in the dtype of x, where
        OH = (H - 1) * stride - top - bottom + dilation * (KH - 1) + 1 + output_padding, or H * stride for "same".
        Differentiable in x, w and bias any number of times.

    Raises:
        TypeError: as for conv2d.
        ValueError: unknown `activation` or padding string.
        RuntimeError: shapes, dtypes, devices or values that do not fit, in F.conv_transpose2d's wording.
    """
    if has_torch_function_variadic(x, w, bias):
        arguments = x, w, bias, stride, padding, output_padding, groups, dilation
        options: Any = dict(output_size=output_size, activation=activation)
        return handle_torch_function(conv_transpose2d, (x, w, bias), *arguments, **options)
    sides, auto_pad = padding_argument(padding)
    finish = NOTHING if activation is None else finish_argument(activation, False)
    steps = stride, sides, dilation, groups, auto_pad
    try:
        return _transposed(x, w, bias, *steps, output_padding, output_size, finish)
    except (AttributeError, TypeError, ValueError, RuntimeError):
        require_tensors(x, w, bias)
        geometry = op_geometry(stride, sides, dilation, groups, auto_pad)
        more = as_ints("output_padding", output_padding)
        size = None if output_size is None else as_ints("output_size", output_size)
        if only_ints(stride, sides, dilation, groups, output_padding, output_size is None or output_size):
            raise
    return _transposed(x, w, bias, *geometry, more, size, finish)


def _transposed(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Any,
    sides: Any,
    dilation: Any,
    groups: int,
    auto_pad: int,
    output_padding: Any,
    output_size: Any,
    finish: Finish,
) -> Tensor:
    steps = [(v, v) if isinstance(v, int) else tuple(v) for v in (stride, sides, output_padding, dilation)]
    stride, sides, output_padding, dilation = steps
    if output_size is None:
        rest = stride, sides, output_padding, groups, dilation, auto_pad, finish
        short = short_transposed(False, x, w, bias, *rest)
        if short is not None:
            return short
    x, w, bias = cast_as_active(x, w, bias)
    check_tensors(x=x, w=w, bias=bias)
    shapes: Any = (x.shape, w.shape, None if bias is None else bias.shape)
    if tracing_state() is not None:
        # torch.jit.trace has tensors for sizes; the op takes ints.
        shapes = [shape and tuple(map(int, shape)) for shape in shapes]
    g = transposed_geometry(
        shapes[0],
        shapes[1],
        shapes[2],
        stride,
        sides,
        output_padding,
        dilation,
        groups,
        auto_pad,
        output_size,
    )
    if any(g.more):
        x = F.pad(x, (0, 0, 0, g.more[1], 0, g.more[0]))
    out: Tensor = ops.conv2d_input(x, w, g.size, stride, sides, dilation, groups, auto_pad)
    return finish.of(out if bias is None else _biased(out, bias), None)


def _biased(out: Tensor, bias: Tensor) -> Tensor:
    if out.dtype == torch.complex32:  # aten has no sum of these, for the gradient of the bias
        return (out.to(torch.complex64) + bias.to(torch.complex64)).to(out.dtype)
    # In place where nobody could notice: a transform may have mapped the bias and not the rest.
    return out.add_(bias) if nothing_listens() else out + bias


def refuse_scripting(name: str) -> Callable[[], NoReturn]:
    """What torch.jit.script asks a function for, where it is called in what is compiled."""
    return lambda: texts.fail(texts.NOT_SCRIPTABLE, name=name)


_function: Any
for _function in (conv2d, conv_transpose2d):
    _function.__prepare_scriptable__ = refuse_scripting(_function.__name__)
