"""The functions of the extension beside its ops, by ctypes: csrc/binding/c_interface.h tells what they do."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import CDLL, POINTER, Structure, byref, c_char_p, c_double, c_int, c_int64
from itertools import count, takewhile
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent / ("libnhwc_conv.dll" if sys.platform == "win32" else "libnhwc_conv.so")
ERRORS = {1: RuntimeError, 2: ValueError}  # by status; 0 is success


class Sizes(Structure):
    _fields_ = [("values", POINTER(c_int64)), ("count", c_int64)]

    @classmethod
    def of(cls, values: Sequence[int]) -> Sizes:
        numbers = array("q", values)  # raises what is no integer of 64 bits, which ctypes would cut off
        return cls((c_int64 * len(numbers))(*numbers), len(numbers))


class Native:
    """The loaded library. Loading it registers the ops and their CPU kernels.

    Raises:
        OSError: it cannot be loaded. RuntimeError: NHWC_CONV_ISA names no usable instruction set.
    """

    def __init__(self, path: Path = PATH) -> None:
        self.path = path
        # Not by torch.ops.load_library, which keeps to itself why a library does not load.
        self._library = library = CDLL(str(path))
        for name in ("build_id", "usable_instruction_set"):
            getattr(library, f"nhwc_conv_{name}").restype = c_char_p
        library.nhwc_conv_kernel_seconds.restype = c_double
        self._instruction_set = self._ask("instruction_set")
        library.nhwc_conv_attach_python()

    def _ask(self, name: str, *arguments: object) -> str:
        text = c_char_p()
        status = getattr(self._library, f"nhwc_conv_{name}")(*arguments, byref(text))
        answer = (text.value or b"").decode()
        if status:
            raise ERRORS[status](answer)
        return answer

    def build_id(self) -> str:
        """Digest of the sources that the library was built from."""
        digest: bytes = self._library.nhwc_conv_build_id()
        return digest.decode()

    def instruction_set(self) -> str:
        """The one in use."""
        return self._instruction_set  # kept here, because layers with packed weights ask in every call

    def instruction_sets(self) -> tuple[str, ...]:
        """The usable ones, best first."""
        names = map(self._library.nhwc_conv_usable_instruction_set, count())
        return tuple(name.decode() for name in takewhile(bool, names))

    def set_instruction_set(self, name: str) -> None:
        """For tests, between calls only. ValueError: it is not usable here."""
        self._instruction_set = self._ask("set_instruction_set", name.encode())

    def set_winograd(self, enabled: bool) -> None:
        """Whether automatic choices may take Winograd's algorithm."""
        self._library.nhwc_conv_set_winograd(bool(enabled))

    def share_all_work(self, enabled: bool) -> None:
        """Whether threads share passes of any length, for tests: short ones run on the calling thread alone."""
        self._library.nhwc_conv_share_all_work(bool(enabled))

    def fma_peak(self, dtype: str, seconds: float) -> float:
        """GFLOP/s of one thread's multiply-add units, the best of many short runs within `seconds`."""
        gflops = c_double()
        self._ask("fma_peak", dtype.encode(), c_double(seconds), byref(gflops))
        return gflops.value

    @contextmanager
    def watched_kernels(self) -> Iterator[Callable[[], tuple[int, float]]]:
        """A function that tells how many passes ran inside ops of all threads since, and how many seconds they took."""

        def so_far() -> tuple[int, float]:
            passes = c_int64()
            seconds: float = self._library.nhwc_conv_kernel_seconds(byref(passes))
            return passes.value, seconds

        self._library.nhwc_conv_watch_kernels(1)
        try:
            yield so_far
        finally:
            self._library.nhwc_conv_watch_kernels(0)

    def packed_size(self, dtype: str, w_shape: Sequence[int], groups: int, winograd: bool) -> int:
        """The number of elements that pack_weight returns, on any machine."""
        elements = c_int64()
        sizes = dtype.encode(), Sizes.of(w_shape), c_int64(groups), c_int(winograd)
        self._ask("packed_size", *sizes, byref(elements))
        return elements.value

    def explain(
        self,
        direction: str,
        algorithm: str,
        dtype: str,
        x_shape: Sequence[int],
        w_shape: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        auto_pad: int,
    ) -> dict[str, Any]:
        """The plan of a pass, as nhwc_conv.explain tells it. ValueError: unknown names. RuntimeError: bad shapes."""
        names = (name.encode() for name in (direction, algorithm, dtype))
        sizes = map(Sizes.of, (x_shape, w_shape, stride, padding, dilation))
        plan = json.loads(self._ask("explain", *names, *sizes, c_int64(groups), c_int64(auto_pad)))
        return {k: tuple(v) if k in ("reduction", "reduction_blocks") else v for k, v in plan.items()}
