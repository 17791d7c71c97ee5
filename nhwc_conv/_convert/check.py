"""Whether two models compute the same, up to rounding."""

from __future__ import annotations

import copy
import itertools
from math import sqrt

import torch
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map_only

DRAWS = 2
SAFETY = 8


def compare(original: torch.nn.Module, model: torch.nn.Module, example) -> tuple[float, float]:
    """How far the results of `model` on `example` are from those of `original`, and how far they may be.

    A computed sum of n products is the exact sum for weights that are off by about sqrt(n) units of the last place
    (Higham and Mary, A new approach to probabilistic rounding error analysis, 2019). So `original` is run with such
    weights, signs drawn at random; the largest change of a result, times SAFETY, is its tolerance.

    Returns:
        (deviation, tolerance) of the tensor among the results that comes nearest to its tolerance, largest elements.

    Raises:
        RuntimeError: a deviation is over its tolerance. ValueError: there is no floating-point result.
    """
    with torch.no_grad():
        expected = results(original, example)
        if not expected or not all(t.isfinite().all() for t in expected):
            raise ValueError(
                "the example gives no floating-point result to compare, or one that is not finite"
            )
        limits = [torch.finfo(t.dtype).eps * largest(t) for t in expected]
        generator = torch.Generator().manual_seed(0)
        for _ in range(DRAWS):
            tensors = itertools.chain(original.named_parameters(), original.named_buffers())
            state = {name: off_by_rounding(t, generator) for name, t in tensors}
            moved = results(lambda *args: functional_call(original, state, args), example)  # noqa: B023
            limits = [max(n, distance(a, b)) for n, a, b in zip(limits, moved, expected, strict=True)]
        deviations = [distance(a, b) for a, b in zip(results(model, example), expected, strict=True)]
    pairs = [(d, SAFETY * n) for d, n in zip(deviations, limits, strict=True)]
    deviation, tolerance = max(pairs, key=lambda pair: pair[0] / pair[1] if pair[1] else pair[0])
    if not deviation <= tolerance:
        raise RuntimeError(
            f"the converted model's result is off by {deviation:.3g}, but rounding explains {tolerance:.3g}: "
            "torch.fx may have seen another path through the model than its example takes"
        )
    return deviation, tolerance


def results(model, example):
    """The floating-point tensors among the results of model(*example), which gets a copy: it may write to it."""
    args = example if isinstance(example, tuple) else (example,)
    args = copy.deepcopy(tree_map_only(torch.Tensor, torch.Tensor.detach, args))  # deepcopy takes only leaves
    return [t for t in tree_leaves(model(*args)) if isinstance(t, torch.Tensor) and t.is_floating_point()]


def off_by_rounding(t, generator):
    if not t.is_floating_point():
        return t
    terms = t[0].numel() + 1 if t.dim() > 1 and t.shape[0] else 1
    unit = sqrt(terms) * torch.finfo(t.dtype).eps / 2
    signs = torch.randint(0, 2, t.shape, generator=generator).to(t.device, t.dtype) * 2 - 1
    return t + t * (unit * signs)


def largest(t):
    return t.abs().max().item() if t.numel() else 0.0


def distance(a, b):
    if a.shape != b.shape:
        return float("inf")
    difference = largest(a.double() - b.double())
    return difference if difference == difference else float("inf")
