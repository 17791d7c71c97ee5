"""A second module over the state of another one: how a layer changes its class and nothing else."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch.nn.utils.parametrize import is_parametrized

M = TypeVar("M", bound=torch.nn.Module)
TENSORS_AND_MODULES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


def twin(module: torch.nn.Module, cls: type[M]) -> M:
    """A shallow copy of `module`, of class `cls`, that takes its place."""
    layer = shallow_copy(module, cls)
    # The hook dictionaries themselves, so that handles keep working.
    layer.__dict__.update({name: vars(module)[name] for name in hooks_of(module)})
    bind_hooks(layer)
    return layer


def shallow_copy(module: torch.nn.Module, cls: type[M]) -> M:
    """A module of class `cls` that shares tensors, submodules and everything else with `module`, which stays.

    What is assigned to one of them, and hooks that one of them gets or loses, leave the other alone.

    A parametrised `module` (torch.nn.utils.parametrize) has a class of its own with a property for each parametrised
    tensor; the copy gets one too, over `cls`.
    """
    parametrised = is_parametrized(module)
    if parametrised:
        cls = over(type(module), cls)
    layer = object.__new__(cls)  # that of torch.fx's graphs would make another class, without their code
    layer.__dict__.update(module.__dict__)
    layer.__dict__.pop("_compiled_call_impl", None)  # of module.compile(): it would call `module`
    for name in (*TENSORS_AND_MODULES, *hooks_of(module)):
        layer.__dict__[name] = module.__dict__[name].copy()
    hooks = layer._load_state_dict_pre_hooks
    hooks.update({key: copy.copy(hook) for key, hook in hooks.items() if is_bound(hook)})
    bind_hooks(layer)
    if parametrised:
        parametrizations: Any = module.parametrizations
        layer._modules["parametrizations"] = shallow_copy(parametrizations, torch.nn.ModuleDict)
    return layer


def hooks_of(module: torch.nn.Module) -> list[str]:
    """The names of its dictionaries of hooks."""
    return [name for name in vars(module) if name.startswith("_") and "_hooks" in name]


def is_bound(hook: object) -> bool:
    """Whether a hook for load_state_dict holds its module, weakly. It would call a dead one, or the wrong one."""
    return getattr(hook, "with_module", False)


def bind_hooks(layer: torch.nn.Module) -> None:
    hooks: Iterable[Any] = layer._load_state_dict_pre_hooks.values()
    for hook in filter(is_bound, hooks):
        hook.module = weakref.ref(layer)


def over(parametrised: type, base: type[M]) -> type[M]:
    """The class that parametrize injected, with another base. It has one base, and is one module's alone."""
    namespace = {
        k: v for k, v in vars(parametrised).items() if k not in ("__dict__", "__weakref__", "__doc__")
    }
    return type(f"Parametrized{base.__name__}", (base,), namespace)
