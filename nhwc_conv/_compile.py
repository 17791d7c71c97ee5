"""The backend of torch.compile: an unmodified model's convolutions become this package's, Inductor does the rest."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch._C import _set_grad_enabled as set_grad_enabled
from torch.nn.modules.module import _has_any_global_hook as has_global_hook

from . import _extension, _flags
from ._geometry import op_geometry, padding_argument
from ._geometry.dtypes import COMPUTED
from ._ops import ops
from ._ops.memory_format import is_result_channels_last
from ._ops.weight_order import HWIO
from .nn.drop_in import conv2d_arguments

CONV2D = (
    torch.conv2d,  # which F.conv2d and nn.Conv2d call
    torch.ops.aten.conv2d,
    torch.ops.aten.conv2d.default,
    torch.ops.aten.conv2d.padding,
)
NHWC, NCHW = {3: (1, 2, 0), 4: (0, 2, 3, 1)}, {3: (2, 0, 1), 4: (0, 3, 1, 2)}  # by number of dimensions

TOO_LATE = (
    'options={"freezing": True} freezes nothing, since torch.compile has made inputs of the parameters by then: '
    "set torch._inductor.config.freezing = True"
)


def compile_backend(
    graph: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: dict[str, Any] | None = None,
) -> Callable[..., Any]:
    """torch.compile(model, backend="nhwc_conv"): convolutions by nhwc_conv, everything else by Inductor.

    Where this package is installed its name is enough; elsewhere, and always,
    `torch.compile(model, backend=nhwc_conv.compile_backend)`. The model needs no change and keeps its NCHW tensors and
    OIHW weights; gradients are this package's too. Taken are 2-d convolutions of float32, float64, bfloat16 and float16
    tensors on CPU, by F.conv2d (torch.conv2d), nn.Conv2d or torch.ops.aten.conv2d; any other stays as it is.

    Args:
        graph, example_inputs: from torch.compile.
        mode, options: those of torch.compile for Inductor.

    Returns:
        What Inductor compiles from the rewritten graph.
    """
    from torch._inductor import config, list_mode_options  # costs seconds to import
    from torch._inductor.compile_fx import compile_fx

    patches = dict(list_mode_options(mode)) if mode else {}
    patches.update({name.replace("-", "_"): value for name, value in (options or {}).items()})
    freezing = patches.get("freezing", config.freezing) and not torch.is_grad_enabled()
    if freezing and not config.freezing and not any(True for _ in graph.parameters()):
        warnings.warn(TOO_LATE, stacklevel=2)
    use_nhwc_conv(graph, freezing)
    cacheable = "unsafe_marked_cacheable_functions"
    patches[cacheable] = {
        **patches.get(cacheable, getattr(config, cacheable)),
        "torch.ops.nhwc_conv": cache_key(),
    }
    compiled: Any = compile_fx(graph, example_inputs, config_patches=patches)
    return compiled


def cache_key() -> str:
    """What else than its graph decides what is compiled: sizes of packings, and which backward pass."""
    build = "no extension" if _extension.module is None else _extension.module.build_id()
    return f"{_extension.version}, {build}, winograd={_flags.winograd}"


def use_nhwc_conv(graph: fx.GraphModule, freezing: bool = False) -> int:
    """Rewrites, in place, the convolutions in a graph of torch.compile that nhwc_conv computes; how many it did.

    Into ops alone: PyTorch keeps no compiled graph on disk that calls Python functions which it does not know.
    With `freezing`, which makes parameters constants and computes beforehand what follows from constants alone, their
    weights are packed.
    """
    count = 0
    for part in graph.modules():  # regions under checkpoint and the like are modules of their own
        if isinstance(part, fx.GraphModule):
            for node in list(part.graph.nodes):
                inline(part, node)
            constants = constants_of(part.graph) if freezing else ()
            changed = sum(
                rewrite(node, in_no_grad, constants) for node, in_no_grad in convolutions(part.graph)
            )
            count += changed
            if changed:
                part.recompile()
    return count


def inline(graph: fx.GraphModule, node: fx.Node) -> None:
    """In place of a module nn.Conv2d that calls nothing of others, what it does."""
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if (
        type(module) is not torch.nn.Conv2d
        or {"forward", "_conv_forward"} & vars(module).keys()
        or has_global_hook()
        or any(hooks for name, hooks in vars(module).items() if name.endswith("_hooks"))
    ):
        return
    (input,) = *node.args, *node.kwargs.values()
    x = value(input)
    padding: str | int | tuple[int, ...] = module.padding
    if not is_ours(value(node), x, module.weight):
        return
    with graph.graph.inserting_before(node):
        weight = graph.graph.get_attr(f"{node.target}.weight")
        bias = None if module.bias is None else graph.graph.get_attr(f"{node.target}.bias")
        weight.meta["example_value"] = module.weight
        if module.padding_mode != "zeros":
            sides, padding = module._reversed_padding_repeated_twice, 0
            input = call(node, F.pad, input, sides, module.padding_mode)
            input.meta["example_value"] = F.pad(x, sides, module.padding_mode)
        arguments = input, weight, bias, module.stride, padding, module.dilation, module.groups
        replace(node, call(node, torch.conv2d, *arguments))


def convolutions(graph: fx.Graph) -> list[tuple[fx.Node, bool]]:
    """All calls of conv2d, and whether each is in a `no_grad` of the graph's own."""
    found: list[tuple[fx.Node, bool]] = []
    in_no_grad = False
    for node in graph.nodes:
        if node.target is set_grad_enabled:
            in_no_grad = not node.args[0]
        elif node.op == "call_function" and node.target in CONV2D:
            found.append((node, in_no_grad))
    return found


