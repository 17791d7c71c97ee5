"""Arguments of the ops, checked and turned into a Geometry. Errors are RuntimeErrors, see texts.py."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from . import texts
from .dtypes import ARITHMETIC
from .operands import (
    check_image,
    check_kernel,
    check_operands,
    check_rank,
    check_size,
    check_steps,
    check_weight,
)
from .sizes import EXPLICIT, extent, four_sides, holds, output_size, same_output_size, same_sides


class Geometry(NamedTuple):
    """One convolution: x [N, H, W, C], w [KH, KW, C/groups, O], result [N, OH, OW, O]; N = 1 if unbatched."""

    N: int
    H: int
    W: int
    C: int
    KH: int
    KW: int
    O: int  # noqa: E741
    OH: int
    OW: int
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, bottom, left, right
    dilation: tuple[int, int]
    groups: int
    batched: bool

    @property
    def x_shape(self) -> tuple[int, ...]:
        return self._image(self.N, self.H, self.W, self.C)

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        return (self.KH, self.KW, self.C // self.groups, self.O)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self._image(self.N, self.OH, self.OW, self.O)

    def _image(self, *shape: int) -> tuple[int, ...]:
        return shape if self.batched else shape[1:]


def forward_geometry(
    x: Sequence[int],
    w: Sequence[int],
    bias: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    auto_pad: int,
) -> Geometry:
    """The convolution of shapes `x` and `w` (`bias`: a shape or None), all of its arguments checked."""
    stride, padding, dilation = check_steps(stride, padding, dilation, groups, auto_pad)
    check_operands(x, w, bias, groups, "conv2d", 2)
    return _geometry(x, w[0], w[1], w[3], stride, padding, dilation, groups, auto_pad)


def input_geometry(
    grad: Sequence[int],
    w: Sequence[int],
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    auto_pad: int,
    algorithm: int,
) -> Geometry:
    """The convolution whose input gradient is asked for, from the shapes of `grad` and `w`."""
    stride, padding, dilation = check_steps(stride, padding, dilation, groups, auto_pad)
    _check_algorithm(algorithm)
    check_rank("grad", grad)
    check_weight(w, groups)
    check_size("input_size", input_size)
    x = (*grad[:-3], *input_size, w[2] * groups)
    g = _geometry(x, w[0], w[1], w[3], stride, padding, dilation, groups, auto_pad)
    check_result_size(g, "grad", grad)
    return check_winograd(g) if algorithm == 2 else g


def weight_geometry(
    grad: Sequence[int],
    x: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    auto_pad: int,
    algorithm: int,
) -> Geometry:
    """The convolution whose weight gradient is asked for, from the shapes of `grad` and `x`."""
    stride, padding, dilation = check_steps(stride, padding, dilation, groups, auto_pad)
    _check_algorithm(algorithm)
    check_rank("grad", grad)
    check_rank("x", x)
    check_size("kernel_size", kernel_size)
    for name, shape in (("x", x), ("grad", grad)):
        if holds(shape[-1] < groups) or holds(shape[-1] % groups != 0):
            texts.fail(
                texts.DIVISIBLE,
                groups=groups,
                role=texts.ROLES[name],
                dim=len(shape) - 1,
                name=name,
                size=shape,
            )
    check_image(x)
    g = _geometry(x, kernel_size[0], kernel_size[1], grad[-1], stride, padding, dilation, groups, auto_pad)
    check_result_size(g, "grad", grad)
    return check_winograd(g) if algorithm == 2 else g


def check_winograd(g: Geometry) -> Geometry:
    """Raises unless Winograd's algorithm can compute the convolution: 3x3, stride 1, dilation 1."""
    for name, needed, shown, value in (
        ("kernel_size", 3, "3x3", (g.KH, g.KW)),
        ("stride", 1, "1", g.stride),
        ("dilation", 1, "1", g.dilation),
    ):
        if holds(value[0] != needed) or holds(value[1] != needed):
            texts.fail(texts.WINOGRAD, name=name, expected=shown, value=tuple(value))
    return g


