"""The one timer of the benchmarks, and functions timed in turn."""

import time


def seconds_per_call(function, calls=1):
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def measure(functions, rounds, seconds):
    """{name: [seconds per call of each round]}, contenders in turn, so that a drifting clock hits all alike."""
    calls = {}
    for name, function in functions.items():
        function()
        calls[name] = max(1, round(seconds / seconds_per_call(function, 1)))
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(seconds_per_call(function, calls[name]))
    return times
