"""A convolution in a graph of torch.compile by ops of nhwc_conv."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch
from torch import fx
from torch._C import _set_grad_enabled as set_grad_enabled

from .._geometry import as_ints, op_geometry, padding_argument, transposed_geometry
from .._geometry.arguments import OpGeometry
from .._geometry.sizes import two
from .._geometry.transposed import Transposed
from .._ops import ops
from .._ops.memory_format import is_result_channels_last
from .._ops.weight_order import HWIO
from ..nn.drop_in_1d import beside
from .calls import read
from .graph import call, is_ours, is_static, replace, value

aten = torch.ops.aten
permute = aten.permute.default
NHWC, NCHW = {3: (1, 2, 0), 4: (0, 2, 3, 1)}, {3: (2, 0, 1), 4: (0, 3, 1, 2)}  # by number of dimensions
ROW = -2  # the dimension that makes images and kernels of one row of sequences and theirs


def rewrite(node: fx.Node, in_no_grad: bool, constants: Collection[fx.Node]) -> bool:
    """Rewrites a call of a function that convolves, if nhwc_conv can compute it."""
    said = read(node)
    if said is None:
        return False
    image, kernel = value(said.input), value(said.weight)
    given = said.stride, said.padding, said.dilation, said.output_padding, said.groups
    if (
        not all(map(is_static, given))
        or not is_ours(value(node), image, kernel)
        or kernel.dim() not in (3, 4)
    ):
        return False
    is_row = kernel.dim() == 3
    stride, padding, dilation, output_padding, groups = given
    padding, auto_pad = padding_argument(padding)
    sizes: Any = image.shape, kernel.shape
    if is_row:
        stride, dilation = beside(1, stride), beside(1, dilation)
        padding, output_padding = beside(0, padding), beside(0, output_padding)
        sizes = tuple((*size[:-1], 1, size[-1]) for size in sizes)
    geometry = op_geometry(stride, padding, dilation, groups, auto_pad)
    more = as_ints("output_padding", output_padding)
    to_nhwc, to_nchw = NHWC[len(sizes[0])], NCHW[len(sizes[0])]
    x_size, w_size = ([size[i] for i in order] for size, order in zip(sizes, (to_nhwc, HWIO), strict=True))
    if said.transposed:
        try:
            steps, sides, apart, groups, auto_pad = geometry
            g = transposed_geometry(x_size, w_size, None, steps, sides, more, apart, groups, auto_pad)
        except RuntimeError:  # aten's to refuse, when it is called
            return False
    with node.graph.inserting_before(node):
        x, w = said.input, said.weight
        if is_row:
            x, w = (call(node, aten.unsqueeze.default, t, ROW) for t in (x, w))
        x, w = call(node, permute, x, to_nhwc), call(node, permute, w, HWIO)
        if said.transposed:
            out = transposed(node, x, w, said.bias, x_size, g, geometry)
        else:
            out = forward(node, x, w, said.bias, w_size if said.weight in constants else None, geometry)
        # F.conv2d's result is no view. One made in no_grad could not be changed in place outside of it.
        if in_no_grad:
            call(node, set_grad_enabled, True)
        out = call(node, permute, out, to_nchw)
        if is_row:
            out = call(node, aten.squeeze.dim, out, ROW)
        if in_no_grad:
            call(node, set_grad_enabled, False)
        if is_row or not is_result_channels_last(image, kernel):
            out = call(node, aten.clone.default, out, memory_format=torch.contiguous_format)
        replace(node, out)
    return True


def forward(
    node: fx.Node, x: fx.Node, w: fx.Node, bias: Any, w_size: list[int] | None, geometry: OpGeometry
) -> fx.Node:
    """The convolution, by a packed weight where the weight is a constant of `w_size`."""
    if not is_static(w_size):
        return call(node, ops.conv2d.default, x, w, bias, *geometry)
    stride, _, dilation, groups, _ = geometry
    may_be_winograd = {*stride, *dilation} == {1}
    # The weight itself need not come along: packing is a part of each start, never of what is kept on disk.
    packed = call(node, ops.pack_weight.default, w, groups, may_be_winograd)
    return call(node, ops.conv2d_packed.default, x, packed, w_size, bias, *geometry)


def transposed(
    node: fx.Node, x: fx.Node, w: fx.Node, bias: Any, x_size: list[Any], g: Transposed, geometry: OpGeometry
) -> fx.Node:
    """The same as nhwc_conv.conv_transpose2d."""
    if any(g.more):
        x = call(node, aten.constant_pad_nd.default, x, [0, 0, 0, g.more[1], 0, g.more[0]])
    size: list[Any] = []
    for dim, step, n, length in zip((-3, -2), two(geometry[0]), x_size[-3:-1], g.size, strict=True):
        if type(length) is not int:  # a node computes it, as n * step + what is constant
            product = call(node, operator.mul, call(node, aten.sym_size.int, x, dim), step)
            size.append(call(node, operator.add, product, int(length - n * step)))
        else:
            size.append(length)
    out = call(node, ops.conv2d_input.default, x, w, size, *geometry)
    return out if bias is None else call(node, aten.add.Tensor, out, bias)
