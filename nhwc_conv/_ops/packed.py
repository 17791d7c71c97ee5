"""conv2d on weights that were packed ahead of the calls: the ops without the extension, and what they refuse.

The extension packs a header and panels in the kernels' order, in a buffer whose size is the same on every machine. Here
it is a header of zeros, but for the dtype, and the weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from .. import _extension
from .._geometry import check_dense, check_devices, check_tensors, forward_geometry, holds, texts
from .._geometry.dtypes import ARITHMETIC, COMPUTED
from .schema import completed, library, ops
from .weight_order import in_hwio

HEADER = 16  # elements; csrc/conv/packed_weights.h has as many of 64 bits


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
    w = checked_weight(w, groups, oihw)
    return torch.cat((header(w), w.reshape(-1))).to(ARITHMETIC[w.dtype])


def header(w: Tensor) -> Tensor:
    """Of a packing for an x of the dtype of `w`."""
    values = w.new_zeros(HEADER)
    values[0] = COMPUTED.index(w.dtype)
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
    *geometry, weight, oihw = others
    check_packed(x, packed, bias)
    if weight is None:
        weight = packed[HEADER:]
        if not torch.equal(packed[:HEADER], header(x).to(packed.dtype)) or weight.numel() != prod(
            weight_size
        ):
            texts.fail(texts.PACKED)
        weight = weight.view(weight_size)
        if packed.dtype != x.dtype:
            wide = None if bias is None else bias.to(packed.dtype)
            return ops.conv2d(x.to(packed.dtype), weight, wide, *geometry).to(x.dtype)
    else:  # nothing is gained by the packing
        weight = checked_fallback(x, weight, weight_size, oihw)
    return ops.conv2d(x, weight, bias, *geometry)


def fake_packed(
    x: Tensor, packed: Tensor, weight_size: Sequence[int], bias: Tensor | None, *others: Any
) -> Tensor:
    *geometry, weight, oihw = others
    check_packed(x, packed, bias)
    g = forward_geometry(x.shape, weight_size, None if bias is None else bias.shape, *geometry)
    if weight is not None:
        checked_fallback(x, weight, weight_size, oihw)
    elif packed.dim() != 1 or holds(packed.numel() < HEADER + prod(weight_size)):
        texts.fail(texts.PACKED)  # the rest is in the header
    return x.new_empty(g.out_shape)


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
