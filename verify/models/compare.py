"""How far a converted model is from the original, in units of what rounding does to the original itself.

The original runs in float64, which is the answer, and twice in float32, on images of both memory formats, for which
oneDNN has different loops. The larger of their errors, or eps of the largest element where they have less, is what
rounding does to that result: it knows how deep the model is and what it magnifies. This is one unit of an error in
float32; in float64 a unit is less by the ratio of the eps.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

OUTPUTS, INPUTS, PARAMETERS = "outputs", "input gradients", "parameter gradients"
EPS = torch.finfo(torch.float32).eps
# Winograd's errors are up to three times those of a sum in order, and the largest of many errors scatters.
LIMIT = 16
# Errors of float32 beyond this part of the largest element say nothing of those of float64: ReLUs had other signs.
CHAOS = 0.02

# The largest of so few errors may be small by chance: such tensors (weights of PReLU) share the largest among them.
FEW = 16

Results = dict[str, dict[str, torch.Tensor]]


def run(model: nn.Module, arguments: tuple, *, gradients: bool = True) -> Results:
    """What `model` gives for `arguments` in its dtype: results, and their gradients along a direction that is fixed."""
    dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
    arguments = tuple(
        a.detach().to(dtype, copy=True).requires_grad_(gradients) if is_real(a) else copy.deepcopy(a)
        for a in arguments
    )
    torch.manual_seed(0)  # of dropout
    with torch.set_grad_enabled(gradients):
        outputs = {str(i): t for i, t in enumerate(tree_leaves(model(*arguments))) if is_real(t)}
    if not outputs:
        raise ValueError("the model returns no floating-point tensor")
    found = {OUTPUTS: {name: t.detach().clone() for name, t in outputs.items()}}
    if gradients:
        generator = torch.Generator().manual_seed(0)
        total = torch.zeros((), dtype=dtype)
        for t in outputs.values():
            direction = torch.randn(t.shape, generator=generator, dtype=torch.float64)
            total = total + (t * direction.to(dtype)).sum()
        leaves = {
            INPUTS: {str(i): a for i, a in enumerate(arguments) if is_real(a)},
            PARAMETERS: {name: p for name, p in model.named_parameters() if p.requires_grad},
        }
        tensors = [t for kind in leaves.values() for t in kind.values()]
        grads = iter(torch.autograd.grad(total, tensors, allow_unused=True))
        for kind, named in leaves.items():
            found[kind] = {name: g for name, g in zip(named, grads, strict=False) if g is not None}
    return found


def is_real(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


class Answer:
    """What the original gives, and what rounding does to each of it.

    Attributes:
        exact: the results in float64.
        spread: for each of them, the error of float32 divided by its eps: at least the largest element of the tensor,
            at most CHAOS / eps of the largest of its kind. Parameters of one module, and small tensors, share theirs.
        chaos: the largest error of an output in float32, relative to the largest element of that output.
    """

    def __init__(self, original: nn.Module, in_float32: nn.Module, arguments: tuple) -> None:
        self.exact = run(original, arguments)
        channels_last = tuple(
            a.contiguous(memory_format=torch.channels_last) if is_real(a) and a.dim() == 4 else a
            for a in arguments
        )
        runs = [run(in_float32, given) for given in (arguments, channels_last)]
        self.spread: dict[str, dict[str, float]] = {}
        self.scale: dict[str, float] = {}
        self.chaos = 0.0
        for kind, named in self.exact.items():
            if not all(t.isfinite().all() for t in named.values()):
                raise ValueError(f"the original's {kind} are not finite")
            sizes = {name: largest(t) for name, t in named.items()}
            errors = {name: max(distance(r[kind][name], t) for r in runs) for name, t in named.items()}
            self.scale[kind] = max(sizes.values(), default=0.0)
            most = CHAOS / EPS * self.scale[kind]
            spread = {n: min(max(errors[n] / EPS, sizes[n]), most) for n in named}
            if kind == PARAMETERS:
                spread = shared_in_modules(spread)
            few = max((spread[n] for n, t in named.items() if t.numel() < FEW), default=0.0)
            self.spread[kind] = {n: few if named[n].numel() < FEW else spread[n] for n in named}
            if kind == OUTPUTS:
                self.chaos = max(errors[n] / sizes[n] if sizes[n] else 0.0 for n in named)

    def units(self, found: Results) -> dict[str, float]:
        """The largest error of each kind of results; infinity where something is missing or of another shape."""
        errors = {k: [self._units(k, n, named) for n in self.exact[k]] for k, named in found.items()}
        return {k: max(e, default=0.0) for k, e in errors.items()}

    def relative(self, found: Results) -> dict[str, float]:
        """The largest error of each kind of results over the largest element of that kind."""
        errors = {
            k: [distance(named.get(n), t) for n, t in self.exact[k].items()] for k, named in found.items()
        }
        return {k: max(e, default=0.0) / (self.scale[k] or 1.0) for k, e in errors.items()}

    def _units(self, kind, name, named):
        error = distance(named.get(name), self.exact[kind][name])
        limit = self.spread[kind][name] * (torch.finfo(named[name].dtype).eps if name in named else 1.0)
        return error / limit if limit else (float("inf") if error else 0.0)


def shared_in_modules(spread: dict[str, float]) -> dict[str, float]:
    """The largest of each module's parameters: a shift before a BatchNorm has a gradient of rounding errors alone."""
    found: dict[str, float] = {}
    for name, value in spread.items():
        module = name.rpartition(".")[0]
        found[module] = max(found.get(module, 0.0), value)
    return {name: found[name.rpartition(".")[0]] for name in spread}


def largest(t: torch.Tensor) -> float:
    return t.abs().max().item() if t.numel() else 0.0


def distance(a: torch.Tensor | None, b: torch.Tensor) -> float:
    """The largest difference; infinity where one is missing, has another shape, or is not a number."""
    if a is None or a.shape != b.shape:
        return float("inf")
    difference = largest(a.double() - b.double())
    return difference if difference == difference else float("inf")
