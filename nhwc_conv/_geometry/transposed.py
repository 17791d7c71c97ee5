"""Sizes of a transposed convolution: the input gradient of the convolution that would undo it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from . import texts
from .checks import _check_rank, _check_steps, _check_weight
from .sizes import EXPLICIT, extent, four_sides, holds, two


class Transposed(NamedTuple):
    """conv2d_input of x, with `more` zero rows and columns appended to it, at this `size`."""

    size: tuple[int, int]
    more: tuple[int, int]


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
) -> Transposed:
    """Of shapes `x` [N, H, W, C], `w` [KH, KW, O/groups, C] and `bias` (or None), everything checked.

    `output_size` is (OH, OW), or None where output_padding tells. Without auto_pad, OH is
    (H - 1) * stride - top - bottom + dilation * (KH - 1) + 1 + output_padding; with it, H * stride.
    """
    stride, padding, dilation = _check_steps(stride, padding, dilation, groups, auto_pad)
    _check_rank("x", x, "conv_transpose2d")
    _check_weight(w, groups)
    if holds(x[-1] != w[3]):
        texts.fail(texts.TRANSPOSED_CHANNELS, w=w, x=x, expected=w[3], actual=x[-1])
    O = w[2] * groups  # noqa: E741
    if bias is not None and (len(bias) != 1 or holds(bias[0] != O)):
        texts.fail(texts.TRANSPOSED_BIAS, w=w, O=O, bias=bias)
    if holds(x[-3] < 1) or holds(x[-2] < 1):
        texts.fail(texts.EMPTY_IMAGE, size=x)
    output_padding = _check_output_padding(output_padding, stride, dilation, auto_pad)
    if auto_pad == EXPLICIT:
        top, bottom, left, right = four_sides(padding)
        least = (
            (x[-3] - 1) * stride[0] - top - bottom + extent(w[0], dilation[0]),
            (x[-2] - 1) * stride[1] - left - right + extent(w[1], dilation[1]),
        )
        size = least[0] + output_padding[0], least[1] + output_padding[1]
    else:
        least = (x[-3] - 1) * stride[0] + 1, (x[-2] - 1) * stride[1] + 1
        size = x[-3] * stride[0], x[-2] * stride[1]
    if output_size is not None:
        size = _check_output_size(output_size, output_padding, least, stride)
    if holds(size[0] < 1) or holds(size[1] < 1):
        texts.fail(texts.TRANSPOSED_SIZE, H=x[-3], W=x[-2], OH=size[0], OW=size[1])
    # Under a wide dilation output_padding may reach past where another input would have been.
    more = (0, 0)
    if output_size is None and any(output_padding):
        more = output_padding[0] // stride[0], output_padding[1] // stride[1]
    return Transposed(size, more)


def _check_output_padding(
    output_padding: Sequence[int], stride: tuple[int, int], dilation: tuple[int, int], auto_pad: int
) -> tuple[int, int]:
    output_padding = tuple(output_padding)
    if len(output_padding) not in (1, 2):
        texts.fail(texts.LENGTH, name="output_padding", length="2", value=output_padding)
    if not any(output_padding):
        return 0, 0
    if min(output_padding) < 0:
        texts.fail(texts.NEGATIVE_OUTPUT_PADDING, value=output_padding)
    if auto_pad:
        texts.fail(texts.AUTO_PAD_AND_OUTPUT_PADDING, auto_pad=auto_pad, value=output_padding)
    output_padding = two(output_padding)
    if any(p >= max(s, d) for p, s, d in zip(output_padding, stride, dilation, strict=True) if p):
        texts.fail(texts.OUTPUT_PADDING, value=output_padding, stride=stride, dilation=dilation)
    return output_padding


def _check_output_size(
    output_size: Sequence[int],
    output_padding: tuple[int, int],
    least: tuple[int, int],
    stride: tuple[int, int],
) -> tuple[int, int]:
    output_size = tuple(output_size)
    if len(output_size) != 2:
        texts.fail(texts.SIZE_LENGTH, name="output_size", value=output_size)
    if any(output_padding):
        texts.fail(texts.OUTPUT_SIZE_AND_PADDING, size=output_size, value=output_padding)
    most = least[0] + stride[0] - 1, least[1] + stride[1] - 1
    if any(holds(n < low) or holds(n > high) for low, n, high in zip(least, output_size, most, strict=True)):
        texts.fail(texts.OUTPUT_SIZE, size=output_size, least=least, most=most)
    return output_size
