"""`python -m verify.same_bits --before DIR`: are the results of this checkout bitwise those of another one's build?

DIR is a work tree of the project with its library built, say of the commit before (`git worktree add DIR HEAD~1`). All
cases of the tests and random convolutions run through every op on every usable instruction set. Each difference is
printed; exits with 1 where there is any, or where a build fails.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator

import torch
from cases import CASES, DTYPES, Case

from nhwc_conv._extension import module as extension

from . import ROOT
from .builds import BuildError, Worker
from .geometries import random_cases, random_layers

THREADS = (1, 2)
AUTO, DIRECT, WINOGRAD = 0, 1, 2  # `algorithm` of the gradients
MOST_FAILURES = 20  # of a build, each of which starts a new process
LAYOUTS = {
    "x": ("NHWC", "NCHW", "gaps"),
    "w": ("HWIO", "OIHW", "gaps"),
    "grad": ("NHWC", "NCHW", "gaps"),
}
IN_MEMORY = {"NCHW": (0, 3, 1, 2), "OIHW": (3, 2, 0, 1)}  # the order of an NHWC or HWIO tensor's dimensions


def laid_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values elsewhere in memory."""
    if layout == "gaps":
        *outer, rows, columns = tensor.shape
        wide = tensor.new_full((*outer, 2 * rows, 2 * columns), float("nan"))
        wide[..., 1::2, 1::2] = tensor
        return wide[..., 1::2, 1::2]
    order = IN_MEMORY.get(layout, range(4))
    if tensor.dim() == 3:  # no N
        order = [d - 1 for d in order if d]
    return tensor.permute(*order).contiguous().permute(*torch.tensor(list(order)).argsort().tolist())


def digest(result: torch.Tensor) -> str:
    """Of dtype, shape and every byte, so that signs of zeros and bits of NaN count."""
    described = hashlib.sha256(f"{result.dtype} {tuple(result.shape)}".encode())
    described.update(result.contiguous().numpy().tobytes())
    return described.hexdigest()


class Results:
    """Digests of every result of a case, in the process of one build."""

    def __init__(self):
        share_all_work = getattr(extension, "share_all_work", None)  # older versions always do
        if share_all_work is not None:
            share_all_work(True)

    def of(self, case: Case, layouts: dict[str, str]) -> dict[tuple[str, int, str], str]:
        """By dtype, threads and op; `layouts` is by name of the tensor."""
        found = {}
        for dtype in DTYPES:
            x, w, bias = case.tensors(dtype)
            x = torch.where(x.abs() < 0.2, -0.0, x)  # signs of zeros can show
            grad = case.grad_like(torch.ops.nhwc_conv.im2col(x, w, bias, **case.geometry))
            x, w, grad = (laid_out(t, layouts[n]) for n, t in (("x", x), ("w", w), ("grad", grad)))
            for threads in THREADS:
                torch.set_num_threads(threads)
                for name, result in results(case, x, w, bias, grad):
                    found[str(dtype).removeprefix("torch."), threads, name] = digest(result)
        return found


def results(case: Case, x, w, bias, grad) -> Iterator[tuple[str, torch.Tensor]]:
    """Every pass of a case by every algorithm that applies, by the public ops alone: all versions have them."""
    ops, geometry = torch.ops.nhwc_conv, case.geometry
    for name in ("conv2d", "im2col", "matmul") + ("winograd",) * case.winograd_applies:
        yield name, getattr(ops, name)(x, w, bias, **geometry)
    for winograd in (True, False)[: 1 + case.winograd_applies]:
        packed = ops.pack_weight(w, case.groups, winograd)
        name = f"conv2d_packed, winograd={winograd}"
        yield name, ops.conv2d_packed(x, packed, list(w.shape), bias, **geometry)
    for algorithm in (AUTO, DIRECT) + (WINOGRAD,) * case.winograd_applies:
        for name, operands in (("input", (grad, w, x.shape[-3:-1])), ("weight", (grad, x, w.shape[:2]))):
            result = getattr(ops, f"conv2d_{name}")(*operands, **geometry, algorithm=algorithm)
            yield f"conv2d_{name}, algorithm={algorithm}", result