def check_tensors(**tensors: Tensor | None) -> None:
    """Raises unless all named tensors (None: left out) are dense, of the dtype and on the device of the first one."""
    check_devices(**tensors)
    (a, first), *others = tensors.items()
    assert first is not None
    for b, other in others:
        if other is None:
            continue
        for name, dtype in ((a, first.dtype), (b, other.dtype)):
            if dtype not in texts.CONVOLVED_DTYPES:
                texts.fail(texts.CONVOLVED, name=name, dtype=texts.dtype_name(dtype))
        if other.dtype != first.dtype:
            texts.fail(
                texts.DTYPE,
                **{"role_a": texts.ROLES[a].capitalize(), "a": a, "dtype_a": texts.dtype_name(first.dtype)},
                **{"role_b": texts.ROLES[b], "b": b, "dtype_b": texts.dtype_name(other.dtype)},
            )


def check_out_dtype(out_dtype: torch.dtype | None, dtype: torch.dtype) -> torch.dtype:
    """The dtype of a weight gradient of x of `dtype`: that, unless the dtype of its sums is asked for."""
    allowed = dict.fromkeys((dtype, ARITHMETIC.get(dtype, dtype)))
    if out_dtype is not None and out_dtype not in allowed:
        name, actual, *expected = map(texts.dtype_name, (dtype, out_dtype, *allowed))
        texts.fail(texts.OUT_DTYPE, expected=" or ".join(expected), dtype=name, actual=actual)
    return out_dtype or dtype


def check_devices(**tensors: Tensor | None) -> None:
    """Raises unless all named tensors (None: left out) are dense and on the device of the first one."""
    check_dense(**tensors)
    (a, first), *others = tensors.items()
    assert first is not None
    for b, other in others:
        if other is not None and other.device != first.device:
            texts.fail(texts.DEVICE, a=a, device_a=first.device, b=b, device_b=other.device)


def check_dense(**tensors: Tensor | None) -> None:
    """Raises where a named tensor (None: left out) is sparse, nested, or in a layout of another library."""
    for name, t in tensors.items():
        if t is None:
            continue
        if t.is_nested:
            texts.fail(texts.NESTED, name=name)
        if t.layout is not torch.strided:
            texts.fail(texts.LAYOUT, name=name, layout=t.layout)


def _geometry(
    x: Sequence[int],
    KH: int,
    KW: int,
    O: int,  # noqa: E741
    stride: tuple[int, int],
    padding: tuple[int, ...],
    dilation: tuple[int, int],
    groups: int,
    auto_pad: int,
) -> Geometry:
    H, W = x[-3:-1]
    if auto_pad == EXPLICIT:
        top, bottom, left, right = sides = four_sides(padding)
        padded = (H + top + bottom, W + left + right)
        kernel = (extent(KH, dilation[0]), extent(KW, dilation[1]))
        _check_count("padded input x", (*x[:-3], *padded, x[-1]))
        check_kernel(kernel, padded)
        OH = output_size(H, KH, stride[0], dilation[0], top, bottom)
        OW = output_size(W, KW, stride[1], dilation[1], left, right)
    else:
        h = same_sides(H, KH, stride[0], dilation[0], auto_pad)
        w = same_sides(W, KW, stride[1], dilation[1], auto_pad)
        sides = (*h, *w)
        _check_count("padded input x", (*x[:-3], H + h[0] + h[1], W + w[0] + w[1], x[-1]))
        OH, OW = same_output_size(H, stride[0]), same_output_size(W, stride[1])
    batched = len(x) == 4
    g = Geometry(
        x[0] if batched else 1, H, W, x[-1], KH, KW, O, OH, OW, stride, sides, dilation, groups, batched
    )  # fmt: skip
    _check_count("weight w", g.w_shape)
    _check_count("result", g.out_shape)
    return g


def _check_algorithm(algorithm: int) -> None:
    if algorithm not in (0, 1, 2):
        texts.fail(texts.ALGORITHM, value=algorithm)


def check_result_size(g: Geometry, name: str, shape: Sequence[int]) -> None:
    expected = g.out_shape
    if len(shape) != len(expected) or any(holds(a != b) for a, b in zip(shape, expected, strict=True)):
        texts.fail(texts.RESULT_SIZE, name=name, expected=expected, actual=shape)


def _check_count(what: str, shape: Sequence[int]) -> None:
    # Symbolic sizes are not asked: a guard on their product would only restrict the compiled graph.
    if all(isinstance(n, int) for n in shape) and prod([max(n, 1) for n in shape]) > texts.MAX_ELEMENTS:
        texts.fail(texts.OVERFLOW, what=what, limit=texts.MAX_ELEMENTS, size=shape)
