"""torch.fx's view of a module, stopped where the graph would not compute the same.

Graphs by torch.fx hold for every size of image: whatever branches on a value or a size stops the tracer. What can
mislead it is code that looks at the kind of an object, since a Proxy stands for every tensor; so proxies pass
for tensors, and `calls` runs what was traced beside the original. A graph also holds no context managers: what ran
under torch.no_grad or torch.autocast while tracing would run without.
"""

from __future__ import annotations

import builtins
import inspect
import operator
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from .. import _flags
from ..nn.packed import Prepackable
from .classes import CONVOLUTION
from .reads import is_of_kind

if TYPE_CHECKING:
    from .kinds import Kind

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def has_hooks(module: nn.Module) -> bool:
    return any(getattr(module, hooks) for hooks in HOOKS)


def module_class(module: nn.Module) -> type[nn.Module] | None:
    """The first class of torch.nn among those of a module, no container; None for a module of its own."""
    for cls in type(module).__mro__:
        if cls.__module__.startswith("torch.nn") and issubclass(cls, nn.Module) and cls is not nn.Module:
            return None if cls.__module__ == nn.Sequential.__module__ else cls
    return None


def computes_as(module: nn.Module, *classes: type[nn.Module] | None) -> bool:
    """Whether the forward of a module is that of one of some classes of torch.nn."""
    is_replaced = "forward" in vars(module)
    return not is_replaced and any(cls is not None and type(module).forward is cls.forward for cls in classes)


def traced(
    model: nn.Module, constants: dict[str, Any], defaults: dict[str, Any], kind: Kind | None = None
) -> TracedModule:
    """The graph of `model`, with `constants` for arguments of its forward, and those of `defaults` that it branches on.

    If it is not to be had without, tensors tell the model that they are of `kind`.

    Raises whatever tracing raises: it runs the model's own code.
    """
    try:
        return with_defaults(model, constants, defaults, None)
    except Exception:
        if kind is None:
            raise
    return with_defaults(model, constants, defaults, kind)


def with_defaults(
    model: nn.Module, constants: dict[str, Any], defaults: dict[str, Any], kind: Kind | None
) -> TracedModule:
    try:
        return TracedModule(model, constants, kind)
    except Exception:
        if not defaults:
            raise
    frozen = dict(defaults)
    graph = TracedModule(model, constants | frozen, kind)
    for name in defaults:
        rest = {other: value for other, value in frozen.items() if other != name}
        try:
            graph, frozen = TracedModule(model, constants | rest, kind), rest
        except Exception:  # it branches on this one
            continue
    return graph


