"""torch.nn.init for HWIO weights, of NHWCConv2d and NHWCConvTranspose2d alike, and those of NWC layers.

The functions of torch.nn.init take dimensions 0 and 1 of a weight for outputs and inputs, which here are rows and
columns of kernels: their fans, and so their values, would be wrong. These give the values that torch.nn.init gives
the weight of the torch.nn layer, from the same random numbers. For `uniform_`, `normal_`, `trunc_normal_` and
`constant_`, dimensions mean nothing: take torch.nn.init's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .._ops.weight_order import OURS, TORCHS

if TYPE_CHECKING:
    from torch.nn.init import _FanMode as FanMode
    from torch.nn.init import _NonlinearityType as Nonlinearity


def kaiming_uniform_(
    weight: Tensor,
    a: float = 0,
    mode: FanMode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: torch.Generator | None = None,
) -> Tensor:
    """torch.nn.init.kaiming_uniform_ (He et al., 2015) of `weight` [KH, KW, in/groups, out], which it returns.

    Of NHWCConv2d, "fan_in" is KH * KW * in/groups and "fan_out" KH * KW * out. Of NHWCConvTranspose2d, whose weight
    is [KH, KW, out/groups, in], they are KH * KW * out/groups and KH * KW * in: those of torch.nn.ConvTranspose2d.

    Args:
        a: negative slope of the rectifier, for "leaky_relu".
        mode: "fan_in" keeps the variance of the forward pass, "fan_out" that of the backward pass.
        nonlinearity: as for torch.nn.init.calculate_gain.
        generator: of the random numbers; None is torch's own.

    Raises:
        ValueError: a `weight` that has neither 3 nor 4 dimensions, and whatever torch.nn.init raises.
    """
    return as_oihw(nn.init.kaiming_uniform_, weight, a, mode, nonlinearity, generator)


def kaiming_normal_(
    weight: Tensor,
    a: float = 0,
    mode: FanMode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: torch.Generator | None = None,
) -> Tensor:
    """torch.nn.init.kaiming_normal_ of `weight`; see kaiming_uniform_."""
    return as_oihw(nn.init.kaiming_normal_, weight, a, mode, nonlinearity, generator)


def xavier_uniform_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """torch.nn.init.xavier_uniform_ (Glorot and Bengio, 2010) of `weight`; for its fans see kaiming_uniform_."""
    return as_oihw(nn.init.xavier_uniform_, weight, gain, generator)


def xavier_normal_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """torch.nn.init.xavier_normal_ of `weight`; for its fans see kaiming_uniform_."""
    return as_oihw(nn.init.xavier_normal_, weight, gain, generator)


def orthogonal_(weight: Tensor, gain: float = 1, generator: torch.Generator | None = None) -> Tensor:
    """torch.nn.init.orthogonal_ (Saxe et al., 2013) of `weight`: a (semi-)orthogonal matrix of its last dimension
    by all others."""
    return as_oihw(nn.init.orthogonal_, weight, gain, generator)


def dirac_(weight: Tensor, groups: int = 1) -> Tensor:
    """torch.nn.init.dirac_ of `weight`: as many channels as possible of each group pass unchanged."""
    return as_oihw(nn.init.dirac_, weight, groups)


def as_oihw(initialise: Callable[..., Tensor], weight: Tensor, *arguments: Any) -> Tensor:
    """`weight`, with what `initialise` makes of an OIHW tensor."""
    if weight.dim() not in TORCHS:
        raise ValueError(
            f"expected weight to have 3 or 4 dimensions, but got weight of size {list(weight.shape)}"
        )
    with torch.no_grad():
        oihw = torch.empty_like(weight.permute(TORCHS[weight.dim()]), memory_format=torch.contiguous_format)
        return weight.copy_(initialise(oihw, *arguments).permute(OURS[weight.dim()]))
