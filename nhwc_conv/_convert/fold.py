"""BatchNorm folded into the convolutions before it, or into the one behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..nn.drop_in import Conv2d
from ..nn.drop_in_1d import Conv1d
from ..nn.linear import FusedLinear
from ..nn.twin import shallow_copy
from .classes import CONVOLUTION
from .graph import (
    attribute,
    bound,
    called,
    is_plain_transposed,
    is_read,
    is_seen_elsewhere,
    let_do,
    name_in_model,
    producers,
    put,
    replace,
    source,
    why_not_plain,
    why_not_theirs,
)
from .kinds import kinds_of
from .reads import reads_kind
from .report import ConvertReport
from .tracing import computes_as, has_hooks

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


@dataclass
class Norm:
    """What a BatchNorm in eval mode computes with: (x - mean) / sqrt(var + eps) * weight + bias."""

    mean: Tensor
    var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def line(self) -> tuple[Tensor, Tensor]:
        """Factor and summand of each channel, in double precision."""
        mean, var, weight, bias = in_double(self.mean, self.var, self.weight, self.bias)
        factor = torch.rsqrt(var + self.eps) * (1 if weight is None else weight)
        return factor, (0 if bias is None else bias) - mean * factor

    def split(self, counts: list[int]) -> list[Norm]:
        """Those of so many channels each."""
        tensors = self.mean, self.var, self.weight, self.bias
        means, variances, weights, biases = (
            [None] * len(counts) if t is None else t.split(counts) for t in tensors
        )
        return list(map(Norm, means, variances, weights, biases, [self.eps] * len(counts)))


def fold_batch_norms(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Gives the scale and shift of every BatchNorm to the convolutions whose results it alone gets, where it can.

    They may be concatenated in front of it. Else they go to the convolution that alone gets its result.
    """
    for node in list(traced.graph.nodes):
        norm = norm_of(traced, node)
        if norm is None:
            continue
        name = name_in_model(node, prefix, (nn.BatchNorm1d, nn.BatchNorm2d))
        user, *before = producers(node, partial(joins_channels, traced))
        if isinstance(norm, str):  # a reason
            found.unfolded[name] = norm
            continue
        why = why_not_theirs(node, user, before, partial(why_left_apart, traced, user, norm))
        if why is None and sum(called(traced, one).out_channels for one in before) != len(norm.mean):
            why = "it is over another dimension than channels"
        behind = None if why is None else convolution_behind(traced, node, norm)
        if why is None:
            found.folded[name] = ", ".join(prefix + one.target for one in before)
            counts = [called(traced, one).out_channels for one in before]
            for one, part in zip(before, norm.split(counts), strict=True):
                put(traced, one, folded(called(traced, one), part))
        elif behind is not None:
            found.folded[name] = f"{prefix}{behind.target}"
            put(traced, behind, folded_ahead(called(traced, behind), norm))
        else:
            found.unfolded[name] = why
            continue
        replace(traced, node, source(node))


def use_depthwise_layers(traced: fx.GraphModule) -> None:
    """Lets depthwise convolutions of one pixel compute the BatchNorms of images that are left: these can do more."""
    if len({kind.dtype for kind in kinds_of(traced)}) > 1:  # BatchNorms may be of another than images
        return
    for node in list(traced.graph.nodes):
        norm, before = norm_of(traced, node), source(node)
        if not isinstance(norm, Norm) or not is_of_images(traced, node):
            continue
        if isinstance(before, fx.Node) and before.op != "placeholder":
            factor, added = norm.line()
            layer: Any = Conv2d(len(factor), len(factor), 1, groups=len(factor), device="meta")
            for name, values in (("weight", factor.view(-1, 1, 1, 1)), ("bias", added)):
                setattr(layer, name, nn.Parameter(values.to(norm.mean.dtype), requires_grad=False))
            let_do(traced, node, layer.eval(), before)


