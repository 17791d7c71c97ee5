"""One model: converted in both forms, compared with the original, and what was taken of it and what was not."""

from __future__ import annotations

import copy
import itertools
import time
import traceback
from collections import Counter

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

import nhwc_conv

from .compare import CHAOS, LIMIT, OUTPUTS, PARAMETERS, Answer, is_real, run
from .weights import settle
from .zoo import Entry

# The training form is compared in training mode, where a BatchNorm needs more than one value.
BATCHES = {"training": (2, 3), "inference": (1, 3)}
# Outputs that packed weights serve, where there are any.
PACKED = {torch.float64: "outputs without gradient", torch.float32: "outputs in float32"}
ACTIVATIONS = {
    *(getattr(owner, name) for owner in (torch, torch.Tensor) for name in ("relu", "relu_", "sigmoid", "tanh")),
    *(getattr(F, name) for name in "relu relu6 hardtanh hardswish hardsigmoid silu gelu mish elu selu".split()),
    *(F.leaky_relu, F.prelu, F.softplus, F.logsigmoid, torch.Tensor.sigmoid_),
}  # fmt: skip


class CountCalls(TorchFunctionMode):
    """How often functions of a set are called."""

    def __init__(self, functions: set) -> None:
        super().__init__()
        self.functions, self.count = functions, 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += function in self.functions
        return function(*args, **(kwargs or {}))


def trial(entry: Entry) -> dict:
    """The row of a model: counts, errors in the units of compare.py, seconds, and what went wrong, if anything did."""
    start, row = time.monotonic(), {"problems": []}
    try:
        model = original(entry)
        row |= counts(entry, model.eval())
    except Exception as error:
        return {"problems": [f"the original: {said(error)}"], "seconds": 0.0}
    for form in BATCHES:
        try:
            row[form] = compare(entry, model.train(form == "training"), form)
        except Exception as error:  # whatever a conversion raises is a result
            row["problems"].append(f"{form}: {said(error)}")
            continue
        row["problems"] += [
            f"{form}: {kind} are off by {units:.3g} units, but rounding explains {LIMIT}"
            for kind, units in row[form]["units"].items()
            if not units <= LIMIT
        ]
        if row[form]["chaos"] > CHAOS:
            row["problems"].append(f"{form}: the original is off by {row[form]['chaos']:.2g} in float32")
    return {**row, "seconds": round(time.monotonic() - start, 1)}


def original(entry: Entry) -> nn.Module:
    torch.manual_seed(0)
    model = entry.build().float()
    calls = [lambda size=size: model(*arguments(entry, 6, size, torch.float32)) for size in entry.sizes]
    settle(model, calls, torch.Generator().manual_seed(0))
    return model


def said(error: Exception) -> str:
    function = traceback.extract_tb(error.__traceback__)[-1].name
    return f"{type(error).__name__}: {error}".partition("\n")[0] + f" (in {function})"


def arguments(entry: Entry, batch: int, size: int, dtype: torch.dtype) -> tuple:
    generator = torch.Generator().manual_seed(1000 * batch + size)

    def noise(points):
        return torch.randn(batch, entry.channels, points, points, generator=generator, dtype=torch.float64)

    # Of every scale, as in pictures: deep models average noise of single pixels away.
    images = sum(F.interpolate(noise(points), (size, size), mode="bilinear") for points in (1, 3, 9, size))
    given = images, *entry.arguments(images, generator)
    return tuple(a.to(dtype) if is_real(a) else a for a in given)


def counts(entry: Entry, model: nn.Module) -> dict[str, int]:
    """Convolutions and BatchNorms among the modules; calls of activations, whether modules make them or not."""
    with CountCalls(ACTIVATIONS) as activations:
        run(model, arguments(entry, 1, entry.sizes[0], torch.float32), gradients=False)
    modules = list(model.modules())
    return {
        "convolutions": sum(isinstance(m, nn.modules.conv._ConvNd) for m in modules),
        "batch_norms": sum(isinstance(m, _BatchNorm) for m in modules),
        "activations": activations.count,
    }


def compare(entry: Entry, model: nn.Module, form: str) -> dict:
    """What a form took of `model`, and its largest errors over all sizes and batches.

    In float64 results and gradients; of float32 the results alone, whose units are those of the original in float32.
    """
    originals = {dtype: copy.deepcopy(model).to(dtype) for dtype in (torch.float64, torch.float32)}
    converted, reports = {}, []
    for dtype, of in originals.items():
        if form == "inference":
            options = dict(inference=True, example=arguments(entry, BATCHES[form][0], entry.sizes[0], dtype))
        else:
            of, options = copy.deepcopy(of), {}
        converted[dtype] = nhwc_conv.convert(of, report=reports.append, **options)
    units, relative, chaos, cases = {}, {}, 0.0, 0
    for size, batch in itertools.product(entry.sizes, BATCHES[form]):
        given = arguments(entry, batch, size, torch.float64)
        answer = Answer(originals[torch.float64], originals[torch.float32], given)
        results = run(converted[torch.float64], given)
        if form == "inference":
            results.pop(PARAMETERS)  # there are others
        keep_largest(relative, answer.relative(results))
        keep_largest(units, answer.units(results))
        for dtype, name in PACKED.items():
            keep_largest(units, {name: answer.units(run(converted[dtype], given, gradients=False))[OUTPUTS]})
        chaos, cases = max(chaos, answer.chaos), cases + 1
    return {
        **taken(reports[0]), "units": units, "relative": relative, "chaos": chaos, "cases": cases
    }  # fmt: skip


def keep_largest(kept: dict[str, float], found: dict[str, float]) -> None:
    for name, value in found.items():
        kept[name] = max(kept.get(name, 0.0), value)


def taken(report: nhwc_conv.ConvertReport) -> dict:
    """Of a report: how many were converted, folded, fused; how often each reason was given not to."""
    done = {name: len(getattr(report, name)) for name in ("converted", "folded", "fused")}
    reasons = {
        name: dict(Counter(getattr(report, name).values()).most_common())
        for name in ("left", "unfolded", "unfused", "untraced")
    }
    return {**done, "reasons": reasons, "fallback": report.fallback}