class TracedModule(fx.GraphModule):
    """What torch.fx shows of a module. Other attributes and methods are that module's, and run there.

    `kind`: what it was told of tensors while it was traced, if it asked.
    """

    def __init__(self, original: nn.Module, constants: dict[str, Any], kind: Kind | None = None) -> None:
        tracer = Tracer(kind)
        with attributes_kept(original):
            graph = tracer.trace(original, constants)
            super().__init__(tracer.root, graph, type(original).__name__)
            for name in tracer.tensor_attrs.values():
                if name.startswith("_tensor_constant"):  # tensors that it held in other ways, as in caches
                    delattr(original, name)
        self.kind = kind if tracer.was_asked else None
        self._original: tuple[nn.Module] = (original,)  # no submodule of this one

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or "_original" not in vars(self):
                raise
            value = getattr(self._original[0], name)
            if isinstance(value, (nn.Module, torch.Tensor)):  # the graph has others, or none
                raise
            return value

    def _deepcopy_init(self) -> Callable[..., None]:
        return fx.GraphModule.__init__

    def __deepcopy__(self, memo: dict[int, Any]) -> fx.GraphModule:
        memo[id(self._original)] = self._original
        copied: Any = super().__deepcopy__(memo)
        copied._original = self._original
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the original: what is loaded has the graph alone."""
        function, (state, imports) = super().__reduce__()
        return function, ({k: v for k, v in state.items() if k != "_original"}, imports)


class TensorProxy(fx.Proxy):
    """Stands for the result of a node; a tensor, to code that asks while `proxies_are_tensors`."""

    _is_param = _is_buffer = False  # torch.nn.Parameter and torch.nn.Buffer ask every tensor

    def __getattr__(self, name: str) -> Any:
        tracer: Any = self.tracer
        if name in ("device", "dtype") and tracer.kind is not None:
            tracer.was_asked = True
            return getattr(tracer.kind, name)
        return super().__getattr__(name)


PATCHING = threading.RLock()


@contextmanager
def proxies_are_tensors() -> Iterator[None]:
    """Lets isinstance(x, torch.Tensor), and so torch.is_tensor(x), be true of proxies, as it is of most they stand for.

    Not by a `__class__` of theirs: C++ would believe it too, and read memory that is no tensor.
    """

    def isinstance_of_proxies(obj: object, classes: Any) -> bool:
        return true_isinstance(obj, classes) or (
            type(obj) is TensorProxy and issubclass(torch.Tensor, classes) and not is_of_kind(obj.node)
        )

    with PATCHING:
        true_isinstance = builtins.isinstance
        builtins.isinstance = isinstance_of_proxies
        try:
            yield
        finally:
            builtins.isinstance = true_isinstance


@contextmanager
def attributes_kept(root: nn.Module) -> Iterator[None]:
    """TypeError where code assigns to attributes of a module, or to items of one, as caches do.

    A graph would not, and the module would hold proxies.
    """
    before = [(table, elements(table)) for module in root.modules() for table in tables(module)]
    try:
        yield
    finally:
        changed = any(not are_same(elements(table), then) for table, then in before)
        for table, then in before if changed else ():
            table.clear()
            if isinstance(table, dict):
                table.update(zip(then[::2], then[1::2], strict=True))
            else:
                table.extend(then)
    if changed:
        raise TypeError("it assigns to attributes of its own")


def tables(module: nn.Module) -> list[Any]:
    """What a module holds, and its dicts and lists: those of its tensors and submodules, and its own."""
    own = vars(module)
    return [own, *(value for value in own.values() if isinstance(value, (dict, list)))]


def elements(table: Any) -> list[Any]:
    """Of a list; or the keys of a dict, each followed by its value."""
    return [one for pair in table.items() for one in pair] if isinstance(table, dict) else list(table)


def are_same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(map(operator.is_, some, others))


def in_place(operation: Callable[[Any, Any], Any]) -> Callable[[TensorProxy, Any], fx.Proxy]:
    """`x += y` of a TensorProxy, which torch.fx would take for `x = x + y`: others may hold the tensor."""

    def method(self: TensorProxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})

    return method


for _name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "iand", "ior", "ixor"):
    setattr(TensorProxy, f"__{_name}__", in_place(getattr(operator, _name)))


class Tracer(fx.Tracer):
    """Goes into neither convolutions of ours nor modules with hooks, which would run once, while tracing."""

    proxy_buffer_attributes = True

    def __init__(self, kind: Kind | None = None) -> None:
        super().__init__()
        self.kind, self.was_asked = kind, False

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        self.context = context()
        self.refused: Exception | None = None
        with proxies_are_tensors():
            graph = super().trace(root, concrete_args)
        if self.refused is not None:  # the model's own code caught it
            raise self.refused
        names = inspect.signature(root.forward).parameters
        for node in graph.find_nodes(op="placeholder"):
            name = node.target.rpartition("_")[0]
            if (
                node.target not in names and name in names
            ):  # torch.fx numbers constants, which callers may name
                node.target = name
        return graph

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        for name, value in context().items():
            if value != self.context[name]:
                raise TypeError(f"it changes {name} on the way")
        return super().create_node(*args, **kwargs)

    def create_arg(self, a: Any) -> Any:
        return a.node if isinstance(a, fx.Proxy) else super().create_arg(a)

    def proxy(self, node: fx.Node) -> TensorProxy:
        return TensorProxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return self._or_remember(super().to_bool, obj)

    def iter(self, obj: fx.Proxy) -> Any:
        return self._or_remember(super().iter, obj)

    def keys(self, obj: fx.Proxy) -> Any:
        return self._or_remember(super().keys, obj)

    def _or_remember(self, attempt: Callable[[fx.Proxy], Any], obj: fx.Proxy) -> Any:
        try:
            return attempt(obj)
        except Exception as error:
            self.refused = error
            raise

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return has_hooks(module) or self.is_layer(module, path)

    def is_layer(self, module: nn.Module, path: str) -> bool:
        return (
            isinstance(module, (CONVOLUTION, Prepackable))
            or super().is_leaf_module(module, path)
            or computes_as(module, module_class(module))
        )


def context() -> dict[str, Any]:
    """What context managers change and a graph does not hold."""
    devices = "cpu", "cuda"
    return {
        "gradient mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in devices],
        "function modes": torch._C._len_torch_function_stack(),
        "nhwc_conv.flags": _flags.winograd,
    }
