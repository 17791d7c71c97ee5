"""Random arguments of every op, most of them wrong: each call equals the answer by the definition or raises.

`python -m verify.arguments COUNT SEED` tries them in this process, whose memory is limited; `fuzz` starts it as another
one, so that a crash or a call that does not end is seen and named.
"""

from __future__ import annotations

import mmap
import random
import resource
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress

import numpy as np
import torch

import nhwc_conv

from . import ROOT, taps
from .algorithms import FORWARD

OPS = [*FORWARD, "conv2d_input", "conv2d_weight", "pack_weight", "conv2d_packed"]
INTEGERS = [
    -(2**63), -(2**31), -3, -1, 0, 0, 1, 2, 3, 4, 5, 7,
    2**31 - 1, 2**31, 2**32 + 1, 2**40, 2**62, 2**63 - 1,
]  # fmt: skip
DTYPES = [torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.bool, torch.complex64]
MEMORY = 3 * 2**30  # beyond what a process has when it starts
SECONDS = 60  # for one call


def _tensor(r, shape, dtype):
    if _count(shape) > 10**6:
        raise RuntimeError("too large to fill")
    return torch.tensor(r.choices((-1, 0, 1), k=max(_count(shape), 1)))[: _count(shape)].view(shape).to(dtype)


def _count(shape):
    count = 1
    for size in shape:
        count *= size
    return count


def good(r: random.Random) -> tuple[str, dict, torch.Tensor]:
    """An op, arguments that it takes, and the weight that was packed for it, if any."""
    op, dtype = r.choice(OPS), r.choice([torch.float32, torch.float64])
    groups, c, o = r.choice([1, 1, 1, 2, 5]), r.choice([1, 2, 3, 5, 17]), r.choice([1, 2, 4, 9, 17])
    kernel = r.choice([[3, 3], [r.randint(1, 4), r.randint(1, 4)]])  # often one that Winograd's takes
    steps = dict(
        stride=r.choice([[1], [1, 1], [2, 1], [2, 3]]),
        padding=r.choice([[0], [1], [1, 2], [0, 1, 2, 0]]),
        dilation=r.choice([[1], [1, 1], [2, 1]]),
        groups=groups,
    )
    auto_pad = r.choice([0, 0, 0, 1, 2])
    if auto_pad:
        steps["padding"] = [0]
    steps["auto_pad"] = auto_pad
    size = [r.randint(5, 9) + 2 * kernel[0], r.randint(5, 9) + 2 * kernel[1]]
    batch = r.choice([[], [1], [2], [2], [0]])
    w = _tensor(r, [*kernel, c, o * groups], dtype)
    if op == "pack_weight":
        return op, dict(w=w, groups=groups), w
    x = _tensor(r, [*batch, *size, c * groups], dtype)
    bias = _tensor(r, [o * groups], dtype) if r.random() < 0.5 else None
    if op in FORWARD:
        return op, dict(x=x, w=w, bias=bias, **steps), w
    if op == "conv2d_packed":
        packed = torch.ops.nhwc_conv.pack_weight(w, groups)
        return op, dict(x=x, packed=packed, weight_size=list(w.shape), bias=bias, **steps), w
    out = [
        a.outputs
        for a in taps.axes(size, kernel, *(steps[n] for n in ("stride", "padding", "dilation", "auto_pad")))
    ]
    grad = _tensor(r, [*batch, *out, o * groups], dtype)
    steps["algorithm"] = r.choice([0, 0, 1, 2])
    if op == "conv2d_input":
        return op, dict(grad=grad, w=w, input_size=size, **steps), w
    return op, dict(grad=grad, x=x, kernel_size=kernel, **steps), w


