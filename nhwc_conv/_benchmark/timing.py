"""Functions timed by turns, so that a drifting clock hits all alike."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._convert.calls import arguments_of
from .._convert.public import described
from .._native import Native
from .report import FormTime

MOST_CALLS = 100  # that are looked into


@dataclass
class Contender:
    """A form that gives the right result: what is called with what, and where its times go."""

    function: Callable[..., Any]
    example: Any
    found: FormTime
    calls: int = 1

    def seconds_per_call(self, calls: int) -> float:
        """Of `calls` calls, after one that is not counted: the others have had the caches."""
        args, kwargs = arguments_of(copy.deepcopy(self.example))  # a model may write to what it is given
        self.function(*args, **kwargs)
        start = time.perf_counter()
        for _ in range(calls):
            self.function(*args, **kwargs)
        return (time.perf_counter() - start) / calls


def by_turns(contenders: list[Contender], rounds: int, seconds: float) -> None:
    """Times all, `rounds` times each for about `seconds`. One that raises keeps the error, and no times."""
    for contender in contenders:
        attempt(contender, lambda c: set_calls(c, seconds))
    for _ in range(rounds):
        for contender in contenders:
            if not contender.found.error:
                attempt(contender, lambda c: c.found.seconds.append(c.seconds_per_call(c.calls)))


def set_calls(contender: Contender, seconds: float) -> None:
    contender.calls = max(1, round(seconds / contender.seconds_per_call(1)))


def set_between(contender: Contender, module: Native) -> None:
    """Runs the form once more, as often as in a turn, and looks how much of each call is spent in our kernels."""
    args, kwargs = arguments_of(copy.deepcopy(contender.example))
    outside, kernels = [], 0
    for _ in range(min(contender.calls, MOST_CALLS)):
        with module.watched_kernels() as so_far:
            start = time.perf_counter()
            contender.function(*args, **kwargs)
            seconds = time.perf_counter() - start
            kernels, inside = so_far()
        outside.append(seconds - inside)
    if kernels:
        contender.found.kernels = kernels
        contender.found.between = statistics.median(outside) / kernels


def attempt(contender: Contender, step: Callable[[Contender], None]) -> None:
    try:
        step(contender)
    except Exception as error:  # of the model's own code
        contender.found.error = reason(error)
        contender.found.seconds.clear()


def reason(error: Exception) -> str:
    """An error in one line. What torch.compile raises says in its first line only that it has failed."""
    inner = getattr(error, "inner_exception", None)
    return described(inner if isinstance(inner, Exception) else error)
