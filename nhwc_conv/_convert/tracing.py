"""Tracing by torch.fx, told how modules are called, and stopped where the graph would not compute the same.

A torch.fx.Proxy stands for every argument: to code that asks `is None` it is something. And a graph holds no context
managers: what ran under torch.no_grad or torch.autocast while tracing would run without.
"""

from __future__ import annotations

import inspect

import torch
from torch import fx, nn

from .. import _flags
from ..nn.packed import Prepackable
from .check import results
from .classes import CONVOLUTION

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def has_hooks(module):
    return any(getattr(module, hooks) for hooks in HOOKS)


class Tracer(fx.Tracer):
    """Goes into neither convolutions of ours nor modules with hooks, which would run once, while tracing."""

    def trace(self, root, concrete_args=None):
        self.context = context()
        graph = super().trace(root, concrete_args)
        names = inspect.signature(root.forward).parameters
        for node in graph.find_nodes(op="placeholder"):
            name = node.target.rpartition("_")[0]
            if (
                node.target not in names and name in names
            ):  # torch.fx numbers constants, which callers may name
                node.target = name
        return graph

    def create_node(self, *args, **kwargs):
        for name, value in context().items():
            if value != self.context[name]:
                raise TypeError(f"it changes {name} on the way")
        return super().create_node(*args, **kwargs)

    def is_leaf_module(self, module, path):
        return has_hooks(module) or self.is_layer(module, path)

    def is_layer(self, module, path):
        return isinstance(module, (CONVOLUTION, Prepackable)) or super().is_leaf_module(module, path)


def context():
    """What context managers change and a graph does not hold."""
    devices = "cpu", "cuda"
    return {
        "gradient mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in devices],
        "function modes": torch._C._len_torch_function_stack(),
        "nhwc_conv.flags": _flags.winograd,
    }


class Calls:
    """The calls of every module while `model` computes `example`, as far as their arguments are constants."""

    def __init__(self, model: nn.Module, example) -> None:
        self.constants: dict[nn.Module, dict | None] = {}
        self.autocast = context()["autocast"]
        self.under_autocast = set()
        modules = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
        handles = [m.register_forward_pre_hook(self._note, with_kwargs=True) for m in modules]
        try:
            with torch.no_grad():
                results(model, example)
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, module, args, kwargs):
        parameters = inspect.signature(module.forward)
        given = parameters.bind(*args, **kwargs).arguments
        left_out = {
            name: p.default
            for name, p in parameters.parameters.items()
            if name not in given and isinstance(p.default, int | float | None)
        }
        constants = {**{name: None for name, value in given.items() if value is None}, **left_out}
        if self.constants.setdefault(module, constants) != constants:
            self.constants[module] = None
        if context()["autocast"] != self.autocast:
            self.under_autocast.add(module)

    def constants_of(self, module: nn.Module) -> dict:
        """Arguments of module.forward that torch.fx is to see as they are. TypeError where they cannot be known."""
        if module in self.under_autocast:
            raise TypeError("it is called under another autocast")
        if module not in self.constants:
            parameters = inspect.signature(module.forward).parameters.values()
            if any(p.default is not p.empty for p in parameters):
                raise TypeError("the example does not show with which of its arguments it is called")
            return {}
        if self.constants[module] is None:
            raise TypeError("it is called with different arguments left out")
        return self.constants[module]
