"""Whether two models compute the same, up to rounding."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import sqrt
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from .calls import arguments_of, leaves, run

DRAWS = 2
SAFETY = 8


class Deviation(RuntimeError):
    """Another model computes something else."""


class Reference:
    """What a model computes for an example, and how near to that another one has to come.

    A computed sum of n products is the exact sum for weights that are off by about sqrt(n) units of the last place
    (Higham and Mary, A new approach to probabilistic rounding error analysis, 2019), and for a bias that is, where the
    sum begins with it. So `original` is run with such tensors, signs drawn at random; the largest change of a result,
    times SAFETY, is its tolerance. Infinities and NaNs have to stand in the same places. Integers that floating-point
    numbers choose, as in argmax, may differ where those are near each other; so the numbers that decide are compared
    in their place.

    Raises:
        ValueError: there is nothing to compare.
    """

    def __init__(self, original: torch.nn.Module, example: Any) -> None:
        self.example, self.expected = example, results(original, example)
        if not any(t.isfinite().any() for t in self.expected):
            raise ValueError("the example gives no floating-point result to compare, or none that is finite")
        self.limits = [torch.finfo(t.dtype).eps * largest(t) for t in self.expected]
        generator = torch.Generator().manual_seed(0)
        for _ in range(DRAWS):
            state = off_by_rounding(original, generator)

            def nearby(*args: Any, state: dict[str, Tensor] = state, **kwargs: Any) -> Any:
                return functional_call(original, state, args, kwargs)

            distances = map(distance, results(nearby, example), self.expected)
            self.limits = [max(n, d) for n, d in zip(self.limits, distances, strict=False)]

    def check(
        self, model: Callable[..., Any], example: Any = None, name: str = "the converted model"
    ) -> tuple[float, float]:
        """(deviation, tolerance) of the tensor among the results that comes nearest to its tolerance, largest elements.

        Args:
            example: for `model`, the numbers of the reference's in another memory format; None for that itself.
            name: what errors call `model`.

        Raises:
            Deviation: a deviation is over its tolerance.
        """
        example = self.example if example is None else example
        found = results(model, example)
        if len(found) != len(self.expected):
            counts = f"{len(found)} floating-point results, but the original {len(self.expected)}"
            raise Deviation(f"{name} gives {counts}")
        # While a mode watches functions, programs call their layers one by one; so once more without.
        alone = [t for t in leaves(run(model, *arguments_of(example))) if is_real(t)]
        deviations = [
            distance(*pair) for some in (found, alone) for pair in zip(some, self.expected, strict=False)
        ]
        limits = [*self.limits, *self.limits[: len(alone)]]
        pairs = [(d, SAFETY * n) for d, n in zip(deviations, limits, strict=True)]
        deviation, tolerance = max(pairs, key=lambda pair: pair[0] / pair[1] if pair[1] else pair[0])
        if not deviation <= tolerance:
            raise Deviation(
                f"{name}'s result is off by {deviation:.3g}, but rounding explains {tolerance:.3g}"
            )
        return deviation, tolerance


def results(model: Callable[..., Any], example: Any) -> list[Tensor]:
    """The floating-point tensors among the results of `model`, and those that chose its integers and booleans."""
    deciding = Deciding()
    with deciding:
        out = run(model, *arguments_of(example))
    return [t for t in leaves(out) if is_real(t)] + deciding.tensors


class Deciding(TorchFunctionMode):
    """Keeps the floating-point arguments of every function of torch that gives integers or booleans for them."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        if any(isinstance(t, Tensor) and not t.dtype.is_floating_point for t in tree_leaves(out)):
            self.tensors += [t.clone() for t in tree_leaves((args, kwargs)) if is_real(t) and t.numel() > 1]
        return out


def is_real(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.is_floating_point()


@torch.no_grad()
def off_by_rounding(model: torch.nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """The parameters and buffers of `model`, each element off by the rounding of a sum that it is a term of."""
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    state, terms = {}, 1
    for name, t in sorted(tensors, key=lambda pair: order[pair[0].rpartition(".")[0]]):
        if t.dim() > 1 and t.shape[0]:
            terms = t[0].numel() + 1  # of biases and BatchNorms behind this weight, too
        if t.is_floating_point():
            unit = sqrt(terms) * torch.finfo(t.dtype).eps / 2
            signs = torch.randint(0, 2, t.shape, generator=generator).to(t.device, t.dtype) * 2 - 1
            state[name] = t + t * (unit * signs)
    return state


def largest(t: Tensor) -> float:
    """The largest magnitude of the finite elements."""
    finite = t[t.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0


def distance(a: Tensor, b: Tensor) -> float:
    """The largest difference of elements; infinite where one of them alone is not finite, or is another infinity."""
    if a.shape != b.shape:
        return float("inf")
    both = a.isfinite() & b.isfinite()
    if not bool((both | (a == b) | (a.isnan() & b.isnan())).all()):
        return float("inf")
    return largest(a[both].double() - b[both].double())
