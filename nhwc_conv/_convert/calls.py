"""What a model does with its example: how its modules are called, and whether a graph of one does the same."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves, tree_map_only

from .._geometry import extent
from .kinds import Kind, kind_of
from .tracing import context

SEED = 0
KINDS = {f"torch.Tensor.{name}.__get__" for name in Kind._fields}
Constants: TypeAlias = "tuple[dict[str, Any], dict[str, Any]]"  # see Calls.constants_of


def arguments_of(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments: `example` is a tensor, a tuple of arguments, or a dict of keyword arguments."""
    if isinstance(example, dict):
        return (), example
    return (example if isinstance(example, tuple) else (example,)), {}


def run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """function(*args, **kwargs) of copies, which it may write to, without gradients and always at one random seed."""
    detached = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs))  # deepcopy takes only leaves
    args, kwargs = copy.deepcopy(detached)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return function(*args, **kwargs)


def foreign(model: nn.Module) -> Iterator[nn.Module]:
    """The modules in `model` that run no hooks: TorchScript has their code, or torch.compile, which traces them."""
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            yield module
        elif "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None:
            yield from module.modules()


def leaves(result: Any) -> list[Any]:
    """What stands in tuples, lists, dicts and dataclasses, at any depth."""
    found = []
    for leaf in tree_leaves(result):
        if is_dataclass(leaf) and not isinstance(leaf, type):
            found += leaves([getattr(leaf, f.name) for f in fields(leaf)])
        else:
            found.append(leaf)
    return found


class Calls:
    """The calls of every module while `model` computes `example`, as far as their arguments are constants.

    Attributes:
        dimensions: how many each argument of a module's forward that is a tensor has, if always as many.
    """

    def __init__(self, model: nn.Module, example: Any) -> None:
        self.model, self.arguments = model, arguments_of(example)
        self.constants: dict[nn.Module, Constants | None] = {}
        self.dimensions: dict[nn.Module, dict[str, int]] = {}
        self.kind = kind_of(model)
        self.autocast = context()["autocast"]
        self.under_autocast: set[nn.Module] = set()
        modules = set(model.modules()) - set(foreign(model))
        handles = [m.register_forward_pre_hook(self._note, with_kwargs=True) for m in modules]
        try:
            run(model, *self.arguments)
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            signature = inspect.signature(module.forward)
            given = signature.bind(*args, **kwargs).arguments
        except (TypeError, ValueError):  # Python cannot read its signature, or it is not called by that
            self.constants[module] = None
            return
        left_out = {name: p.default for name, p in signature.parameters.items() if name not in given}
        nothing = {name: None for name, value in {**left_out, **given}.items() if value is None}
        numbers = {name: value for name, value in left_out.items() if isinstance(value, int | float | str)}
        if self.constants.setdefault(module, (nothing, numbers)) != (nothing, numbers):
            self.constants[module] = None
        dimensions = {name: value.dim() for name, value in given.items() if isinstance(value, torch.Tensor)}
        if self.dimensions.setdefault(module, dimensions) != dimensions:
            self.dimensions[module] = {}
        if context()["autocast"] != self.autocast:
            self.under_autocast.add(module)

    def constants_of(self, module: nn.Module) -> Constants:
        """Arguments of module.forward for torch.fx to see as they are: None, and numbers and strings that are left out.

        Raises:
            TypeError: they cannot be known.
        """
        if module in self.under_autocast:
            raise TypeError("it is called under another autocast")
        if module not in self.constants:
            raise TypeError("the example does not show with which of its arguments it is called")
        constants = self.constants[module]
        if constants is None:
            raise TypeError("it is called with different arguments left out, or they cannot be told")
        return constants

    def check_path(self, module: nn.Module, graph: nn.Module) -> None:
        """TypeError unless `graph` calls the functions of torch that `module` first does, to the same effect.

        Among them are those that read a size, so that a branch on a size that the example does not take is noticed too.
        """
        differences: list[str | None] = []

        def compare(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            differences.append(difference(module, graph, args, kwargs))
            raise _Reached

        handle = module.register_forward_pre_hook(compare, with_kwargs=True)
        try:
            run(self.model, *self.arguments)
        except _Reached:
            pass
        finally:
            handle.remove()
        if differences != [None]:
            raise TypeError(differences[0])


def check_layer(conv: nn.Conv2d, graph: nn.Module) -> None:
    """The same for a convolution and an image that its kernel moves over: `check_path` runs all that is before it."""
    steps = zip(conv.kernel_size, conv.dilation, conv.stride, strict=True)
    sides = [extent(kernel, dilation) + 3 * stride for kernel, dilation, stride in steps]
    weight = conv.weight
    count = 2 * conv.in_channels * sides[0] * sides[1]
    image = torch.linspace(-1, 1, count, dtype=weight.dtype, device=weight.device)
    image = image.view(2, conv.in_channels, *sides)
    found = difference(conv, graph, (image,), {})
    if found is not None:
        raise TypeError(found)


class _Reached(BaseException):
    """Ends a run of a model; no `except Exception` of its own stops that."""


Step: TypeAlias = "tuple[str, list[Any]]"  # the name of a function, and what is compared of its results


class _Path(TorchFunctionMode):
    """Notes the functions of torch that are called, and what comes out of each."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        name = resolve_name(function) or getattr(function, "__qualname__", str(function))
        # torch.fx adds some assertions, about constants; and it may have been told of kinds
        if function is not torch._assert and name not in KINDS:
            self.steps.append((name, [_kind(leaf) for leaf in leaves(out)]))
        return out


def _kind(value: Any) -> Any:
    """What is compared of the result of a step."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype
    return value if isinstance(value, int | float | str | torch.Size | torch.dtype) else type(value)


def difference(
    original: nn.Module, graph: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str | None:
    """How the paths of two modules through torch, or their results, differ.

    A graph that is called, and fails, would print where: it need not be one that works.
    """
    paths, results = (_Path(), _Path()), []
    for path, function in zip(paths, (original.forward, graph.forward), strict=True):
        with path:
            results.append(run(function, args, kwargs))
    end: list[Step] = [("its end", [])]
    expected, found = (path.steps + end for path in paths)
    for wanted, seen in zip(expected, found, strict=False):
        if wanted != seen:
            return f"torch.fx sees another path through it: {_text(seen)} where it comes to {_text(wanted)}"
    theirs, ours = map(leaves, results)
    if len(theirs) != len(ours) or not all(map(_same, theirs, ours)):
        return "torch.fx sees the same path through it, but another result"
    return None


def _text(step: Step) -> str:
    name, results = step
    shapes = [list(kind[0]) for kind in results if isinstance(kind, tuple)]
    return name + (f" of shape {', '.join(map(str, shapes))}" if shapes else "")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
    return type(a) is type(b)
