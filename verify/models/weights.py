"""Weights and statistics as after some training, for models whose own start out random or constant."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd


@torch.no_grad()
def settle(model: nn.Module, calls: list[Callable[[], object]], generator: torch.Generator) -> None:
    """Leaves nothing in `model` that a conversion could drop unseen.

    Parameters that start out constant (scales of 1, shifts and last layers of 0) are drawn at random. BatchNorms get
    the mean statistics of what `calls`, which run the model, bring to them, so that deep models neither grow nor die;
    then these are moved, as statistics of other data would be. Nothing is dropped in training: which, differs between
    float32 and float64.
    """
    for module in model.modules():
        dropouts = (
            {"p"}
            if isinstance(module, _DropoutNd)
            else {"drop_prob", "drop_connect_rate", "_has_drop_connect"}
        )
        for name in dropouts & vars(module).keys():
            setattr(module, name, 0.0)
    for parameter in model.parameters():
        if parameter.numel() and (parameter == parameter.flatten()[0]).all():
            if parameter.numel() == max(parameter.shape, default=1):
                parameter += uniform(parameter, -0.3, 0.3, generator)
            else:
                width = sqrt(3 / parameter[0].numel())
                parameter += uniform(parameter, -width, width, generator)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    training, momenta = [m.training for m in model.modules()], [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train().momentum = None
    for call in calls:
        call()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.running_mean += norm.running_var.sqrt() * uniform(norm.running_mean, -0.3, 0.3, generator)
        norm.running_var *= uniform(norm.running_var, 0.5, 2, generator)
    for module, mode in zip(model.modules(), training, strict=True):
        module.training = mode


def uniform(like, least, most, generator):
    drawn = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    return (drawn * (most - least) + least).to(like.dtype)
