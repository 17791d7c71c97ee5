"""The one timer of the benchmarks."""

import time


def seconds_per_call(function, calls=1):
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls
