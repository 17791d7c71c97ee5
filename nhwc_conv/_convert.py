"""Replacing the convolutions of a model."""

from __future__ import annotations

import torch

from .nn import Conv2d


def convert(model: torch.nn.Module) -> torch.nn.Module:
    """Replaces every torch.nn.Conv2d in `model`, in place, by an nhwc_conv.Conv2d with the same parameters.

    Names, hooks and the training flag stay; a layer that stands in several places stays one layer. Subclasses
    of torch.nn.Conv2d are left alone, since they may do something else.

    Returns:
        `model`, or its replacement where it is a torch.nn.Conv2d itself.
    """
    replaced: dict[torch.nn.Module, torch.nn.Module] = {}

    def replacement(module):
        if type(module) is not torch.nn.Conv2d:
            return module
        if module not in replaced:
            replaced[module] = Conv2d.from_torch(module)
        return replaced[module]

    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None:
                parent._modules[name] = replacement(child)
    return replacement(model)
