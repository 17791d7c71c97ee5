"""benchmark: what a user's model gains here, measured on that model."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from .. import _extension
from .._convert.check import Reference
from . import checks
from .forms import COMPILED, EAGER, FOR_INFERENCE, Form, in_format
from .layers import layer_times
from .machine import Machine, description
from .picture import draw
from .report import BenchmarkReport, FormTime
from .timing import Contender, attempt, by_turns, reason, set_between

MOST_RUNS = 100  # of a model whose layers are timed


def benchmark(
    model: nn.Module,
    example: torch.Tensor | tuple[Any, ...] | dict[str, Any],
    *,
    compiled: bool = False,
    layers: bool = False,
    rounds: int = 9,
    seconds: float = 0.1,
    picture: str | os.PathLike[str] | None = None,
    report: Callable[[BenchmarkReport], object] | None = print,
) -> BenchmarkReport:
    """Times `model` on `example`, without gradients, as it is and in the forms that this package gives it.

    The forms: the original in NCHW and in channels_last memory; `convert(model)`; `convert(model,
    inference=True)`; and with `compiled` the original compiled by Inductor and by backend="nhwc_conv", and
    the model converted for inference compiled by Inductor. All but the first are in channels_last, model and
    example both. Before it is timed, each result is compared with the original's, within what rounding
    explains (see `convert`). A form that fails or gives another result has the reason for its row. Forms take
    turns, and medians are compared with the faster original's. How far apart a form's convolutions are, in
    time that none of them takes, is looked up afterwards.

    `model` and `example` stay as they are: copies are timed, one a form, so there has to be memory for them.
    The number of threads is what PyTorch is set to; grad mode and random numbers are as before afterwards.

    Args:
        model: in eval mode and on CPU.
        example: what `model` is called with: a tensor, a tuple of positional or a dict of keyword arguments.
        compiled: whether to time the compiled forms too. Compiling takes minutes, and a C++ compiler.
        layers: whether to time, too, every convolution layer of the model converted for inference, inside
            that model (calls of functions have no row): GFLOP/s, and what limits it: arithmetic (the
            multiply-add units), memory (a copy of as many bytes) or overhead (a call that computes nothing).
        rounds: how often each form has its turn.
        seconds: about how long a turn is; at least one call.
        picture: a file (.png, .svg or .pdf) to draw the result in, by matplotlib.
        report: called with the result; None for silence.

    Returns:
        The BenchmarkReport: `forms[name].median`, `speed_up(name)`, `layers`; its text is the table.

    Raises:
        TypeError: an argument of a wrong type, or a model whose code is fixed: a ScriptModule, or what
            torch.compile returns.
        ValueError: `model` in training mode, lazy, or impossible to copy; `model` or `example` on another
            device than CPU; an `example` without a result to compare; `rounds`, `seconds` or `picture` out of
            range.
        ModuleNotFoundError: `picture` without matplotlib.
        RuntimeError: `layers` without the C++ extension.
        Exception: whatever `model` itself raises on `example`.
    """
    checks.check_timed(model)
    checks.check_example(example)
    checks.check_flag("compiled", compiled)
    checks.check_layers(layers)
    checks.check_rounds(rounds)
    checks.check_seconds(seconds)
    checks.check_picture(picture)
    checks.check_report(report)
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        found = measured(model, example, {**EAGER, **(COMPILED if compiled else {})}, layers, rounds, seconds)
    if picture is not None:
        draw(found, picture)
    if report is not None:
        report(found)
    return found


def measured(
    model: nn.Module, example: Any, forms: dict[str, Form], layers: bool, rounds: int, seconds: float
) -> BenchmarkReport:
    example = tree_map_only(torch.Tensor, torch.Tensor.detach, example)  # deepcopy takes only leaves
    reference = Reference(copy_of(model), example)
    found = BenchmarkReport(description())
    contenders = {}
    for name, form in forms.items():
        found.forms[name] = FormTime()
        contender = verified(form, model, reference, found.forms[name])
        if contender is not None:
            contenders[name] = contender
    by_turns(list(contenders.values()), rounds, seconds)
    if _extension.module is not None:
        for contender in contenders.values():
            if not contender.found.error:
                attempt(contender, functools.partial(set_between, module=_extension.module))
    if layers:
        try:
            add_layers(found, contenders.get(FOR_INFERENCE), rounds * seconds)
        except Exception as error:  # of the model's own code, too
            found.layers_error = reason(error)
    return found


def copy_of(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # of the model's own code, or of PyTorch about tensors that have a history
        text = f"expected model to be one that copy.deepcopy can copy, but that raises {reason(error)}"
        raise ValueError(text) from error


def verified(form: Form, model: nn.Module, reference: Reference, found: FormTime) -> Contender | None:
    """A form that gives the reference's result, to be timed; None, with the reason in `found`, if not."""
    try:
        copied, example = in_format(form, copy_of(model), copy.deepcopy(reference.example))
        function, found.note = form.make(copied, example)
        found.deviation, found.tolerance = reference.check(function, example, "this form")
    except Exception as error:  # of the model's own code, of a compiler, or a result that is off
        found.error = reason(error)
        return None
    return Contender(function, example, found)


def add_layers(found: BenchmarkReport, contender: Contender | None, seconds: float) -> None:
    """Adds the convolutions of the model that was converted for inference."""
    form = found.forms[FOR_INFERENCE]
    if contender is None or form.error:
        raise RuntimeError(f"the model converted for inference failed: {form.error}")
    assert isinstance(contender.function, nn.Module)
    runs = min(max(5, round(seconds / form.median)), MOST_RUNS)
    found.layers = layer_times(contender.function, contender.example, runs, Machine())