def constants_of(graph: fx.Graph) -> set[fx.Node]:
    """Parameters, and what is computed from nothing else."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        sources = node.all_input_nodes
        if node.op == "get_attr" or node.op.startswith("call_") and sources and found.issuperset(sources):
            found.add(node)
    return found


def rewrite(node: fx.Node, in_no_grad: bool, constants: Collection[fx.Node]) -> bool:
    """Rewrites a call of conv2d if nhwc_conv can compute it."""
    try:
        input, weight, bias, *given = conv2d_arguments(*node.args, **node.kwargs)
    except TypeError:
        return False
    image, kernel = value(input), value(weight)
    if not all(map(is_static, given)) or not is_ours(value(node), image, kernel):
        return False
    stride, padding, dilation, groups = given
    padding, auto_pad = padding_argument(padding)
    geometry = op_geometry(stride, padding, dilation, groups, auto_pad)
    permute = torch.ops.aten.permute.default
    with node.graph.inserting_before(node):
        x = call(node, permute, input, NHWC[image.dim()])
        w = call(node, permute, weight, HWIO)
        size = tuple(kernel.shape[i] for i in HWIO)
        if weight in constants and is_static(size):
            stride, _, dilation, *_ = geometry
            may_be_winograd = {*stride, *dilation} == {1}
            # The weight itself need not come along: packing is a part of each start, never of what is kept on disk.
            packed = call(node, ops.pack_weight.default, w, groups, may_be_winograd)
            out = call(node, ops.conv2d_packed.default, x, packed, size, bias, *geometry)
        else:
            out = call(node, ops.conv2d.default, x, w, bias, *geometry)
        # F.conv2d's result is no view. One made in no_grad could not be changed in place outside of it.
        if in_no_grad:
            call(node, set_grad_enabled, True)
        out = call(node, permute, out, NCHW[image.dim()])
        if in_no_grad:
            call(node, set_grad_enabled, False)
        if not is_result_channels_last(image, kernel):
            out = call(node, torch.ops.aten.clone.default, out, memory_format=torch.contiguous_format)
        replace(node, out)
    return True


def call(like: fx.Node, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
    """A new node, made where `like` was: in its module, line and region."""
    new = like.graph.call_function(function, args, kwargs)
    new.meta = {name: known for name, known in like.meta.items() if name != "example_value"}
    return new


def replace(node: fx.Node, new: fx.Node) -> None:
    new.meta = node.meta
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def value(node: object) -> Any:
    """The fake tensor that torch.compile found for a node, or None."""
    return node.meta.get("example_value") if isinstance(node, fx.Node) else None


def is_static(argument: object) -> bool:
    """Whether it is known while compiling: an int, a string, or a list of ints."""
    if isinstance(argument, list | tuple):
        return all(type(n) is int for n in argument)
    return type(argument) is int or isinstance(argument, str)


def is_ours(result: Any, x: Any, weight: Any) -> bool:
    """Whether nhwc_conv computes the convolution. Under autocast the result has another dtype than x."""
    return all(
        isinstance(t, Tensor)
        and t.dtype == weight.dtype
        and t.dtype in COMPUTED
        and t.device.type == "cpu"
        and t.layout == torch.strided
        for t in (weight, x, result)  # what is no tensor has no dtype
    )
