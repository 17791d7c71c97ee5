"""What the processor can do at best: the limits that the times of layers are compared with."""

from __future__ import annotations

import statistics
import time
from functools import cached_property

import torch

from .. import _extension
from .._prepack import prepack
from ..nn import Conv2d

SMALLEST, LARGEST = 1 << 14, 1 << 28  # bytes that a copy reads and writes
CALLS, COPIES = 101, 20


def description() -> str:
    module = _extension.module
    instruction_set = "no extension" if module is None else module.instruction_set()
    return f"torch {torch.__version__}, {instruction_set}, threads: {torch.get_num_threads()}"


class Machine:
    """Measures each limit once, when it is first asked for."""

    def __init__(self) -> None:
        self._peaks: dict[torch.dtype, float] = {}
        self._bandwidths: dict[int, float] = {}

    def peak(self, dtype: torch.dtype) -> float:
        """Multiplications and additions a second of all threads, if each ran as fast as one does alone."""
        if dtype not in self._peaks:
            assert _extension.module is not None  # benchmark has refused to look at layers without
            gflops = _extension.module.fma_peak(str(dtype).removeprefix("torch."), 0.1)
            self._peaks[dtype] = 1e9 * gflops * torch.get_num_threads()
        return self._peaks[dtype]

    def bandwidth(self, moved: int) -> float:
        """Bytes a second of a copy that moves about as many as `moved`: from the cache that holds them."""
        size = min(max(SMALLEST, 1 << max(moved - 1, 1).bit_length()), LARGEST)
        if size not in self._bandwidths:
            self._bandwidths[size] = copied(size)
        return self._bandwidths[size]

    @cached_property
    def overhead(self) -> float:
        """Seconds of a call that has next to nothing to compute: a layer of one channel and one pixel."""
        layer, x = prepack(Conv2d(1, 1, 1).eval()), torch.zeros(1, 1, 1, 1)
        times = []
        with torch.no_grad():
            for _ in range(CALLS):
                start = time.perf_counter()
                layer(x)
                times.append(time.perf_counter() - start)
        return statistics.median(times)


def copied(size: int) -> float:
    """Bytes a second, the best of some copies, each long enough for the clock."""
    source, target = torch.ones(size // 8), torch.empty(size // 8)  # float32: half of the bytes each
    calls, best = max(1, (1 << 22) // size), float("inf")
    for _ in range(COPIES):
        start = time.perf_counter()
        for _ in range(calls):
            target.copy_(source)
        best = min(best, time.perf_counter() - start)
    return size * calls / best