def _other_tensor(r, t):
    """Another rank, size, dtype or layout; huge sizes cost nothing where the stride is 0."""
    if t is None:
        return _tensor(r, [r.randint(0, 9)], torch.float32)
    if t.numel() > 10**6:
        return t  # expanded by an earlier turn: torch itself would take hours over it
    shape, dim = list(t.shape), r.randrange(max(t.dim(), 1))
    kind = r.randrange(9)
    if kind == 0:
        return t.to(r.choice(DTYPES))
    if kind == 1:
        return r.choice(
            [
                None,
                t[None],
                t.flatten(),
                t.sum(),
                t.double(),
                t.float(),
                t.requires_grad_(t.is_floating_point()),
            ]
        )
    if kind == 2 and shape:
        shape[dim] = r.choice([0, 1, 2, 3, 6])
        return _tensor(r, shape, t.dtype)
    if kind == 3 and shape and t.numel():
        return t.narrow(dim, 0, 1).expand(
            *shape[:dim], r.choice([shape[dim], 0, 2**31, 2**40, 2**61]), *shape[dim + 1 :]
        )
    if kind == 4 and shape:
        order = r.sample(range(t.dim()), t.dim())
        return t.permute(order).contiguous().permute([order.index(d) for d in range(t.dim())])
    if kind == 5 and t.numel():  # overlapping: neighbours share their elements
        return torch.as_strided(t.contiguous(), shape, [r.randint(0, 1) for _ in shape])
    if kind == 6:
        return t.new_zeros([2 * n for n in shape])[tuple(slice(0, 2 * n, 2) for n in shape)].copy_(t)
    if kind == 7:
        return t.to("meta")
    return t.clone()


def spoil(r: random.Random, arguments: dict) -> dict:
    """The same with up to three arguments changed at random."""
    arguments = dict(arguments)
    for _ in range(r.choice([0, 1, 1, 1, 2, 3])):
        name = r.choice(list(arguments))
        value = arguments[name]
        if isinstance(value, list):
            if r.random() < 0.2:
                value = r.choices(INTEGERS, k=r.randint(0, 5))
            elif value:
                at = r.randrange(len(value))
                value = [*value[:at], r.choice(INTEGERS), *value[at + 1 :]]
        elif isinstance(value, int):
            value = r.choice(INTEGERS)
        else:
            with suppress(RuntimeError):  # torch itself refuses to make some of them
                value = _other_tensor(r, value)
        arguments[name] = value
    return arguments


def same(a, b):
    """Bit by bit: what pack_weight leaves unused may be NaN."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(
            *(t.flatten().clone(memory_format=torch.contiguous_format).view(torch.uint8) for t in (a, b))
        )
    )


def array(t, absolute=False):
    """The values, or their absolute values, in float64 or complex128; what stride 0 repeats stays one value."""
    once = t.detach()
    for dim, (size, step) in enumerate(zip(t.shape, t.stride(), strict=True)):
        once = once.narrow(dim, 0, 1) if step == 0 and size > 1 else once
    once = once.to(torch.complex128 if t.is_complex() else torch.float64)
    return np.broadcast_to((once.abs() if absolute else once).numpy(), t.shape)


def answer(op, arguments, absolute=False):
    """By the definition, in float64 (or complex128); `absolute`: of the absolute values of all tensors."""
    function = {"conv2d_input": taps.input_gradient, "conv2d_weight": taps.weight_gradient}.get(
        op, taps.forward
    )
    return function(
        **{k: array(v, absolute) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    )


def winograd_limit(op, arguments, dtype):
    """What is promised of Winograd's: bound * u * the largest sum |x||w| of an image, or of the weight gradient."""
    magnitude = torch.from_numpy(answer(op, arguments, absolute=True))
    if magnitude.numel() == 0 or not (dtype.is_floating_point or dtype.is_complex):
        return 0
    image = () if op == "conv2d_weight" else (-3, -2, -1)
    return FORWARD["winograd"].bound * torch.finfo(dtype).eps / 2 * magnitude.amax(image, keepdim=True)


