"""Memory that does not grow, workspace by its formula, and what denormal numbers cost."""

from __future__ import annotations

import gc
import mmap
import time
from pathlib import Path

import oracle
import torch
from memory import allocated

from nhwc_conv._extension import module as extension

from .geometries import random_cases


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def run_all(case, dtype, data=None):
    """All passes of a case once."""
    ops = torch.ops.nhwc_conv
    x, w, bias = data or case.tensors(dtype)
    y = ops.conv2d(x, w, bias, **case.geometry)
    ops.im2col(x, w, bias, **case.geometry)
    ops.matmul(x, w, bias, **case.geometry)
    ops.conv2d_packed(x, ops.pack_weight(w, case.groups), list(w.shape), bias, **case.geometry)
    ops.conv2d_input(y, w, x.shape[-3:-1], **case.geometry)
    ops.conv2d_weight(y, x, w.shape[:2], **case.geometry)


def growth_over_shapes(shapes: int) -> int:
    """Bytes that `shapes` distinct shapes leave behind, after as many others."""
    torch.set_num_threads(2)
    extension.share_all_work(True)
    cases = list(random_cases(2 * shapes, seed=11))
    for case in cases[:shapes]:
        run_all(case, torch.float32)
    before = resident()
    for case in cases[shapes:]:
        run_all(case, torch.float32)
    return resident() - before


def growth_over_calls(calls: int) -> int:
    """Bytes that `calls` calls on a few shapes leave behind."""
    torch.set_num_threads(1)
    cases = [(case, case.tensors(torch.float32)) for case in random_cases(40, seed=12)]
    cases.sort(key=lambda pair: pair[1][0].numel())
    rounds = calls // (7 * 8)
    before = None
    for turn in range(rounds + 50):
        if turn == 50:
            before = resident()
        for case, data in cases[:8]:
            run_all(case, torch.float32, data)
    return resident() - before


def workspace(count: int) -> dict:
    """Calls that allocate their result and what the plan says, fewer bytes, or (wrongly) more."""
    ops, seen = torch.ops.nhwc_conv, dict(equal=0, less=0, more=0)
    torch.set_num_threads(2)
    extension.share_all_work(True)
    for case in random_cases(count, seed=13):
        for dtype, name in ((torch.float32, "float32"), (torch.float64, "float64")):
            x, w, bias = case.tensors(dtype)
            y = ops.conv2d(x, w, bias, **case.geometry)
            for direction, call, result in (
                ("forward", lambda: ops.conv2d(x, w, bias, **case.geometry), y),  # noqa: B023
                ("input_gradient", lambda: ops.conv2d_input(y, w, x.shape[-3:-1], **case.geometry), x),  # noqa: B023
                ("weight_gradient", lambda: ops.conv2d_weight(y, x, w.shape[:2], **case.geometry), w),  # noqa: B023
            ):
                plan = extension.explain(
                    direction, "auto", name, list(case.x), list(case.w), list(oracle.pair(case.stride)),
                    list(oracle.four_sides(case)), list(oracle.pair(case.dilation)), case.groups, 0,
                )  # fmt: skip
                planned = plan.get("workspace_shared", 0) + 2 * plan.get("workspace_per_thread", 0)
                extra = allocated(call) - result.numel() * result.element_size() - planned
                seen["equal" if extra == 0 else "less" if extra < 0 else "more"] += 1
    return seen


def _milliseconds(function) -> float:
    best = float("inf")
    for _ in range(15):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def denormals() -> dict[str, float]:
    """How many times as long a layer takes where x, or w, is all denormal: ours and F.conv2d's."""
    torch.set_num_threads(1)
    x, w = torch.rand(1, 28, 28, 64) + 1, torch.rand(3, 3, 64, 64) + 1
    tiny = 1e-40  # below the least normal float32
    result = {}
    for name, function in (
        ("conv2d", lambda x, w: torch.ops.nhwc_conv.conv2d(x, w, None, 1, 1)),
        ("F.conv2d", lambda x, w: torch.conv2d(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), padding=1)),
    ):
        plain = _milliseconds(lambda: function(x, w))  # noqa: B023
        result[f"{name}, x"] = _milliseconds(lambda: function(x * tiny, w)) / plain  # noqa: B023
        result[f"{name}, w"] = _milliseconds(lambda: function(x, w * tiny)) / plain  # noqa: B023
    return result
