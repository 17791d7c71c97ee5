"""BatchNorm folded into the convolution before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..nn.drop_in import Conv2d
from ..nn.linear import FusedLinear
from ..nn.twin import shallow_copy
from .graph import (
    PRODUCTS,
    attribute,
    bound,
    called,
    is_read,
    is_seen_elsewhere,
    name_in_model,
    operands,
    put,
    replace,
    source,
    why_not_plain,
)
from .report import ConvertReport
from .tracing import computes_as, has_hooks

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


@dataclass
class Norm:
    """What a BatchNorm in eval mode computes with: (x - mean) / sqrt(var + eps) * weight + bias."""

    mean: Tensor
    var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float


def fold_batch_norms(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Gives every convolution whose result goes to a BatchNorm alone that BatchNorm's scale and shift."""
    for node in list(traced.graph.nodes):
        norm = norm_of(traced, node)
        if norm is None:
            continue
        name, before = name_in_model(node, prefix, nn.BatchNorm2d), source(node)
        why = norm if isinstance(norm, str) else why_left_apart(traced, node, before, norm)
        if why is not None:
            found.unfolded[name] = why
            continue
        found.folded[name] = prefix + before.target
        assert isinstance(norm, Norm)  # a str is a reason
        put(traced, before, folded(called(traced, before), norm))
        replace(traced, node, before)


def norm_of(traced: fx.GraphModule, node: fx.Node) -> Norm | str | None:
    """What a node computes if it is a BatchNorm of images, or why that cannot be folded; None for any other node."""
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


def why_left_apart(traced: fx.GraphModule, node: fx.Node, before: Any, norm: Norm) -> str | None:
    """Why `norm` does not go into what is computed before it."""
    why = why_not_plain(traced, before)
    if why is not None:
        return why
    conv = called(traced, before)
    if is_seen_elsewhere(before, node):
        return f"the result of the convolution {before.target!r} goes elsewhere too"
    if conv.weight.dtype != norm.var.dtype:
        return f"it is of another dtype than the convolution {before.target!r}"
    if is_read(traced, before.target):
        return f"the weight of the convolution {before.target!r} is read elsewhere too"
    return None


def fold_scales(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Gives every layer whose result is alone multiplied by a parameter of one number a channel those numbers."""
    for node in list(traced.graph.nodes):
        factors = operands(node, PRODUCTS)
        for before, factor in (factors, factors[::-1]) if factors else ():
            scale, layer = attribute(traced, factor), called(traced, before)
            if not isinstance(scale, nn.Parameter) or not can_be_scaled(traced, node, before, scale):
                continue
            if isinstance(layer, FusedLinear):
                put(traced, before, scaled(layer, scale))
            else:
                ones, zeros = torch.ones_like(scale.flatten()), torch.zeros_like(scale.flatten())
                put(traced, before, folded(layer, Norm(zeros, ones, scale.detach().flatten(), zeros, 0.0)))
            found.fused[name_in_model(node, prefix)] = prefix + before.target
            replace(traced, node, before)
            break


def can_be_scaled(traced: fx.GraphModule, node: fx.Node, before: Any, scale: Tensor) -> bool:
    """Whether what `before` computes is a layer's alone, seen by `node` alone, and `scale` has one number a channel."""
    layer = called(traced, before)
    linear = type(layer) is FusedLinear and layer.activation is None
    if not linear and why_not_plain(traced, before) is not None:
        return False
    return (
        tuple(scale.shape) == ((layer.out_features,) if linear else (layer.out_channels, 1, 1))
        and scale.dtype == layer.weight.dtype
        and len(before.args) == 1
        and not is_seen_elsewhere(before, node)
        and not is_read(traced, before.target)
    )


def scaled(layer: FusedLinear, scale: Tensor) -> FusedLinear:
    made = shallow_copy(layer, FusedLinear)
    exact = scale.detach().double()
    for name, factor in (("weight", exact[:, None]), ("bias", exact)):
        old = layer._parameters[name]
        if old is not None:
            value = (old.detach().double() * factor).to(old.dtype)
            setattr(made, name, nn.Parameter(value, requires_grad=old.requires_grad))
    return made


def folded(conv: nn.Conv2d, norm: Norm) -> Conv2d:
    """The convolution that computes norm(conv(x)); scale and shift in double precision."""
    given: Any = conv  # torch.nn.Conv2d does not tell that its sizes are pairs
    layer = Conv2d(
        given.in_channels, given.out_channels, given.kernel_size, given.stride, given.padding, given.dilation,
        given.groups, True, given.padding_mode, device="meta", algorithm=getattr(conv, "algorithm", "auto"),
    )  # fmt: skip
    tensors = conv.weight, conv.bias, norm.mean, norm.var, norm.weight, norm.bias
    exact: list[Any] = [None if t is None else t.detach().double() for t in tensors]
    w, b, mean, var, scale, shift = exact
    weight, bias = fuse_conv_bn_weights(w, b, mean, var, norm.eps, scale, shift)
    for name, tensor in (("weight", weight), ("bias", bias)):
        value = tensor.detach().to(conv.weight.dtype)
        setattr(layer, name, nn.Parameter(value, requires_grad=conv.weight.requires_grad))
    return layer.eval()
