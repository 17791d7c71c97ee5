"""The one list of the forward ops that `make verify` looks at, and what each promises of its results."""

from __future__ import annotations

from dataclasses import dataclass

import torch

import nhwc_conv  # noqa: F401
from nhwc_conv._ops import FORWARD_OPS


@dataclass(frozen=True)
class Promise:
    """bound 0: exact on integers, and within Higham's bound for a sum of its length otherwise.

    bound b > 0: max |error| <= b * u * the largest sum |x||w| of an image, u half the step
    from 1 to the next number.
    """

    bound: float = 0
    refuses: bool = False  # raises RuntimeError for geometries that it is not made for

    @property
    def exact(self) -> bool:
        return self.bound == 0


# Winograd F(4x4, 3x3) computes with sums of pixels and of weights, of which the last bits are lost.
SPECIAL = {"winograd": Promise(bound=40, refuses=True)}
FORWARD = {name: SPECIAL.get(name, Promise()) for name in FORWARD_OPS}
EXACT = [name for name, promise in FORWARD.items() if promise.exact]


def try_forward(name, x, w, bias, geometry):
    """The result, or None where the op is not made for this geometry."""
    try:
        return getattr(torch.ops.nhwc_conv, name)(x, w, bias, **geometry)
    except RuntimeError:
        if FORWARD[name].refuses:
            return None
        raise
