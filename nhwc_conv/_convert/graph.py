"""What torch.fx shows of a model, simplified for inference: BatchNorm folded into convolutions, ReLU done by them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrize import type_before_parametrizations

from ..nn.drop_in import Conv2d
from ..nn.fused import ConvReLU2d
from ..nn.twin import shallow_copy
from .classes import why_left
from .report import ConvertReport
from .tracing import Calls, Tracer, has_hooks

RELU_FUNCTIONS = (F.relu, F.relu_, torch.relu, torch.relu_)


def simplify(model: nn.Module, example, found: ConvertReport) -> nn.Module:
    """A model that computes what `model`, in eval mode, computes, without its BatchNorms where that is possible.

    Where torch.fx cannot trace `model` this is a copy of it, with its children treated so. `model` stays. To arguments
    that are left out in the calls that compute `example`, torch.fx sees their defaults, which code may branch on.
    """
    return _simplified(model, found, "", {}, Calls(model, example))


def _simplified(model, found, path, memo, calls):
    if model not in memo:
        memo[model] = _simplify(model, found, path, memo, calls)
    return memo[model]


def _simplify(model, found, path, memo, calls):
    prefix = path + "." if path else ""
    if not isinstance(model, (nn.ModuleList, nn.ModuleDict)):
        if Tracer().is_layer(model, path):
            return model
        try:
            if has_hooks(model):
                raise TypeError("it has hooks")
            tracer = Tracer()
            graph = tracer.trace(model, calls.constants_of(model))
        except Exception as error:  # tracing runs the model's own code, which may raise anything
            found.untraced[path] = f"{error}".partition("\n")[0]
        else:
            traced = fx.GraphModule(tracer.root, graph, type(model).__name__)
            for target in dict.fromkeys(n.target for n in graph.nodes if n.op == "call_module"):
                traced.set_submodule(
                    target, _simplified(traced.get_submodule(target), found, prefix + target, memo, calls)
                )
            fold_batch_norms(traced, found, prefix)
            fuse_relus(traced, found, prefix)
            traced.graph.lint()
            traced.delete_all_unused_submodules()
            traced.recompile()
            return traced
    if "forward" in vars(model) or not model._modules:  # bound to `model`, or nothing to be gained
        return model
    copied = shallow_copy(model, type_before_parametrizations(model))
    for name, child in model._modules.items():
        if child is not None:
            copied._modules[name] = _simplified(child, found, prefix + name, memo, calls)
    return copied


def fold_batch_norms(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Gives every convolution whose result goes to a BatchNorm2d alone that BatchNorm's scale and shift."""
    for node in list(traced.graph.nodes):
        norm, before = called(traced, node), source(node)
        if type(norm) is not nn.BatchNorm2d or has_hooks(norm) or norm.running_mean is None or norm.training:
            continue
        conv = plain_convolution(traced, before)
        if conv is None or conv.weight.dtype != norm.running_var.dtype or is_read(traced, before.target):
            continue
        found.folded[prefix + node.target] = prefix + before.target
        put(traced, before, folded(conv, norm))
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)


def fuse_relus(traced: fx.GraphModule, found: ConvertReport, prefix: str) -> None:
    """Lets every convolution whose result goes to a ReLU alone do that itself."""
    for node in list(traced.graph.nodes):
        before = source(node)
        conv = plain_convolution(traced, before) if is_relu(traced, node) else None
        if conv is not None:
            name = node.target if node.op == "call_module" else node.name
            found.fused[prefix + name] = prefix + before.target
            put(traced, before, ConvReLU2d.from_torch(conv))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)


def called(traced, node):
    """The module that a node calls, or None."""
    return traced.get_submodule(node.target) if node.op == "call_module" else None


def source(node):
    """The node whose result is the first argument of `node`, if nothing else gets it."""
    first = node.args[0] if node.args else None
    return first if isinstance(first, fx.Node) and list(first.users) == [node] else None


def plain_convolution(traced, node):
    """The convolution that a node calls, if it is one that does nothing else and that nobody watches."""
    conv = None if node is None else called(traced, node)
    if not isinstance(conv, nn.Conv2d) or has_hooks(conv):
        return None
    is_ours = type_before_parametrizations(conv) is Conv2d
    return conv if is_ours or why_left(conv, False) is None else None


def is_read(traced, path):
    """Whether the graph reads parameters of the module at `path` past its calls."""
    return any(n.op == "get_attr" and n.target.startswith(path + ".") for n in traced.graph.nodes)


def is_relu(traced, node):
    if node.op == "call_module":
        module = called(traced, node)
        return type(module) is nn.ReLU and not has_hooks(module)
    return (node.op == "call_function" and node.target in RELU_FUNCTIONS) or (
        node.op == "call_method" and node.target in ("relu", "relu_")
    )


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Conv2d:
    """The convolution that computes norm(conv(x)) of a norm in eval mode; scale and shift in double precision."""
    layer = Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,
        conv.groups, True, conv.padding_mode, device="meta", algorithm=getattr(conv, "algorithm", "auto"),
    )  # fmt: skip
    tensors = conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias
    w, b, mean, var, scale, shift = (None if t is None else t.detach().double() for t in tensors)
    weight, bias = fuse_conv_bn_weights(w, b, mean, var, norm.eps, scale, shift)
    for name, tensor in (("weight", weight), ("bias", bias)):
        value = tensor.detach().to(conv.weight.dtype)
        setattr(layer, name, nn.Parameter(value, requires_grad=conv.weight.requires_grad))
    return layer.eval()


def put(traced, node, layer):
    """Lets a node call `layer`, under the name of the module that it called unless others call that too."""
    name = node.target
    if sum(n.op == "call_module" and n.target == name for n in traced.graph.nodes) > 1:
        taken = 1
        while name in dict(traced.named_modules()):
            taken, name = taken + 1, f"{node.target}_{taken + 1}"
    parent, _, last = name.rpartition(".")
    traced.get_submodule(parent)._modules[last] = layer
    node.target = name
