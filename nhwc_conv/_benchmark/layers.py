"""The convolutions inside a model: how long each call takes there, and what limits it."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils._pytree import tree_leaves

from .._convert.calls import arguments_of
from .._explain import explain
from .._geometry.dtypes import COMPUTED
from .._ops.weight_order import OURS
from ..functional_1d import row_steps
from ..nn import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, NHWCConvTranspose2d, NWCConvTranspose1d
from ..nn.hwio import ChannelsLastLayer
from .machine import Machine
from .report import LayerTime

TIMED = (_ConvNd, ChannelsLastLayer)
TRANSPOSED = (_ConvTransposeNd, NHWCConvTranspose2d, NWCConvTranspose1d)
DROP_INS = (Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d)


@dataclass(frozen=True)
class Call:
    """One call of a convolution."""

    path: str
    layer: Any
    x: tuple[int, ...]
    out: tuple[int, ...]
    dtype: torch.dtype
    seconds: float


@contextmanager
def watched(model: nn.Module) -> Iterator[list[Call]]:
    """A list to which every call of a convolution in `model` is added."""
    calls: list[Call] = []
    handles = []
    for path, layer in model.named_modules():
        if isinstance(layer, TIMED):
            handles += watch(path, layer, calls)
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def watch(path: str, layer: nn.Module, calls: list[Call]) -> list[Any]:
    started = [0.0]

    def start(*_: Any) -> None:
        started[0] = time.perf_counter()

    def stop(_: nn.Module, args: Any, kwargs: Any, out: Tensor) -> None:
        seconds = time.perf_counter() - started[0]
        x = next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        calls.append(Call(path, layer, tuple(x.shape), tuple(out.shape), x.dtype, seconds))

    # Next to `forward`: the layer's own hooks are not counted.
    return [
        layer.register_forward_pre_hook(start),
        layer.register_forward_hook(stop, prepend=True, with_kwargs=True),
    ]


def layer_times(model: nn.Module, example: Any, runs: int, machine: Machine) -> list[LayerTime]:
    """A row for each call of a convolution while `model` computes `example`, timed in `runs` runs.

    In the model and not alone: the caches hold what the layer before left there.

    Raises:
        RuntimeError: the calls are not the same in every run, or there are none.
    """
    all_calls: list[list[Call]] = []
    with watched(model) as calls:
        for _ in range(1 + runs):
            args, kwargs = arguments_of(copy.deepcopy(example))
            calls.clear()
            model(*args, **kwargs)
            all_calls.append(list(calls))
    first, *timed = all_calls
    if not first:
        raise RuntimeError("the example calls no layer that is a convolution")
    what = [(call.path, call.x) for call in first]
    if any([(call.path, call.x) for call in calls] != what for calls in timed):
        raise RuntimeError("the model does not call the same convolutions every time")
    return [row(calls, machine) for calls in zip(*timed, strict=True)]


def row(calls: tuple[Call, ...], machine: Machine) -> LayerTime:
    """What several runs say of one call."""
    call, seconds = calls[0], statistics.median(call.seconds for call in calls)
    w = tuple(call.layer.weight.shape)
    plan = plan_of(call, w)
    found = LayerTime(call.path, plan.get("algorithm", "PyTorch"), call.x, w, seconds, flops(call))
    if call.dtype in COMPUTED:
        least = least_seconds(found, plan, call, machine)
        found.limit = max(least, key=least.__getitem__)
        found.share = least[found.limit] / seconds
    return found


def least_seconds(found: LayerTime, plan: dict[str, Any], call: Call, machine: Machine) -> dict[str, float]:
    """How long the call would take if only one thing took time, by that thing."""
    moved = call.dtype.itemsize * sum(map(prod, (call.x, found.w_shape, call.out)))
    return {
        "arithmetic": found.flops * multiplied(plan) / machine.peak(call.dtype),
        "memory": moved / machine.bandwidth(moved),
        "overhead": machine.overhead,
    }


def multiplied(plan: dict[str, Any]) -> float:
    """The part of the direct products that is left: Winograd's F(m, 3) has (m + 2)^2 for 9 m^2."""
    m = plan.get("winograd_tile")
    return (m + 2) ** 2 / (9 * m**2) if m else 1.0


def flops(call: Call) -> int:
    """Two for each product, padding counted."""
    layer = call.layer
    if isinstance(layer, TRANSPOSED):  # each input value meets the weights of its channel
        return 2 * prod(call.x) * layer.weight.numel() // layer.in_channels
    return 2 * prod(call.out) * layer.weight.numel() // layer.out_channels


def plan_of(call: Call, w: tuple[int, ...]) -> dict[str, Any]:
    """nhwc_conv.explain of a call; {} where aten computes it. Other padding than zeros is taken for zeros."""
    layer = call.layer
    if call.dtype not in COMPUTED or not isinstance(layer, (*DROP_INS, ChannelsLastLayer)):
        return {}
    transposed = isinstance(layer, TRANSPOSED)
    x = call.out if transposed else call.x
    steps: tuple[Any, ...] = layer.stride, layer.padding, layer.dilation, layer.groups
    if isinstance(layer, DROP_INS):
        first = 1 - len(w)  # of the dimensions that are not the batch
        x, w = (*x[:first], *x[first + 1 :], x[first]), tuple(w[i] for i in OURS[len(w)])
    if len(w) == 3:
        x, w, (steps, *_) = (*x[:-2], 1, *x[-2:]), (1, *w), row_steps(*steps)
    how: Any = dict(direction="input_gradient") if transposed else dict(algorithm=layer.algorithm)
    return explain(x, w, *steps, dtype=call.dtype, **how)
