"""What the steps of `simplify` ask of a graph of torch.fx, and how they change it."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from .._prepack import tensor_at
from ..nn.drop_in import Conv2d
from ..nn.drop_in_1d import Conv1d
from ..nn.drop_in_transposed import ConvTranspose1d, ConvTranspose2d
from .classes import why_left
from .reads import is_of_kind, reads_kind
from .tracing import computes_as, has_hooks

FINISHING = nn.Conv1d, nn.Conv2d  # convolutions that do what follows them


def called(traced: fx.GraphModule, node: object) -> Any:
    """The module that a node calls, or None."""
    if not (isinstance(node, fx.Node) and node.op == "call_module"):
        return None
    return traced.get_submodule(str(node.target))


def called_alone(traced: fx.GraphModule, node: fx.Node, *classes: type[nn.Module]) -> Any:
    """The module that a node calls with one tensor, if it computes as one of `classes` and nobody watches; or None."""
    module = called(traced, node)
    alone = isinstance(module, classes) and computes_as(module, *classes) and not has_hooks(module)
    return module if alone and len(node.args) == 1 else None


def attribute(traced: fx.GraphModule, node: object) -> Tensor | None:
    """The parameter or buffer that a node reads."""
    if not (isinstance(node, fx.Node) and node.op == "get_attr"):
        return None
    return tensor_at(traced, str(node.target))


def parameter(traced: fx.GraphModule, node: object) -> Tensor | None:
    """The parameter that a node reads, or views in a shape of numbers."""
    if not isinstance(node, fx.Node) or does(node) not in VIEWS:
        tensor = attribute(traced, node)
        return tensor.detach() if isinstance(tensor, nn.Parameter) else None
    whole, sizes = parameter(traced, source(node)), node.args[1:]
    listed = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    numbers = [size for size in listed if type(size) is int]
    known = not node.kwargs and len(numbers) == len(listed)
    return whole.reshape(numbers) if whole is not None and known else None


def permutation(node: object) -> tuple[int, ...]:
    """The order in which a node permutes the dimensions of a tensor; nothing, where it does something else."""
    if not isinstance(node, fx.Node) or does(node) != "permute":
        return ()
    order: Any = node.args[1:]
    return order if sorted(map(str, order)) == [str(n) for n in range(len(order))] else ()


def bound(node: fx.Node, signature: Callable[..., Any]) -> dict[str, Any] | None:
    """The arguments of a call by the names they have in `signature`, None where they do not fit it."""
    try:
        arguments = inspect.signature(signature).bind(*node.args, **node.kwargs)
    except TypeError:
        return None
    arguments.apply_defaults()
    return arguments.arguments


# As targets of nodes.
CONCATENATIONS: tuple[Any, ...] = (torch.cat, torch.concat, torch.concatenate)
SUMS: tuple[Any, ...] = (operator.add, torch.add, "add")
SPLITS: tuple[Any, ...] = (torch.split, torch.chunk, "split", "chunk")
IN_PLACE: tuple[Any, ...] = (operator.iadd, "add_", "__iadd__")
ADDITIONS = (*SUMS, *IN_PLACE)
VIEWS = "view", "reshape"
PRODUCTS: tuple[Any, ...] = (operator.mul, torch.mul, "mul")


def does(node: fx.Node) -> Any:
    """The function, or the name of the method, that a node calls. None for modules, which may have such names."""
    return node.target if node.op in ("call_function", "call_method") else None


def writes_in_place(node: fx.Node) -> bool:
    """Whether what a node calls writes to its first argument, as its name or its arguments tell."""
    target: Any = node.target
    name = str(getattr(target, "__name__", target))
    given = bound(node, target) if inspect.isfunction(target) else node.kwargs
    asked = given is None or bool(given.get("inplace")) or given.get("out") is not None
    return asked or target in IN_PLACE or name.endswith("_") or name.startswith("__i")


def operands(node: object, functions: Sequence[Any]) -> tuple[Any, Any] | None:
    """Both, if a node calls one of some functions with two arguments and nothing else."""
    if not isinstance(node, fx.Node) or does(node) not in functions or len(node.args) != 2 or node.kwargs:
        return None
    first, second = node.args
    return first, second


def source(node: fx.Node) -> Any:
    """The first argument of a node."""
    return node.args[0] if node.args else node.kwargs.get("input")


def producers(
    node: fx.Node, joins: Callable[[Sequence[Any], int], bool] = lambda tensors, dim: True
) -> list[Any]:
    """The node that the computed input of `node` goes to, and the nodes that compute it.

    These are several, and that another node, where it is concatenated, and `joins` is true of what is and of the
    dimension; else it is `node`, and one.
    """
    before = source(node)
    joined = concatenated(before)
    return [before, *joined[0]] if joined is not None and joins(*joined) else [node, before]


def concatenated(node: object) -> tuple[Sequence[Any], Any] | None:
    """The tensors that a node concatenates, and the dimension along which it does."""
    if not isinstance(node, fx.Node) or node.op != "call_function" or node.target not in CONCATENATIONS:
        return None
    given = bound(node, concatenation)
    listed = given is not None and isinstance(given["tensors"], (list, tuple)) and given["out"] is None
    return (given["tensors"], given["dim"]) if given is not None and listed else None


def concatenation(tensors: Any, dim: int = 0, *, out: Any = None) -> None:
    """With the signature of torch.cat, which does not tell it."""


def why_not_theirs(
    node: fx.Node, user: fx.Node, before: list[Any], why_not: Callable[[Any], str | None]
) -> str | None:
    """Why the nodes `before`, `producers` of what `user` gets, do not do what `node` does; `why_not` tells of one."""
    if user is not node and is_seen_elsewhere(user, node):
        return "the concatenation before it goes elsewhere too"
    if len(set(before)) < len(before):
        return "a tensor is concatenated with itself before it"
    return next(filter(None, map(why_not, before)), None)


def is_seen_elsewhere(node: fx.Node, user: fx.Node) -> bool:
    """Whether the values that a node computes go to others than `user`. Its size and kind may: `user` keeps them."""
    return any(other is not user and not reads_kind(other) for other in node.users)


def sized(node: object) -> Any:
    """The tensor all of whose sizes a node is; None if there is none."""
    if not isinstance(node, fx.Node):
        return None
    whole = (does(node) == "size" and len(node.args) == 1 and not node.kwargs) or (
        does(node) is getattr and node.args[1] == "shape"
    )
    return node.args[0] if whole else None


def is_size(node: object, x: Any, dim: int) -> bool:
    """Whether a node is the size of `x`, of four dimensions, in one of them."""
    if not isinstance(node, fx.Node):
        return False
    if does(node) == "size":
        return node.args in ((x, dim), (x, dim - 4))
    is_item = does(node) is operator.getitem and node.args[1] in (dim, dim - 4)
    return is_item and x is not None and sized(node.args[0]) is x


def name_in_model(node: fx.Node, prefix: str, classes: tuple[type, ...] = ()) -> str:
    """The path of the module that a node calls, or of the one of `classes` that its function is called in.

    Else one of its own.
    """
    if node.op == "call_module":
        return prefix + str(node.target)
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path, owner = stack[-1] if stack else ("", object)
    if issubclass(owner, classes):
        return prefix + path
    return prefix + (f"{path}.{node.name}" if path else node.name)


def why_not_plain(traced: fx.GraphModule, node: Any) -> str | None:
    """Why the result of `node` is not that of a convolution which does nothing else and which nobody watches."""
    conv = called(traced, node)
    if not isinstance(conv, FINISHING):
        return f"it follows {spoken(traced, node)}, not a convolution"
    if has_hooks(conv):
        return f"the convolution {node.target!r} has hooks"
    if type_before_parametrizations(conv) not in (Conv1d, Conv2d) and why_left(conv, False) is not None:
        return f"{type_before_parametrizations(conv).__name__} may do more than a convolution"
    return None


def is_plain_transposed(traced: fx.GraphModule, node: Any) -> bool:
    """The same of a transposed convolution, which does less of what follows it."""
    conv = called(traced, node)
    return type(conv) in (ConvTranspose1d, ConvTranspose2d) and not has_hooks(conv)


def spoken(traced: fx.GraphModule, node: object) -> str:
    """How a report calls what a node does."""
    if not isinstance(node, fx.Node):
        return "a constant"
    module = called(traced, node)
    if module is not None:
        return str(type_before_parametrizations(module).__name__).removeprefix("Fused")
    if node.op == "placeholder":
        return "an input"
    return str(getattr(node.target, "__name__", node.target))


def remove_unread(traced: fx.GraphModule) -> None:
    """Takes out tensors that nothing uses any more, and what is read of sizes. Calls stay: they may write in place."""
    for node in reversed(traced.graph.nodes):
        if (node.op == "get_attr" or is_of_kind(node)) and not node.users:
            traced.graph.erase_node(node)


def erase_unread(traced: fx.GraphModule, node: fx.Node, steps: Sequence[Any]) -> None:
    """Takes out a node that calls one of `steps`, if nothing reads it, and likewise what only it has read."""
    if node.users or does(node) not in steps:
        return
    before = node.all_input_nodes
    traced.graph.erase_node(node)
    for other in before:
        erase_unread(traced, other, steps)


def replace(traced: fx.GraphModule, node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    traced.graph.erase_node(node)


def put(traced: fx.GraphModule, node: fx.Node, layer: nn.Module) -> None:
    """Lets a node call `layer`, under the name of the module that it called unless others call that too."""
    name = str(node.target)
    if sum(n.op == "call_module" and n.target == name for n in traced.graph.nodes) > 1:
        name = unused(traced, name)
    parent, _, last = name.rpartition(".")
    traced.get_submodule(parent)._modules[last] = layer
    node.target = name


def let_do(traced: fx.GraphModule, node: fx.Node, layer: nn.Module, *arguments: Any) -> None:
    """Lets `layer`, called with `arguments`, do what a node does."""
    if node.op == "call_module" and node.args == arguments:
        put(traced, node, layer)
    else:
        replace(traced, node, call_ahead(traced, node, layer, *arguments))


def call_ahead(traced: fx.GraphModule, node: fx.Node, layer: nn.Module, *arguments: Any) -> fx.Node:
    """A new node ahead of another, of whose name that of `layer` is made."""
    name = unused(traced, node.name)
    traced.add_submodule(name, layer)
    with traced.graph.inserting_before(node):
        return traced.graph.call_module(name, arguments)


def unused(traced: fx.GraphModule, name: str) -> str:
    """`name`, with a number where a module, a tensor or another attribute has it."""
    taken = {*dict(traced.named_modules()), *dict(traced.named_parameters()), *dict(traced.named_buffers())}
    number, free = 1, name
    while free in taken or hasattr(traced, free):
        number += 1
        free = f"{name}_{number}"
    return free


def is_read(traced: fx.GraphModule, path: str) -> bool:
    """Whether the graph reads tensors of the module at `path` past its calls."""
    return any(
        n.op == "get_attr" and str(n.target).startswith(path + ".") and n.users for n in traced.graph.nodes
    )