def attempt(r: random.Random) -> tuple[str, str]:
    """("equal", "raised" or "WRONG", what happened) for the arguments that `r` draws."""
    op, right, w = good(r)
    arguments = spoil(r, right)
    shown = f"{op} " + repr(
        {
            k: (list(v.shape), v.stride(), v.dtype) if isinstance(v, torch.Tensor) else v
            for k, v in arguments.items()
        }
    )
    inputs = [
        t for t in arguments.values() if isinstance(t, torch.Tensor) and not t.is_meta and t.numel() < 10**6
    ]
    copies = [t.clone() for t in inputs]
    try:
        result = getattr(torch.ops.nhwc_conv, op)(**arguments)
    except Exception as error:  # whatever it is, Python's caller can catch it
        internal = "INTERNAL ASSERT" in str(error) or isinstance(error, AssertionError)
        return ("WRONG", f"{shown}: {error}") if internal else ("raised", op)
    if not all(same(a, b) for a, b in zip(inputs, copies, strict=True)):
        return "WRONG", f"{shown}: an argument was written to"
    if result.is_meta:
        return "equal", op
    if op == "pack_weight":
        w, groups = arguments["w"], arguments["groups"]
        arguments = dict(
            x=torch.ones(1, *w.shape[:2], w.shape[2] * groups, dtype=w.dtype), w=w, groups=groups
        )
        result = torch.ops.nhwc_conv.conv2d_packed(arguments["x"], result, list(w.shape), groups=groups)
    elif op == "conv2d_packed":
        packed = arguments.pop("packed")
        if arguments.pop("weight_size") != list(w.shape) or not same(
            packed.detach(), right["packed"].detach()
        ):
            return "WRONG", f"{shown}: weights packed for something else were accepted"
        arguments["w"] = w
    if result.numel() == 0 and any(
        isinstance(v, torch.Tensor) and v.numel() > 10**6 for v in arguments.values()
    ):
        # No image, and a weight that only stride 0 makes possible: too large for the answer.
        return "equal", op
    try:
        expected = torch.from_numpy(answer(op, arguments))
    except ValueError as refusal:
        return "WRONG", f"{shown} was accepted: {refusal}"
    if result.shape != expected.shape:
        return "WRONG", f"{shown}: of shape {list(result.shape)}, should be {list(expected.shape)}"
    error = (result.detach().to(expected.dtype) - expected).abs()
    by_winograd = op == "winograd" or arguments.get("algorithm") == 2
    # Sums of so few terms of -1, 0 and 1 are integers that every dtype holds; only bool wraps.
    limit = winograd_limit(op, arguments, result.dtype) if by_winograd else 0
    if result.dtype != torch.bool and bool((error > limit).any()):
        return "WRONG", f"{shown}: not the answer"
    return "equal", op


def _limit_memory():
    used = int(open("/proc/self/statm").read().split()[0]) * mmap.PAGESIZE if sys.platform == "linux" else 0
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def try_all(count: int, seed: int, progress) -> Counter:
    """Outcomes of `count` draws; `progress` is told the number of each before it is tried."""
    outcomes = Counter()
    torch.set_num_threads(2)
    nhwc_conv._extension.module.share_all_work(True)
    nhwc_conv.set_flags(winograd=False)  # only where it is asked for: answers are exact elsewhere
    attempt(random.Random("first"))  # whatever is allocated once
    _limit_memory()
    for index in range(count):
        progress(index)
        signal.alarm(SECONDS)
        outcome, what = attempt(random.Random(f"{seed} {index}"))
        outcomes[outcome] += 1
        if outcome == "WRONG" and outcomes["WRONG"] <= 10:
            print(f"draw {seed} {index}: {what}", flush=True)
    signal.alarm(0)
    return outcomes


def fuzz(count: int, seed: int = 0) -> dict:
    """Counts of "equal", "raised" and "WRONG", `peak` in bytes, and `said`: what went wrong, a crash included."""
    with tempfile.NamedTemporaryFile() as place:
        command = [sys.executable, "-m", "verify.arguments", str(count), str(seed), place.name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        last = place.read().decode()
    said, _, counts = done.stdout.strip().rpartition("\n")
    result = dict(equal=0, raised=0, WRONG=0, peak=0, said=said)
    if done.returncode:
        reason = "did not end" if done.returncode == -signal.SIGALRM else f"ended with {done.returncode}"
        result.update(WRONG=1, said=f"{said}\ndraw {seed} {last} {reason}: {done.stderr[-2000:]}")
        return result
    names = ("equal", "raised", "WRONG", "peak")
    return result | dict(zip(names, map(int, counts.split()), strict=True))


def main() -> None:
    count, seed, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "/dev/null"
    with open(place, "w") as file:

        def progress(index):
            file.seek(0)
            file.write(str(index))
            file.flush()

        outcomes = try_all(count, seed, progress)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(outcomes["equal"], outcomes["raised"], outcomes["WRONG"], peak)


if __name__ == "__main__":
    main()
