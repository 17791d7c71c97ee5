"""A second module over the state of another one: how a layer changes its class and nothing else."""

from __future__ import annotations

import weakref

import torch
from torch.nn.utils.parametrize import is_parametrized

OWN_COPIES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


def twin(module: torch.nn.Module, cls: type) -> torch.nn.Module:
    """A shallow copy of `module`, of class `cls`, that takes its place."""
    layer = shallow_copy(module, cls)
    for hook in layer._load_state_dict_pre_hooks.values():
        if getattr(hook, "with_module", False):  # bound to `module`, weakly: it would call a dead one
            hook.module = weakref.ref(layer)
    return layer


def shallow_copy(module: torch.nn.Module, cls: type) -> torch.nn.Module:
    """A module of class `cls` that shares parameters, buffers, hooks and everything else with `module`.

    A parametrised `module` (torch.nn.utils.parametrize) has a class of its own with a property for each parametrised
    tensor; the copy gets one too, over `cls`.
    """
    parametrised = is_parametrized(module)
    if parametrised:
        cls = over(type(module), cls)
    layer = cls.__new__(cls)
    layer.__dict__.update(module.__dict__)
    layer.__dict__.pop("_compiled_call_impl", None)  # of module.compile(): it would call `module`
    # Hook dictionaries stay shared, so that handles keep working. Tensors are shared one by one: assigning a new one
    # to either module leaves the other alone.
    for name in OWN_COPIES:
        layer.__dict__[name] = module.__dict__[name].copy()
    if parametrised:
        layer._modules["parametrizations"] = shallow_copy(module.parametrizations, torch.nn.ModuleDict)
    return layer


def over(parametrised: type, base: type) -> type:
    """The class that parametrize injected, with another base. It has one base, and is one module's alone."""
    namespace = {
        k: v for k, v in vars(parametrised).items() if k not in ("__dict__", "__weakref__", "__doc__")
    }
    return type(f"Parametrized{base.__name__}", (base,), namespace)
