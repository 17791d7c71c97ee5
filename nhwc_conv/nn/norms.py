"""weight_norm and spectral_norm of PyTorch on HWIO weights: over channels, not over rows of kernels in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

if TYPE_CHECKING:
    from .hwio import ChannelsLastLayer

NORMS = {
    _WeightNorm: "weight_norm",
    _SpectralNorm: "spectral_norm",
    # of torch.nn.utils, as hooks
    WeightNorm: "weight_norm",
    SpectralNorm: "spectral_norm",
}


def check_norms(layer: ChannelsLastLayer) -> None:
    """ValueError where PyTorch's default `dim`, for OIHW weights, was left as it is."""
    steps: list[Any] = [*layer._forward_pre_hooks.values()]
    if is_parametrized(layer, "weight"):
        parametrizations: Any = layer.parametrizations
        steps += parametrizations.weight
    last = layer.weight.dim() - 1
    for step in steps:
        if type(step) in NORMS and step.dim in range(last - 1):
            norm, order = NORMS[type(step)], "HWIO" if last == 3 else "[K, in, out]"
            raise ValueError(
                f"expected dim of {norm} to be {last} or {last - 1}, the channels of a weight "
                f"{list(layer.weight.shape)} in {order} order, but got dim={step.dim}; dimension 0 of torch.nn's layer "
                f"is {last} here, and 1 is {last - 1}"
            )
