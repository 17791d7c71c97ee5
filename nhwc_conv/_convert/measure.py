"""How long a model takes before and after `convert`, in both memory formats."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from .calls import arguments_of, run

ROUNDS = 5


def seconds(
    original: torch.nn.Module, convert: Callable[[torch.nn.Module], torch.nn.Module], example: Any
) -> dict[str, float]:
    """Seconds of a forward pass in eval mode, the best of some interleaved rounds, of copies of `original`.

    By "original", "converted", and both with ", channels_last", where model and images are in that memory format.
    """
    args, kwargs = arguments_of(example)
    contenders = {}
    for name, change in (("original", lambda model: model), ("converted", convert)):
        for suffix, memory_format in (("", None), (", channels_last", torch.channels_last)):
            model = change(copy.deepcopy(original).eval())
            inputs = args, kwargs
            if memory_format is not None:
                model = model.to(memory_format=memory_format)  # type: ignore[call-overload]  # not among torch's
                inputs = tree_map_only(torch.Tensor, in_channels_last, inputs)
            contenders[name + suffix] = model, inputs
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(ROUNDS):
        for name, (model, inputs) in contenders.items():
            best[name] = min(best[name], run(lambda *a, m=model, **k: timed(m, a, k), *inputs))
    return best


def in_channels_last(t: torch.Tensor) -> torch.Tensor:
    return t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t


def timed(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    start = time.perf_counter()
    model(*args, **kwargs)
    return time.perf_counter() - start


def advice(times: dict[str, float]) -> list[str]:
    """What to do about the times of `seconds`."""
    fastest = min(times, key=times.__getitem__)
    now = "converted"
    if fastest == now:
        return []
    gain = f"{times[now] / times[fastest]:.2f} times as fast on the example"
    if fastest == "original":
        return [f"the model as it was is {gain}: `revert` it"]
    what = "model.to(memory_format=torch.channels_last), and the same for images"
    return [f"{what}{', without convert' if fastest.startswith('original') else ''}: {gain}"]
