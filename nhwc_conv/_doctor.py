"""`python -m nhwc_conv --doctor`: what was found on this machine, one layer verified and timed, and advice."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _extension
from .functional import conv2d

CPU_INFO = Path("/proc/cpuinfo")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
# What kernels/isa_table.def asks for, of the flags that Linux tells.
NEEDS = {
    "avx512": {"avx512f", "avx512vl", "avx512bw", "avx512dq"},
    "avx2": {"avx2", "fma", "f16c"},
}
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_PROC_BIND",
    "KMP_AFFINITY",
    "GOMP_CPU_AFFINITY",
)
SLOW = 0.5  # of the peak, or of torch's speed


@dataclass
class Facts:
    """What advice is made from. Unknown is an empty text, set or 0."""

    processor: str = ""
    flags: set[str] = field(default_factory=set)
    instruction_set: str = ""  # in use; of the extension, so that none says there is none
    usable: tuple[str, ...] = ()  # best first
    cores: int = 0  # that this process may use
    threads: int = 0
    huge_pages: str = ""
    wrong: float = 0  # the layer's largest error, in those that rounding explains
    speed: float = 0  # of F.conv2d's in its better memory format
    of_peak: float = 0  # of one thread's multiply-adds


def told(path: Path, pattern: str = "(.*)") -> str:
    """The pattern's group in a file of the system; empty where there is none."""
    try:
        match = re.search(pattern, path.read_text(), re.MULTILINE)
    except OSError:
        return ""
    return match.group(1) if match else ""


def processor() -> tuple[str, set[str]]:
    """Its name, and the flags that Linux tells of one of x86-64."""
    name, flags = told(CPU_INFO, r"^model name\s*: (.*)$"), ""
    if platform.machine() == "x86_64":  # others that are emulated show the file of the machine around them
        flags = told(CPU_INFO, r"^flags\s*: (.*)$")
    return name or platform.processor() or platform.machine(), set(flags.split())


def cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def huge_pages() -> str:
    """always, madvise or never."""
    return told(HUGE_PAGES, r"\[(\w+)\]")


def caches() -> str:
    """Those of the first processor that hold data, as Linux tells them: L1 32K, L2 1024K."""
    found = []
    for cache in sorted(CACHES.glob("index*")):
        level, kind, size = (told(cache / name) for name in ("level", "type", "size"))
        if size and kind != "Instruction":
            found.append(f"L{level} {size}")
    return ", ".join(found) or "unknown"


def seconds(functions: list[Callable[[], Tensor]], rounds: int = 15) -> list[float]:
    """The median of each, in turns."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for taken, function in zip(times, functions, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def examine_layer(facts: Facts) -> str:
    """3x3, 64 to 64 channels over 56x56 pixels on one thread: verified, timed, and told."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 56, 56, 64, generator=generator)
    w = torch.randn(3, 3, 64, 64, generator=generator) / 24
    nchw, oihw = x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1)
    expected = F.conv2d(nchw.double(), oihw.double(), padding=1).permute(0, 2, 3, 1)
    size = F.conv2d(nchw.abs().double(), oihw.abs().double(), padding=1).permute(0, 2, 3, 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            # Winograd's algorithm has larger errors than sums of products: docs/guide/winograd.md, verify.
            bound = 40 * torch.finfo(torch.float32).eps / 2 * size
            facts.wrong = float(((conv2d(x, w, padding=1) - expected).abs() / bound).max())
            contiguous = nchw.contiguous(), oihw.contiguous()
            ours, *theirs = seconds([
                lambda: conv2d(x, w, padding=1),
                lambda: F.conv2d(*contiguous, padding=1),
                lambda: F.conv2d(nchw, oihw.contiguous(memory_format=torch.channels_last), padding=1),
            ])  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    facts.speed = min(theirs) / ours
    flops = 2 * 56 * 56 * 64 * 64 * 9
    text = "layer: 3x3, 64 to 64 channels, 56x56 pixels, one thread: "
    text += f"{ours * 1e3:.2f} ms, F.conv2d {min(theirs) * 1e3:.2f}"
    if _extension.module is not None:
        peak = _extension.module.fma_peak("float32", 0.2)
        facts.of_peak = flops / ours / 1e9 / peak
        text += f"; {flops / ours / 1e9:.0f} GFLOP/s, where multiply-adds alone reach {peak:.0f}"
    return f"{text}; its errors are {facts.wrong:.2f} of the bound"


def advice(facts: Facts) -> list[str]:
    """What is wrong, or slower than it could be, and what to do."""
    found = []
    if facts.wrong > 1:
        found.append("results are wrong: please report this text")
    if not facts.instruction_set:
        found.append(f"there is no C++ extension ({_extension.reason}): ops are computed by NumPy, slowly")
    elif facts.usable and facts.instruction_set != facts.usable[0]:
        found.append(
            f"{facts.instruction_set} is in use where {facts.usable[0]} is usable: unset NHWC_CONV_ISA for more speed"
        )
    for name, needed in NEEDS.items():
        if facts.usable and needed <= facts.flags and not any(name in usable for usable in facts.usable):
            found.append(f"this processor has {name}, but the extension was built without it: build it anew")
    if facts.flags and facts.usable and not NEEDS["avx2"] <= facts.flags:
        found.append("this processor, or what virtualises it, has no AVX2: kernels of the baseline run")
    if 0 < facts.cores < facts.threads:
        found.append(
            f"{facts.threads} threads share {facts.cores} cores: fewer by torch.set_num_threads, or OMP_NUM_THREADS"
        )
    if facts.cores > 2 * facts.threads > 0:
        found.append(
            f"{facts.threads} of {facts.cores} cores are used: torch.set_num_threads, or OMP_NUM_THREADS"
        )
    if facts.huge_pages == "never":
        found.append(f"large images pay for small pages: echo madvise > {HUGE_PAGES}, as root")
    if facts.instruction_set and 0 < facts.speed < SLOW:
        found.append(f"the layer has {facts.speed:.2f} of F.conv2d's speed: please report this text")
    if facts.instruction_set and 0 < facts.of_peak < SLOW:
        found.append("the layer is far from what multiply-adds reach: is the machine busy, or throttled?")
    return found


def run() -> tuple[str, bool]:
    """The text, and whether results are right."""
    name, flags = processor()
    facts = Facts(name, flags, cores=cores(), threads=torch.get_num_threads(), huge_pages=huge_pages())
    if _extension.module is not None:
        facts.instruction_set = _extension.module.instruction_set()
        facts.usable = _extension.module.instruction_sets()
    variables = [f"{key}={os.environ[key]}" for key in THREAD_VARIABLES if key in os.environ]
    kernels, onednn = torch.backends.cpu.get_cpu_capability(), torch.backends.mkldnn.is_available()
    lines = [
        _extension.show_config(),
        f"system: {platform.system()}, {platform.machine()}, Python {platform.python_version()}",
        f"processor: {facts.processor}; caches: {caches()}",
        f"threads: {facts.threads} of {facts.cores} cores; {', '.join(variables) or 'no variable set'}",
        f"torch: {kernels} kernels, {'with' if onednn else 'without'} oneDNN",
        f"huge pages: {facts.huge_pages or 'unknown'}",
        examine_layer(facts),
    ]
    lines += [f"ADVICE: {text}" for text in advice(facts)] or ["nothing to advise"]
    return "\n".join(lines), facts.wrong <= 1
