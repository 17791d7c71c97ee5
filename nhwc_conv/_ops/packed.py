"""conv2d on weights that were packed ahead of the calls: the ops without the extension, and what they refuse.

The extension packs a header and panels in the kernels' order; here it is a header of zeros and the weight.
pack_weight has no fake: how much it returns depends on the instruction set.
"""

from __future__ import annotations

import torch

from .._geometry import check_tensors, forward_geometry, texts
from .schema import library, ops

HEADER = 16  # elements, as in csrc/conv/packed_weights.h


def check_packable(w):
    if w.dtype not in (torch.float32, torch.float64):
        texts.fail(texts.PACKABLE, dtype=texts.dtype_name(w.dtype))


def pack_weight(w, groups=1, winograd=True):
    check_packable(w)
    forward_geometry((*w.shape[:2], w.shape[2] * groups), w.shape, None, (1,), (0,), (1,), groups, 0)
    return torch.cat((w.new_zeros(HEADER), w.reshape(-1)))


def conv2d_packed(x, packed, weight_size, bias=None, *geometry):
    check_packable(packed)
    weight = packed[HEADER:]
    if packed[:HEADER].any() or weight.numel() != torch.Size(weight_size).numel():
        texts.fail(texts.PACKED)
    return ops.conv2d(x, weight.view(weight_size), bias, *geometry)


def fake_packed(
    x, packed, weight_size, bias=None, stride=(1,), padding=(0,), dilation=(1,), groups=1, auto_pad=0
):
    check_tensors(x=x, w=packed, bias=bias)
    bias_shape = None if bias is None else bias.shape
    steps = stride, padding, dilation
    return x.new_empty(forward_geometry(x.shape, weight_size, bias_shape, *steps, groups, auto_pad).out_shape)


library.impl("pack_weight", pack_weight, "CompositeExplicitAutograd")
library.impl("conv2d_packed", conv2d_packed, "CompositeExplicitAutograd")
torch.library.register_fake("nhwc_conv::conv2d_packed", fake_packed, lib=library)
