"""conv2d on weights that were packed ahead of the calls: the ops without the extension, and what they refuse.

The extension packs a header and panels in the kernels' order, in a buffer whose size is the same on every machine. Here
it is a header of zeros, but for the dtype and the memory format, and the weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._C import _AutoDispatchBelowADInplaceOrView as BelowViews

from .. import _extension
from .._geometry import (
    Geometry,
    check_dense,
    check_devices,
    check_result_size,
    check_tensors,
    forward_geometry,
    holds,
    texts,
)
from .._geometry.dtypes import ARITHMETIC, COMPUTED
from .finish import ACTIVATIONS, Finish
from .memory_format import in_format, suggests_channels_last
from .schema import completed, library, ops
from .weight_order import in_hwio

HEADER = 16  # elements; csrc/conv/packed_weights.h has as many of 64 bits
DTYPE, CHANNELS_LAST = 0, 1  # places in it


def check_packable(w: Tensor) -> None:
    if w.dtype not in ARITHMETIC:
        texts.fail(texts.PACKABLE, dtype=texts.dtype_name(w.dtype))


def check_packed(x: Tensor, packed: Tensor, bias: Tensor | None) -> None:
    check_packable(packed)
    if x.dtype not in ARITHMETIC:
        check_tensors(x=x, w=packed, bias=bias)
    elif packed.dtype != ARITHMETIC[x.dtype]:
        names = {"expected": ARITHMETIC[x.dtype], "dtype": x.dtype, "actual": packed.dtype}
        texts.fail(texts.PACKED_DTYPE, **{name: texts.dtype_name(dtype) for name, dtype in names.items()})
    check_devices(x=x, packed=packed)
    check_tensors(x=x, bias=bias)


def checked_weight(w: Tensor, groups: int, oihw: bool) -> Tensor:
    """The weight as [KH, KW, C/groups, O]."""
    check_dense(w=w)
    check_packable(w)
    w = in_hwio(w, oihw)
    forward_geometry((*w.shape[:2], w.shape[2] * groups), w.shape, None, (1,), (0,), (1,), groups, 0)
    return w


def pack_weight(w: Tensor, groups: int, winograd: bool, oihw: bool) -> Tensor:
    hwio = checked_weight(w, groups, oihw)
    start = header(hwio)
    start[CHANNELS_LAST] = oihw and suggests_channels_last(w)
    return torch.cat((start, hwio.reshape(-1))).to(ARITHMETIC[w.dtype])


def header(t: Tensor) -> Tensor:
    """Of a packing for an x of the dtype of `t`."""
    values = t.new_zeros(HEADER)
    values[DTYPE] = COMPUTED.index(t.dtype)
    return values


def fake_pack_weight(w: Tensor, groups: int, winograd: bool, oihw: bool) -> Tensor:
    w = checked_weight(w, groups, oihw)
    dtype = ARITHMETIC[w.dtype]
    if _extension.module is not None and w.device.type in ("cpu", "meta"):
        name, shape = str(w.dtype).removeprefix("torch."), tuple(map(int, w.shape))
        return w.new_empty(_extension.module.packed_size(name, shape, groups, winograd), dtype=dtype)
    return w.new_empty(HEADER + w.numel(), dtype=dtype)


def conv2d_packed(
    x: Tensor, packed: Tensor, weight_size: Sequence[int], bias: Tensor | None, *others: Any
) -> Tensor:
    *geometry, weight, oihw, nchw, residual = others[:9]
    finish = checked_finish(others[9:])
    images, x = x, in_nhwc(x) if nchw else x
    residual = in_nhwc(residual) if nchw and residual is not None else residual
    check_packed(x, packed, bias)
    if residual is not None:
        g = forward_geometry(x.shape, weight_size, None if bias is None else bias.shape, *geometry)
        check_residual(g, x, residual)
    if weight is None:
        start, values = packed[:HEADER].clone(), packed[HEADER:]
        channels_last = bool(start[CHANNELS_LAST : CHANNELS_LAST + 1].any())
        start[CHANNELS_LAST : CHANNELS_LAST + 1] = 0
        if not torch.equal(start, header(x).to(packed.dtype)) or values.numel() != prod(weight_size):
            texts.fail(texts.PACKED)
        w = values.view(weight_size)
    else:  # nothing is gained by the packing
        channels_last = oihw and suggests_channels_last(weight)
        w = checked_fallback(x, weight, weight_size, oihw).to(packed.dtype)
    # As wide as what is packed: its values are those of a weight that was rounded already.
    wide = None if bias is None else bias.to(packed.dtype)
    out = finish.of(ops.conv2d(x.to(packed.dtype), w, wide, *geometry), residual).to(x.dtype)
    return in_nchw(out, images, channels_last) if nchw else out


def fake_packed(
    x: Tensor, packed: Tensor, weight_size: Sequence[int], bias: Tensor | None, *others: Any
) -> Tensor:
    *geometry, weight, oihw, nchw, residual = others[:9]
    checked_finish(others[9:])
    images, x = x, in_nhwc(x) if nchw else x
    check_packed(x, packed, bias)
    g = forward_geometry(x.shape, weight_size, None if bias is None else bias.shape, *geometry)
    if residual is not None:
        check_residual(g, x, in_nhwc(residual) if nchw else residual)
    if weight is not None:
        checked_fallback(x, weight, weight_size, oihw)
    elif packed.dim() != 1 or holds(packed.numel() < HEADER + prod(weight_size)):
        texts.fail(texts.PACKED)  # the rest is in the header
    out = x.new_empty(g.out_shape)
    return (
        in_nchw(out, images, weight is not None and oihw and suggests_channels_last(weight)) if nchw else out
    )


def checked_finish(values: Sequence[Any]) -> Finish:
    finish = Finish(*values)
    if not 0 <= finish.activation < len(ACTIVATIONS):
        texts.fail(texts.ACTIVATION, count=len(ACTIVATIONS), value=finish.activation)
    return finish


def check_residual(g: Geometry, x: Tensor, residual: Tensor) -> None:
    check_tensors(x=x, residual=residual)
    check_result_size(g, "residual", residual.shape)


def in_nhwc(images: Tensor) -> Tensor:
    return images.movedim(-3, -1) if images.dim() >= 3 else images


def in_nchw(out: Tensor, images: Tensor, channels_last: bool) -> Tensor:
    """NHWC `out` in the memory format that F.conv2d chooses for `images`, and a weight `channels_last` or not."""
    batch = images if images.dim() == 4 else images.unsqueeze(0)
    with BelowViews():  # an op returns no views
        return in_format(out.movedim(-1, -3), channels_last or suggests_channels_last(batch))


def checked_fallback(x: Tensor, weight: Tensor, weight_size: Sequence[int], oihw: bool) -> Tensor:
    """The weight to compute from where what is packed is not a packing of it, as [KH, KW, C/groups, O]."""
    check_tensors(x=x, weight=weight)
    w = in_hwio(weight, oihw)
    if w.dim() != 4 or any(holds(a != b) for a, b in zip(w.shape, weight_size, strict=True)):
        texts.fail(texts.PACKED_WEIGHT, expected=tuple(weight_size), actual=w.shape)
    return w


for _name, _fallback, _fake in (
    ("pack_weight", pack_weight, fake_pack_weight),
    ("conv2d_packed", conv2d_packed, fake_packed),
):
    library.impl(_name, completed(_name, _fallback), "CompositeExplicitAutograd")
    torch.library.register_fake(f"nhwc_conv::{_name}", completed(_name, _fake), lib=library)
