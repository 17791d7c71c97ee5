"""Arguments of images with two axes, or with one: rows. What each may be, and whether they belong together."""

from __future__ import annotations

from collections.abc import Sequence

from . import texts
from .sizes import EXPLICIT, SAME, SAME_LOWER, holds, two


def check_operands(
    x: Sequence[int], w: Sequence[int], bias: Sequence[int] | None, groups: int, op: str, axes: int
) -> None:
    """Of images [N, (H,) W, C] with one or two `axes`: shapes that belong to one convolution."""
    check_rank("x", x, op, axes)
    check_weight(w, groups, axes)
    if holds(x[-1] != w[-2] * groups):
        texts.fail(texts.CHANNELS, groups=groups, w=w, x=x, expected=w[-2] * groups, actual=x[-1])
    if bias is not None and (len(bias) != 1 or holds(bias[0] != w[-1])):
        texts.fail(texts.BIAS, w=w, O=w[-1], bias=bias)
    check_image(x, axes)


def check_image(x: Sequence[int], axes: int = 2) -> None:
    if any(holds(n < 1) for n in x[-1 - axes : -1]):
        texts.fail(texts.EMPTY_IMAGE, size=x)


def check_steps(
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int, auto_pad: int
) -> tuple[tuple[int, int], tuple[int, ...], tuple[int, int]]:
    if groups < 1:
        texts.fail(texts.NOT_POSITIVE, name="groups", value=groups)
    for name, value in (("stride", stride), ("dilation", dilation)):
        if len(value) not in (1, 2):
            texts.fail(texts.LENGTH, name=name, length="2", value=tuple(value))
        if min(value) < 1:
            texts.fail(texts.NOT_POSITIVE, name=name, value=tuple(value))
    padding = tuple(padding)
    if len(padding) not in (1, 2, 4):
        texts.fail(texts.LENGTH, name="padding", length="2 or 4", value=padding)
    if min(padding) < 0:
        texts.fail(texts.NEGATIVE, value=padding)
    for name, value in (("padding", padding), ("dilation", dilation)):
        if max(value) > texts.MAX_ELEMENTS:
            texts.fail(texts.AT_MOST, name=name, limit=texts.MAX_ELEMENTS, value=tuple(value))
    if auto_pad not in (EXPLICIT, SAME, SAME_LOWER):
        texts.fail(texts.AUTO_PAD, value=auto_pad)
    if auto_pad and any(padding):
        texts.fail(texts.AUTO_PAD_AND_PADDING, auto_pad=auto_pad, value=padding)
    return two(stride), padding, two(dilation)


def check_rank(name: str, shape: Sequence[int], op: str = "conv2d", axes: int = 2) -> None:
    least, most = axes + 1, axes + 2
    if len(shape) not in (least, most):
        texts.fail(texts.RANK, least=least, most=most, name=name, size=shape, op=op)


def check_weight(w: Sequence[int], groups: int, axes: int = 2) -> None:
    last = axes + 1
    if len(w) != last + 1:
        texts.fail(texts.WEIGHT_RANK if axes == 2 else texts.ROW_WEIGHT_RANK, size=w)
    for dim, least in enumerate((*(1,) * last, groups)):
        if holds(w[dim] < least):
            texts.fail(texts.AT_LEAST, groups=groups, least=least, dim=dim, size=w)
    if holds(w[last] % groups != 0):
        texts.fail(texts.DIVISIBLE, groups=groups, role="weight", dim=last, name="w", size=w)


def check_size(name: str, size: Sequence[int]) -> None:
    if len(size) != 2:
        texts.fail(texts.SIZE_LENGTH, length=2, name=name, value=tuple(size))
    if holds(size[0] < 1) or holds(size[1] < 1):
        texts.fail(texts.NOT_POSITIVE, name=name, value=tuple(size))


def check_kernel(kernel: Sequence[int], padded: Sequence[int]) -> None:
    if any(holds(k > n) for k, n in zip(kernel, padded, strict=True)):
        texts.fail(texts.KERNEL, padded=by(padded), kernel=by(kernel))


def by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