def drawn_layouts(case: Case) -> dict[str, str]:
    """Always the same ones for a name."""
    r = random.Random(case.name)
    return {name: r.choice(layouts) for name, layouts in LAYOUTS.items()}


def jobs(count: int, seed: int, only: str = "") -> list[tuple[Case, dict[str, str]]]:
    """(case, layouts): the table, contiguous and in other layouts; `count` random ones, a quarter of them layers."""
    layers = count // 4
    drawn = [*random_cases(count - layers, seed), *random_layers(layers, seed)]
    plain = {name: layouts[0] for name, layouts in LAYOUTS.items()}
    table = [(case, layouts) for case in CASES for layouts in (plain, drawn_layouts(case))]
    lot = [*table, *((case, drawn_layouts(case)) for case in drawn)]
    return [job for job in lot if re.search(only, job[0].name)]


def compare(trees: list, lot: list[tuple[Case, dict[str, str]]], instruction_set: str) -> Counter:
    """Runs a lot of `jobs` by two builds, prints what differs or fails, and counts."""
    # Threads that wait for others spin otherwise, which costs most of the time where cores are few.
    environment = {"NHWC_CONV_ISA": instruction_set, "OMP_WAIT_POLICY": "passive"}

    def start(tree):
        return Worker(tree, ("verify.same_bits", "Results"), environment=environment, timeout=120)

    counts = Counter(results=0, differences=0, failures=0)
    workers = []
    try:
        workers += map(start, trees)
        for case, layouts in lot:
            name = " ".join([case.name, *(f"{tensor}:{layout}" for tensor, layout in layouts.items())])
            for worker in workers:
                worker.begin(f"{name}, {instruction_set}", "of", case, layouts)
            found = []
            for i, worker in enumerate(workers):
                try:
                    found.append(worker.answer())
                except BuildError as error:
                    print(f"FAILED {error}", flush=True)
                    counts["failures"] += 1
                    workers[i] = start(trees[i]) if worker.closed else worker
            if counts["failures"] >= MOST_FAILURES:
                print(f"{instruction_set}: given up after {counts['failures']} failures")
                break
            if len(found) == 2:
                differ = differences(*found)
                counts.update(results=len(found[0]), differences=len(differ))
                for dtype, threads, op in differ:
                    print(
                        f"DIFFERS {name}, {dtype}, {instruction_set}, {threads} thread(s), {op}", flush=True
                    )
    finally:
        for worker in workers:
            worker.close()
    return counts


def differences(before: dict, after: dict) -> list:
    """The keys whose digests are not the same, or that only one has."""
    return [key for key in before | after if before.get(key) != after.get(key)]


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m verify.same_bits", description=__doc__.splitlines()[0])
    parser.add_argument("--before", required=True, metavar="DIR", help="a checkout with its library built")
    parser.add_argument("--random", type=int, default=2_000, metavar="N", help="random geometries")
    parser.add_argument("--seed", type=int, default=0, help="of the random geometries")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases with such names")
    options = parser.parse_args(arguments)
    trees = [options.before, ROOT]
    lot = jobs(options.random, options.seed, options.only)
    if not lot:
        parser.error(f"--only {options.only!r}: no case is called that")
    usable = []
    for tree in trees:
        try:
            with Worker(tree, ("verify.same_bits", "Results")) as worker:
                usable.append(worker.about["instruction_sets"])
        except BuildError as error:
            parser.error(str(error))
    total = Counter()
    for name in [name for name in usable[0] if name in usable[1]]:
        start = time.monotonic()
        counts = compare(trees, lot, name)
        print(f"{name}: {described(counts)}, {time.monotonic() - start:.0f} s", flush=True)
        total.update(counts)
    for name in sorted({*usable[0]} ^ {*usable[1]}):
        print(f"{name}: not compared, only one build has it")
    print(f"{len(lot)} cases by two builds: {described(total)}")
    return int(total["differences"] + total["failures"] > 0)


def described(counts: Counter) -> str:
    return (
        f"{counts['results']} results compared, {counts['differences']} differ, {counts['failures']} failures"
    )


if __name__ == "__main__":
    sys.exit(main())
