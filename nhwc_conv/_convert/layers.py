"""convert and revert: walking a model and replacing its convolutions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.utils.parametrize import type_before_parametrizations

from ..nn.drop_in import Conv2d, as_torch
from ..nn.twin import twin
from .classes import CONVOLUTION, class_of_ours, class_of_torch, why_left
from .report import ConvertReport


def convert(
    model: torch.nn.Module,
    *,
    subclasses: bool | type | tuple[type, ...] = False,
    report: Callable[[ConvertReport], object] | None = None,
) -> torch.nn.Module:
    """Replaces every torch.nn.Conv2d in `model`, in place, by an nhwc_conv.Conv2d over the same parameters.

    Parameters, buffers, hooks and their handles, parametrisations (weight_norm, spectral_norm), names in the
    state_dict, the training flag, device and dtype stay; a layer that stands in several places stays one layer.

    Args:
        model: any module.
        subclasses: which subclasses of torch.nn.Conv2d are taken too: none (they may do something else), all, or a
            class or a tuple of classes. Such a layer stays an instance of its class, whose `super().forward` and
            `self._conv_forward` then lead here; one that computes its convolution itself is left.
        report: called with the ConvertReport: `report=print` shows what was converted, and what was left and why.

    Returns:
        `model`, or its replacement where it is a convolution itself.
    """
    found = ConvertReport()
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, CONVOLUTION):
            why = why_left(module, subclasses)
            if why is None:
                found.converted[path] = note(module)
            else:
                found.left[path] = why

    def ours(module):
        if not isinstance(module, CONVOLUTION) or why_left(module, subclasses) is not None:
            return module
        layer = twin(module, class_of_ours(type_before_parametrizations(module)))
        layer.algorithm = "auto"
        return layer

    model = replace(model, ours)
    if report is not None:
        report(found)
    return model


def revert(model: torch.nn.Module) -> torch.nn.Module:
    """Undoes `convert`: every nhwc_conv.Conv2d in `model` becomes, in place, a torch.nn.Conv2d of the same state.

    Layers that `convert` took with `subclasses` get their class back; subclasses of nhwc_conv.Conv2d are left alone.

    Returns:
        `model`, or its replacement where it is such a layer itself.
    """

    def theirs(module):
        cls = class_of_torch(type_before_parametrizations(module)) if isinstance(module, Conv2d) else None
        return module if cls is None else as_torch(module, cls)

    return replace(model, theirs)


def replace(model: torch.nn.Module, replacement: Callable) -> torch.nn.Module:
    """`model` with every module in it replaced by replacement(module), each called once; maybe the module itself."""
    replaced: dict[torch.nn.Module, torch.nn.Module] = {}

    def of(module):
        if module not in replaced:
            replaced[module] = replacement(module)
        return replaced[module]

    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and of(child) is not child:
                parent._modules[name] = of(child)
    return of(model)


def note(module) -> str:
    """What is to be said of a convolution that was converted."""
    tensor = next(module.parameters(), None)
    if tensor is None or (tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)):
        return ""
    return (
        f"{str(tensor.dtype).removeprefix('torch.')} on {tensor.device.type} is computed by aten convolution"
    )
