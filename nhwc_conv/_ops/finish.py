"""What may be done to a convolution's sums before they are rounded: an activation, and adding a residual.

conv2d_packed does it in the caches, in C++ (csrc/conv/finish.h). Here are the names of activations, and the same steps
by aten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

ActivationArgument: TypeAlias = "str | tuple[Any, ...] | None"


class Activation(NamedTuple):
    """One row of the table below."""

    parameters: tuple[str, ...]  # numbers that follow the name
    defaults: tuple[float, ...]
    aten: Callable[..., Tensor]
    # The derivative at a result times a gradient, (gradient, result, *parameters), where torch, too, computes it from
    # results: others may be written to in place before it is asked for.
    backward: Callable[..., Tensor] | None = None


aten: Any = torch.ops.aten
# In the order of Activation in csrc/kernels/kernels.h.
ACTIVATIONS = {
    "none": Activation((), (), lambda x: x, lambda grad, y: grad),
    "relu": Activation((), (), torch.relu, lambda grad, y: aten.threshold_backward(grad, y, 0)),
    "clamp": Activation(("min", "max"), (), torch.clamp),
    "leaky_relu": Activation(("negative_slope",), (0.01,), F.leaky_relu),
    "hardsigmoid": Activation((), (), F.hardsigmoid),
    "hardswish": Activation((), (), F.hardswish),
    "sigmoid": Activation((), (), torch.sigmoid, lambda grad, y: aten.sigmoid_backward(grad, y)),
    "silu": Activation((), (), F.silu),
    "tanh": Activation((), (), torch.tanh, lambda grad, y: aten.tanh_backward(grad, y)),
    "elu": Activation(("alpha",), (1.0,), F.elu),
    "mish": Activation((), (), F.mish),
    "gelu": Activation((), (), F.gelu),
    "gelu_tanh": Activation((), (), lambda x: F.gelu(x, approximate="tanh")),
}
NAMES = tuple(ACTIVATIONS)
ALIASES = {"relu6": ("clamp", 0.0, 6.0)}


class Finish(NamedTuple):
    """The last arguments of conv2d_packed."""

    activation: int
    alpha: float
    beta: float
    activation_first: bool

    @property
    def kind(self) -> int:
        """Its part of the `kind` of a short call: see csrc/binding/short_call.h."""
        return self.activation << 8 | self.activation_first << 12

    @property
    def called(self) -> tuple[Activation, tuple[float, ...]]:
        activation = ACTIVATIONS[NAMES[self.activation]]
        return activation, (self.alpha, self.beta)[: len(activation.parameters)]

    def of(self, sums: Tensor, residual: Tensor | None) -> Tensor:
        """By aten, which takes any two dtypes and sizes that fit."""
        activation, numbers = self.called
        if residual is not None and not self.activation_first:
            sums = sums + residual
        sums = activation.aten(sums, *numbers)
        return sums + residual if residual is not None and self.activation_first else sums

    def backward(self, residual: Tensor | None) -> Callable[[Tensor, Tensor], Tensor] | None:
        """(gradient, result) to the gradient of the sums, unless that takes more than the result."""
        activation, numbers = self.called
        backward = activation.backward
        if backward is None or (residual is not None and self.activation_first and self.activation != 0):
            return None
        return lambda grad, y: backward(grad, y, *numbers)


NOTHING = Finish(0, 0.0, 0.0, False)


def finish_argument(activation: ActivationArgument, activation_first: bool) -> Finish:
    """A name of an activation, or a tuple of it and its numbers, as conv2d_packed takes it. ValueError: another one."""
    name, *given = activation if isinstance(activation, tuple) and activation else (activation or "none",)
    if name in ALIASES and not given:
        name, *given = ALIASES[name]
    known = ACTIVATIONS.get(name) if isinstance(name, str) else None
    if known is None:
        names = ", ".join([*NAMES, *ALIASES])
        raise ValueError(f"Unknown activation: activation={activation!r}; valid ones are {names}")
    numbers = [*given, *known.defaults[len(given) :]]
    if len(numbers) != len(known.parameters) or not all(isinstance(n, (int, float)) for n in numbers):
        wanted = ", ".join(known.parameters) or "nothing"
        raise ValueError(f"expected {name!r} to be followed by {wanted}, but got activation={activation!r}")
    alpha, beta = (*map(float, numbers), 0.0, 0.0)[:2]
    return Finish(NAMES.index(name), alpha, beta, bool(activation_first))