def is_of_images(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether what a node computes is, or is called by, a BatchNorm that takes images alone."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    called_by = stack[-1][1] if stack else object
    return isinstance(called(traced, node), nn.BatchNorm2d) or issubclass(called_by, nn.BatchNorm2d)


def joins_channels(traced: fx.GraphModule, tensors: Sequence[Any], dim: int) -> bool:
    """Whether a concatenation is one of channels, which sequences have in another place from the end than images."""
    weight = getattr(called(traced, tensors[0]), "weight", None)
    return dim == 1 or (weight is not None and dim == 1 - weight.dim())


def convolution_behind(traced: fx.GraphModule, node: fx.Node, norm: Norm) -> fx.Node | None:
    """The convolution that alone gets what `node` computes, unless it pads with zeros, which `norm` would change."""
    user = next((user for user in node.users if not reads_kind(user)), None)
    conv = called(traced, user)
    if user is None or source(user) is not node or why_not_plain(traced, user) is not None:
        return None
    padded = conv.padding_mode == "zeros" and conv.padding != "valid" and set(conv.padding) != {0}
    other = is_seen_elsewhere(node, user) or conv.weight.dtype != norm.var.dtype
    other = other or conv.in_channels != len(norm.mean)
    return None if padded or other or is_read(traced, str(user.target)) else user


def norm_of(traced: fx.GraphModule, node: fx.Node) -> Norm | str | None:
    """What a node computes if it is a BatchNorm, or why that cannot be folded; None for any other node."""
    module = called(traced, node)
    if module is not None:
        if not isinstance(module, NORMS):
            return None
        if not computes_as(module, *NORMS):
            return f"{type(module).__name__} may do more than a BatchNorm"
        if has_hooks(module):
            return "it has hooks"
        if module.running_mean is None or module.running_var is None or module.training:
            return "it computes with the statistics of its batch"
        return Norm(module.running_mean, module.running_var, module.weight, module.bias, module.eps)
    if node.op != "call_function" or node.target is not F.batch_norm:
        return None
    given = bound(node, F.batch_norm)
    assert given is not None  # it has called that
    if given["training"] is not False:
        return "it may compute with the statistics of its batch"
    names = "running_mean", "running_var", "weight", "bias"
    tensors = [attribute(traced, given[name]) for name in names]
    mean, var, weight, bias = tensors
    if any(t is None and given[name] is not None for name, t in zip(names, tensors, strict=True)):
        return "its scale or shift is computed in the model"
    if mean is None or var is None:
        return "it computes with the statistics of its batch"
    return Norm(mean, var, weight, bias, given["eps"])


def why_left_apart(traced: fx.GraphModule, node: fx.Node, norm: Norm, before: Any) -> str | None:
    """Why `norm` does not go into what is computed before it."""
    conv = called(traced, before)
    why = None if is_plain_transposed(traced, before) else why_not_plain(traced, before)
    if why is not None:
        return why
    if is_seen_elsewhere(before, node):
        return f"the result of the convolution {before.target!r} goes elsewhere too"
    if conv.weight.dtype != norm.var.dtype:
        return f"it is of another dtype than the convolution {before.target!r}"
    if is_read(traced, before.target):
        return f"the weight of the convolution {before.target!r} is read elsewhere too"
    return None


def linear_with(layer: FusedLinear, factor: Tensor, added: Tensor | None) -> FusedLinear:
    """The layer that computes layer(x) * factor + added."""
    made = shallow_copy(layer, FusedLinear)
    weight, bias = in_double(layer.weight, layer.bias)
    if bias is not None:
        bias = bias * factor if added is None else bias * factor + added
    set_parameters(made, layer, weight * factor[:, None], added if bias is None else bias)
    return made


def folded(conv: Any, norm: Norm) -> nn.Module:
    """The convolution that computes norm(conv(x)); scale and shift in double precision."""
    w, b = in_double(conv.weight, conv.bias)
    factor, added = norm.line()
    bias = added if b is None else b * factor + added
    if not is_transposed(conv):
        return with_parameters(conv, w * factor.view(-1, 1, *ones(conv)), bias)
    made = shallow_copy(conv, type(conv))
    taps = w.unflatten(0, (conv.groups, -1))  # [groups, C/groups, O/groups, KH, KW]
    set_parameters(made, conv, (taps * factor.view(conv.groups, 1, -1, *ones(conv))).flatten(0, 1), bias)
    return made


def is_transposed(layer: Any) -> bool:
    return isinstance(layer, CONVOLUTION) and layer.transposed


def ones(conv: Any) -> tuple[int, ...]:
    """The size of a kernel of one tap."""
    return (1,) * (conv.weight.dim() - 2)


def folded_ahead(conv: Any, norm: Norm) -> nn.Module:
    """The convolution that computes conv(norm(x)), where it pads with no zeros; likewise."""
    w, b = in_double(conv.weight, conv.bias)
    factor, added = (values.view(conv.groups, 1, -1, *ones(conv)) for values in norm.line())
    taps = w.unflatten(0, (conv.groups, -1))  # [groups, O/groups, C/groups, KH, KW]
    bias = (taps * added).flatten(2).sum(2).flatten()
    return with_parameters(conv, (taps * factor).flatten(0, 1), bias if b is None else b + bias)


def in_double(*tensors: Tensor | None) -> list[Any]:
    return [None if t is None else t.detach().double() for t in tensors]


def parameters_in_double(conv: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias, which is zeros where there is none."""
    weight, bias = in_double(conv.weight, conv.bias)
    return weight, weight.new_zeros(conv.out_channels) if bias is None else bias


def with_parameters(conv: Any, weight: Tensor, bias: Tensor) -> nn.Module:
    """A convolution like `conv`, of its dtype."""
    cls = Conv1d if isinstance(conv, nn.Conv1d) else Conv2d
    layer = cls(
        conv.in_channels, conv.out_channels, conv.kernel_size, 1, conv.padding, conv.dilation,
        conv.groups, True, conv.padding_mode, device="meta", algorithm=getattr(conv, "algorithm", "auto"),
    )  # fmt: skip
    layer.stride = conv.stride  # torch.nn takes no "same" with one, which Keras has
    set_parameters(layer, conv, weight, bias)
    return layer.eval()


def set_parameters(layer: nn.Module, conv: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    """New ones, of the dtype of those of `conv`."""
    old: Any = conv.weight
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None:
            setattr(layer, name, nn.Parameter(tensor.detach().to(old.dtype), requires_grad=old.requires_grad))
