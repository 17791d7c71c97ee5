"""The backend of torch.compile: an unmodified model's convolutions become this package's, Inductor does the rest."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from .nn import Conv2d
from .nn.drop_in import conv2d_nchw

CONV2D = (
    torch.conv2d,  # which F.conv2d and nn.Conv2d call
    torch.ops.aten.conv2d,
    torch.ops.aten.conv2d.default,
    torch.ops.aten.conv2d.padding,
)
DTYPES = (torch.float32, torch.float64)


def compile_backend(graph: fx.GraphModule, example_inputs, *, mode: str | None = None, options=None):
    """torch.compile(model, backend="nhwc_conv"): convolutions by nhwc_conv, everything else by Inductor.

    Where this package is installed its name is enough; elsewhere, and always,
    `torch.compile(model, backend=nhwc_conv.compile_backend)`. The model needs no change and keeps its NCHW tensors and
    OIHW weights; gradients are this package's too. Taken are 2-d convolutions of float32 and float64 tensors on CPU, by
    F.conv2d (torch.conv2d), nn.Conv2d or torch.ops.aten.conv2d; any other stays as it is.

    Args:
        graph, example_inputs: from torch.compile.
        mode, options: those of torch.compile for Inductor.

    Returns:
        What Inductor compiles from the rewritten graph.
    """
    from torch._inductor import list_mode_options  # costs seconds to import
    from torch._inductor.compile_fx import compile_fx

    use_nhwc_conv(graph)
    patches = dict(list_mode_options(mode)) if mode else {}
    patches.update({name.replace("-", "_"): value for name, value in (options or {}).items()})
    return compile_fx(graph, example_inputs, config_patches=patches or None)


def use_nhwc_conv(graph: fx.GraphModule) -> int:
    """Rewrites, in place, the convolutions in a graph of torch.compile that nhwc_conv computes; how many it did."""
    count = 0
    for part in graph.modules():  # regions under checkpoint and the like are modules of their own
        if isinstance(part, fx.GraphModule):
            changed = sum(rewrite(part, node) for node in list(part.graph.nodes))
            count += changed
            if changed:
                part.recompile()
    return count


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        module = graph.get_submodule(node.target)
        if (
            type(module) is not torch.nn.Conv2d
            or {"forward", "_conv_forward"} & vars(module).keys()
            or not is_ours(node, value(node.args[0]), module.weight)
        ):
            return False
        graph.set_submodule(node.target, Conv2d.from_torch(module))
        return True
    if node.op != "call_function" or node.target not in CONV2D:
        return False
    try:
        arguments = named(*node.args, **node.kwargs)
    except TypeError:
        return False
    input, weight, _, *geometry = arguments
    if not all(map(is_static, geometry)) or not is_ours(node, value(input), value(weight)):
        return False
    node.target, node.args, node.kwargs = conv2d_nchw, arguments, {}
    return True


def named(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """The arguments of torch.conv2d in order."""
    return input, weight, bias, stride, padding, dilation, groups


def value(node):
    """The fake tensor that torch.compile found for a node, or None."""
    return node.meta.get("example_value") if isinstance(node, fx.Node) else None


def is_static(argument):
    """Whether it is known while compiling: an int, a string, or a list of ints."""
    if isinstance(argument, list | tuple):
        return all(type(n) is int for n in argument)
    return type(argument) is int or isinstance(argument, str)


def is_ours(node, x, weight) -> bool:
    """Whether nhwc_conv computes the convolution. Under autocast the result has another dtype than x."""
    tensors = [x, weight, value(node)]
    return all(
        isinstance(t, Tensor)
        and t.dtype == weight.dtype
        and t.dtype in DTYPES
        and t.device.type == "cpu"
        and t.layout == torch.strided
        for t in tensors
    )
