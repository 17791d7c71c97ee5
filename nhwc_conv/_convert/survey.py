"""What `convert` finds in a model before it changes anything: which convolutions it takes, and what to say of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils._pytree import tree_leaves

from .._geometry.dtypes import COMPUTED
from .classes import CONVOLUTION, Subclasses, how_taken, why_left
from .report import ConvertReport


def check_model(model: object) -> None:
    """TypeError unless `model` is a module whose layers can be replaced."""
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"the code of a {type(model).__name__} is fixed: convert the module that it was made from, "
            "then trace or compile the result"
        )
    if "_orig_mod" in getattr(model, "_modules", ()):
        raise TypeError(
            "model is what torch.compile returned: convert the module itself, then compile the result"
        )
    if not isinstance(model, torch.nn.Module):
        each = ": convert each module in it" if isinstance(model, list | tuple | dict) else ""
        raise TypeError(f"expected model to be a torch.nn.Module, but got {type(model).__name__}{each}")


def survey(
    model: torch.nn.Module, subclasses: Subclasses, aside: Mapping[torch.nn.Module, str]
) -> ConvertReport:
    """Which convolutions will be converted, and why the others will not."""
    found = ConvertReport()
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, CONVOLUTION):
            why = why_left(module, subclasses)
            if why is None:
                found.converted[path] = "; ".join(
                    filter(None, (how_taken(module), note(module), aside.get(module)))
                )
            else:
                found.left[path] = why
        elif isinstance(module, torch.jit.ScriptModule) and module.original_name.startswith("Conv"):
            found.left[path] = "part of a ScriptModule, whose code is fixed"
    return found


def held_aside(model: torch.nn.Module) -> dict[torch.nn.Module, str]:
    """Modules that a list, tuple or dict holds too, where nothing can replace them, and what is to be said of that."""
    return {
        leaf: f"{path + '.' if path else ''}{name} goes on holding the old layer"
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if name != "_modules" and isinstance(value, list | tuple | dict)
        for leaf in tree_leaves(value)
        if isinstance(leaf, torch.nn.Module)
    }


def note(module: torch.nn.Module) -> str:
    """What is to be said of a convolution that is converted."""
    tensor = next(module.parameters(), None)
    if tensor is None or (tensor.device.type == "cpu" and tensor.dtype in COMPUTED):
        return ""
    return (
        f"{str(tensor.dtype).removeprefix('torch.')} on {tensor.device.type} is computed by aten convolution"
    )
