"""Sizes of a transposed convolution: the input gradient of the convolution that would undo it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from . import texts
from .operands import by, check_image, check_rank, check_steps, check_weight
from .sizes import EXPLICIT, extent, four_sides, holds, two


class Transposed(NamedTuple):
    """conv2d_input of x, with `more` zero rows and columns appended to it, at this `size`."""

    size: tuple[int, ...]
    more: tuple[int, ...]


def transposed_geometry(
    x: Sequence[int],
    w: Sequence[int],
    bias: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    auto_pad: int,
    output_size: Sequence[int] | None = None,
    axes: int = 2,
) -> Transposed:
    """Of shapes `x` [N, H, W, C], `w` [KH, KW, O/groups, C] and `bias` (or None), everything checked.

    With one of `axes` they are [N, W, C] and [K, O/groups, C], and padding is (n,) or (left, right).
    `output_size` is (OH, OW), or None where output_padding tells. Without auto_pad, OH is
    (H - 1) * stride - top - bottom + dilation * (KH - 1) + 1 + output_padding; with it, H * stride.
    """
    stride, padding, dilation = check_steps(stride, padding, dilation, groups, auto_pad)
    stride, dilation = stride[:axes], dilation[:axes]
    check_rank("x", x, f"conv_transpose{axes}d", axes)
    check_weight(w, groups, axes)
    if holds(x[-1] != w[-1]):
        texts.fail(texts.TRANSPOSED_CHANNELS, w=w, x=x, expected=w[-1], actual=x[-1])
    O = w[-2] * groups  # noqa: E741
    if bias is not None and (len(bias) != 1 or holds(bias[0] != O)):
        texts.fail(texts.TRANSPOSED_BIAS, w=w, O=O, bias=bias)
    check_image(x, axes)
    output_padding = _check_output_padding(output_padding, stride, dilation, auto_pad)
    image = x[-1 - axes : -1]
    first = [(n - 1) * s for n, s in zip(image, stride, strict=True)]
    if auto_pad == EXPLICIT:
        sides = four_sides(padding) if axes == 2 else two(padding)
        removed = [before + after for before, after in zip(sides[::2], sides[1::2], strict=True)]
        taps = [extent(k, d) for k, d in zip(w[:axes], dilation, strict=True)]
        least = tuple(f - r + t for f, r, t in zip(first, removed, taps, strict=True))
        size = tuple(n + more for n, more in zip(least, output_padding, strict=True))
    else:
        least = tuple(f + 1 for f in first)
        size = tuple(n * s for n, s in zip(image, stride, strict=True))
    if output_size is not None:
        size = _check_output_size(output_size, output_padding, least, stride)
    if any(holds(n < 1) for n in size):
        texts.fail(texts.TRANSPOSED_SIZE, given=by(image), size=by(size))
    # Under a wide dilation output_padding may reach past where another input would have been.
    more: tuple[int, ...] = (0,) * axes
    if output_size is None and any(output_padding):
        more = tuple(p // s for p, s in zip(output_padding, stride, strict=True))
    return Transposed(size, more)


def _check_output_padding(
    output_padding: Sequence[int], stride: tuple[int, ...], dilation: tuple[int, ...], auto_pad: int
) -> tuple[int, ...]:
    output_padding, axes = tuple(output_padding), len(stride)
    if len(output_padding) not in (1, axes):
        texts.fail(texts.LENGTH, name="output_padding", length=axes, value=output_padding)
    if not any(output_padding):
        return (0,) * axes
    if min(output_padding) < 0:
        texts.fail(texts.NEGATIVE_OUTPUT_PADDING, value=output_padding)
    if auto_pad:
        texts.fail(texts.AUTO_PAD_AND_OUTPUT_PADDING, auto_pad=auto_pad, value=output_padding)
    output_padding *= axes // len(output_padding)
    if any(p >= max(s, d) for p, s, d in zip(output_padding, stride, dilation, strict=True) if p):
        texts.fail(texts.OUTPUT_PADDING, value=output_padding, stride=stride, dilation=dilation)
    return output_padding


def _check_output_size(
    output_size: Sequence[int],
    output_padding: tuple[int, ...],
    least: tuple[int, ...],
    stride: tuple[int, ...],
) -> tuple[int, ...]:
    output_size = tuple(output_size)
    if len(output_size) != len(stride):
        texts.fail(texts.SIZE_LENGTH, length=len(stride), name="output_size", value=output_size)
    if any(output_padding):
        texts.fail(texts.OUTPUT_SIZE_AND_PADDING, size=output_size, value=output_padding)
    most = tuple(low + s - 1 for low, s in zip(least, stride, strict=True))
    if any(holds(n < low) or holds(n > high) for low, n, high in zip(least, output_size, most, strict=True)):
        texts.fail(texts.OUTPUT_SIZE, size=output_size, least=least, most=most)
    return output_size
