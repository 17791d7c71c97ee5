"""Convolutions of one tensor whose results are added, as one convolution.

Ding et al., "RepVGG: making VGG-style ConvNets great again", 2021: structural re-parameterization.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .fold import Norm, norm_of, ones, parameters_in_double, with_parameters
from .fuse import may_write
from .graph import ADDITIONS, called, is_read, let_do, name_in_model, operands, replace, source, why_not_plain
from .report import ConvertReport


class Branch(NamedTuple):
    """A convolution, or a BatchNorm, which multiplies each channel by a number, and adds one."""

    node: fx.Node
    conv: Any
    norm: Norm | None

    def is_tap_of(self, conv: Any) -> bool:
        """Whether `conv` keeps the size of images, so that the tap in its middle can do what a BatchNorm does."""
        assert self.norm is not None
        channels, dims = len(self.norm.mean), range(conv.weight.dim() - 2)
        return (
            conv.in_channels == conv.out_channels == channels
            and conv.weight.dtype == self.norm.mean.dtype
            and all(conv.stride[d] == 1 and 2 * margin(conv, d) == conv.kernel_size[d] - 1 for d in dims)
        )

    def fits_into(self, conv: Any) -> bool:
        """Whether `conv` has a tap wherever this branch has one."""
        if self.norm is not None:
            return self.is_tap_of(conv)
        own = self.conv
        return (
            type(own) is type(conv)
            and (own.in_channels, own.out_channels, own.groups)
            == (conv.in_channels, conv.out_channels, conv.groups)
            and own.weight.dtype == conv.weight.dtype
            and tuple(own.stride) == tuple(conv.stride)
            and all(
                conv.kernel_size[d] - own.kernel_size[d] == 2 * (margin(conv, d) - margin(own, d)) >= 0
                for d in range(conv.weight.dim() - 2)
            )
        )

    def parameters(self, like: Any) -> tuple[Tensor, Tensor]:
        """Weight, with the taps that `like` has, and bias, in double precision."""
        if self.norm is not None:
            factor, bias = self.norm.line()
            channel, inputs = torch.arange(len(factor)), like.weight.shape[1]
            weight = factor.new_zeros(len(factor), inputs, *ones(like))
            weight[channel, channel % inputs] = factor.view(-1, *ones(like))
        else:
            weight, bias = parameters_in_double(self.conv)
        more = [k - n for k, n in zip(like.weight.shape[:1:-1], weight.shape[:1:-1], strict=True)]
        return F.pad(weight, [side for each in more for side in (each // 2, each // 2)]), bias


def merge_branches(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Makes one convolution of two that are added, of the same tensor, at the same stride and in the same groups.

    The kernel of one may be smaller, around the same place. One may be a BatchNorm.
    """
    remove_zeros(traced)
    for node in list(traced.graph.nodes):
        terms = operands(node, ADDITIONS) or ()
        branches = [b for b in (branch_of(traced, node, term) for term in terms) if b is not None]
        conv = widest(branches)
        if (
            conv is None
            or not read_the_same(traced, node, branches)
            or not all(b.fits_into(conv) for b in branches)
        ):
            continue
        weights, biases = zip(*(branch.parameters(conv) for branch in branches), strict=True)
        names = {b.node: name_in_model(b.node, prefix, (nn.BatchNorm1d, nn.BatchNorm2d)) for b in branches}
        theirs = ", ".join(names[b.node] for b in branches if b.norm is None)
        for branch in branches:
            if branch.norm is not None:
                found.unfolded.pop(names[branch.node], None)
                found.folded[names[branch.node]] = theirs
        found.fused[name_in_model(node, prefix)] = theirs
        let_do(traced, node, with_parameters(conv, sum(weights), sum(biases)), source(branches[0].node))
        for branch in branches:
            traced.graph.erase_node(branch.node)


def remove_zeros(traced: fx.GraphModule) -> None:
    """Takes out additions of 0 to results of layers: how loops over branches begin."""
    for node in list(traced.graph.nodes):
        terms = operands(node, ADDITIONS)
        for term, other in (terms, terms[::-1]) if terms else ():
            if type(other) is int and other == 0 and is_result(traced, term):
                replace(traced, node, term)
                break


def is_result(traced: fx.GraphModule, node: object) -> bool:
    """Of a layer, or a sum with one."""
    terms = operands(node, ADDITIONS)
    if terms is not None:
        return any(is_result(traced, term) for term in terms)
    return isinstance(node, fx.Node) and (
        called(traced, node) is not None or norm_of(traced, node) is not None
    )


def branch_of(traced: fx.GraphModule, node: fx.Node, term: object) -> Branch | None:
    """What computes a term that `node` alone gets, if that is a convolution whose padding is zeros, or a BatchNorm."""
    if not isinstance(term, fx.Node) or any(user is not node for user in term.users):
        return None
    norm = norm_of(traced, term)
    if isinstance(norm, Norm):
        return Branch(term, None, norm)
    conv = called(traced, term)
    if why_not_plain(traced, term) is not None or len(term.args) != 1 or is_read(traced, str(term.target)):
        return None
    dilated = any(k > 1 and d > 1 for k, d in zip(conv.kernel_size, conv.dilation, strict=True))
    return None if conv.padding_mode != "zeros" or dilated else Branch(term, conv, None)


def widest(branches: list[Branch]) -> Any:
    """The convolution with the most taps among two branches; None where there is none, or are no two."""
    convs = [branch.conv for branch in branches if branch.conv is not None]
    two = len({branch.node for branch in branches}) == 2
    return max(convs, key=lambda conv: conv.weight[0, 0].numel()) if convs and two else None


def read_the_same(traced: fx.GraphModule, node: fx.Node, branches: list[Branch]) -> bool:
    """Whether both read one tensor, to which nobody writes before `node` would read it."""
    x, other = (source(branch.node) for branch in branches)
    if x is not other or not isinstance(x, fx.Node):
        return False
    nodes = [branch.node for branch in branches]
    between = [user for user in x.users if min(nodes) < user < node and user not in nodes]
    return not any(may_write(traced, user) for user in between)


def margin(conv: Any, d: int) -> float:
    """The padding before an axis; for "same" half of what there is."""
    if isinstance(conv.padding, str):
        return (conv.kernel_size[d] - 1) / 2 if conv.padding == "same" else 0
    return float(conv.padding[d])
