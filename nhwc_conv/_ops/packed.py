"""conv2d on weights that were packed ahead of the calls: the ops without the extension, and what they refuse.

The extension packs a header and panels in the kernels' order; here it is a header of zeros and the weight.
How much that is depends on the instruction set, so that the fake of pack_weight refuses to tell.
"""

from __future__ import annotations

from math import prod

import torch

from .. import _extension
from .._geometry import check_dense, check_tensors, forward_geometry, holds, texts
from .schema import library, ops

HEADER = 16  # elements, as in csrc/conv/packed_weights.h


def check_packable(w):
    if w.dtype not in (torch.float32, torch.float64):
        texts.fail(texts.PACKABLE, dtype=texts.dtype_name(w.dtype))


def check_weight(w, groups):
    check_dense(w=w)
    check_packable(w)
    forward_geometry((*w.shape[:2], w.shape[2] * groups), w.shape, None, (1,), (0,), (1,), groups, 0)


def pack_weight(w, groups=1, winograd=True):
    check_weight(w, groups)
    return torch.cat((w.new_zeros(HEADER), w.reshape(-1)))


def conv2d_packed(x, packed, weight_size, bias=None, *geometry):
    check_packable(packed)
    check_tensors(x=x, w=packed, bias=bias)
    weight = packed[HEADER:]
    if packed[:HEADER].any() or weight.numel() != torch.Size(weight_size).numel():
        texts.fail(texts.PACKED)
    return ops.conv2d(x, weight.view(weight_size), bias, *geometry)


def fake_pack_weight(w, groups=1, winograd=True):
    check_weight(w, groups)
    if _extension.available and w.device.type in ("cpu", "meta"):
        texts.fail(texts.PACKED_SIZE)
    return w.new_empty(HEADER + w.numel())


def fake_packed(
    x, packed, weight_size, bias=None, stride=(1,), padding=(0,), dilation=(1,), groups=1, auto_pad=0
):
    check_packable(packed)
    check_tensors(x=x, w=packed, bias=bias)
    bias_shape = None if bias is None else bias.shape
    steps = stride, padding, dilation
    g = forward_geometry(x.shape, weight_size, bias_shape, *steps, groups, auto_pad)
    if packed.dim() != 1 or holds(packed.numel() < HEADER + prod(weight_size)):
        texts.fail(texts.PACKED)  # the rest is in the header
    return x.new_empty(g.out_shape)


library.impl("pack_weight", pack_weight, "CompositeExplicitAutograd")
library.impl("conv2d_packed", conv2d_packed, "CompositeExplicitAutograd")
torch.library.register_fake("nhwc_conv::pack_weight", fake_pack_weight, lib=library)
torch.library.register_fake("nhwc_conv::conv2d_packed", fake_packed, lib=library)
