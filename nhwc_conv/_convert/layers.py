"""Walking a model and replacing its convolutions, there and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

import torch
from torch.nn.utils.parametrize import type_before_parametrizations

from ..nn.drop_in import Conv2d, WithAlgorithm, as_torch
from ..nn.fused import FusedConvolution, FusedTransposed
from ..nn.linear import FusedLinear
from ..nn.packed import Prepackable
from ..nn.twin import shallow_copy, twin
from .classes import CONVOLUTION, Subclasses, class_of_ours, class_of_torch, why_left
from .memory import forget_memory
from .programs import separate_convolutions

M = TypeVar("M", bound=torch.nn.Module)


def layer_of_ours(
    module: torch.nn.Module, subclasses: Subclasses, copy: Callable[[torch.nn.Module, Any], Any]
) -> torch.nn.Module:
    """What `convert` puts in the place of `module`: itself, or copy(module, class) where it takes it.

    `copy` is `twin` where the model is changed, and `shallow_copy` where it stays: then layers of ours are copied, too.
    """
    cls = type_before_parametrizations(module)
    if copy is shallow_copy and isinstance(module, Prepackable):
        return shallow_copy(module, cls)
    if not isinstance(module, CONVOLUTION) or why_left(module, subclasses) is not None:
        return module
    layer: torch.nn.Module = copy(module, class_of_ours(cls))
    if isinstance(layer, WithAlgorithm):
        layer.algorithm = "auto"
    return layer


def replace_convolutions(model: M, subclasses: Subclasses) -> M:
    """`model`, or what replaces it, with the convolutions that `why_left` lets go computed by nhwc_conv."""
    return replace(model, lambda module: layer_of_ours(module, subclasses, twin))


@overload
def revert(model: Conv2d) -> torch.nn.Conv2d: ...


@overload
def revert(model: M) -> M: ...


def revert(model: Any) -> Any:
    """Undoes `convert`: every nhwc_conv.Conv2d in `model` becomes, in place, a torch.nn.Conv2d of the same state.

    Layers that `convert` took with `subclasses` get their class back; other subclasses of nhwc_conv.Conv2d are left
    alone. In a model for inference, what was folded stays so; a layer that does what followed it becomes one of
    torch.nn and an activation, which takes a residual as the layer does.

    Returns:
        `model`, or its replacement where it is such a layer itself.
    """

    def theirs(module: torch.nn.Module) -> torch.nn.Module:
        if isinstance(module, torch.fx.GraphModule):
            separate_convolutions(module)
            forget_memory(module)
        if isinstance(module, (FusedConvolution, FusedTransposed, FusedLinear)):
            return module.to_torch()
        cls = class_of_torch(type_before_parametrizations(module))
        return module if cls is None else as_torch(module, cls)

    return replace(model, theirs)


def replace(model: torch.nn.Module, replacement: Callable[[torch.nn.Module], torch.nn.Module]) -> Any:
    """`model` with every module in it replaced by replacement(module), each called once; maybe the module itself."""
    replaced: dict[torch.nn.Module, torch.nn.Module] = {}

    def of(module: torch.nn.Module) -> torch.nn.Module:
        if module not in replaced:
            replaced[module] = replacement(module)
        return replaced[module]

    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and of(child) is not child:
                parent._modules[name] = of(child)
    return of(model)
