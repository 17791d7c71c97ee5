"""`make verify`: what the promises rest on, at sizes that a test suite has no time for. A table comes last.

Exits with 1 where anything is not as promised. At full size it also writes docs/reliability/verify.json and the page
made of it, docs/reliability.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

# Threads that wait for others spin otherwise, which costs most of the time where there are more of them than cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from . import arguments, native, numbers, promises, report, resources, summary  # noqa: E402
from .algorithms import FORWARD  # noqa: E402
from .geometries import random_cases, random_signals, table_cases  # noqa: E402
from .summary import Line  # noqa: E402

SEED = 0


def shared(pool, function, count: int, jobs: int) -> dict:
    """`function(count, seed)` in parts, each with a seed of its own, and their counts added up."""
    parts = list(pool.map(function, [max(count // jobs, 1)] * jobs, range(SEED, SEED + jobs)))
    total = parts[0]
    for part in parts[1:]:
        for key, value in part.items():
            if key == "worst":
                names = total[key].keys() | value.keys()
                total[key] = {
                    n: max(total[key].get(n, (0.0, "")), value.get(n, (0.0, ""))) for n in sorted(names)
                }
            elif key == "said":
                total[key] += value
            else:
                total[key] = max(total[key], value) if key == "peak" else total[key] + value
    for text in [*total.get("wrong", ())][:20]:
        print(text, file=sys.stderr)
    return total


def alone(function, *values):
    """The result in a process of its own, so that nothing else's memory is counted."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *values).result()


def numbers_lines(pool, scale: float, jobs: int):
    exactness, bits = (
        partial(function, draw=random_signals) for function in (numbers.exactness, numbers.bits)
    )
    for what, function, count, verb in (
        (
            "every direct op, gradient and transposed convolution on integers, threshold 0",
            numbers.exactness,
            10_000,
            "differ",
        ),
        (
            "the same, conv1d and conv_transpose1d of long signals, kernels to 1024, dilations to 512",
            exactness,
            3_000,
            "differ",
        ),
        ("bits over threads 1, 2, 3, 8, batches of 1 and 8, layouts and runs", numbers.bits, 400, "differ"),
        ("the same of signals", bits, 100, "differ"),
        ("errors on random data within their bound", numbers.errors, 3_000, "beyond"),
    ):
        found = shared(pool, function, int(count * scale), jobs)
        wrong = len(found["wrong"])
        size = f"{found['geometries']} geometries, {found['calls']} calls"
        yield Line(what, size, f"{wrong} {verb}", not wrong)
    for name, (units, where) in found["worst"].items():  # of the errors
        # The limit of a sum depends on its length, and is part of the line before; Winograd's is one number.
        limit = FORWARD[name.split()[0]].bound if name.split()[0] in FORWARD else 0
        result = f"{units:.1f} u * sum of |x||w|" + (f", {limit} promised" if limit else "")
        yield Line(f"largest error of {name}", where, result, units <= limit if limit else None)


def memory_lines(pool, scale: float, jobs: int):
    driver = native.build(native.GUARDED)
    done = native.run(
        driver, native.GUARDED, [*table_cases(), *random_cases(int(1_500 * scale), 7)], jobs=jobs
    )
    if not done["ok"]:
        print(done["output"], file=sys.stderr)
    yield Line(
        "guard pages around every buffer, read-only inputs, poisoned results",
        f"{done['geometries']} geometries, {done['calls']} calls",
        "nothing touched but the inputs and the result" if done["ok"] else "FAILED, see above",
        done["ok"],
    )
    fuzz = shared(pool, arguments.fuzz, int(100_000 * scale), jobs)
    if fuzz["WRONG"]:
        print(fuzz["said"], file=sys.stderr)
    yield Line(
        "arguments at random: the answer, or an exception",
        f"{int(100_000 * scale)} calls",
        f"{fuzz['equal']} equal, {fuzz['raised']} raised, {fuzz['WRONG']} wrong; "
        f"at most {fuzz['peak'] / 2**20:.0f} MiB in memory",
        not fuzz["WRONG"] and fuzz["equal"] > 0,
    )


def resource_lines(scale: float):
    shapes, calls = max(int(1_000 * scale), 50), max(int(100_000 * scale), 5_000)
    grown = alone(resources.growth_over_shapes, shapes)
    yield Line(
        "memory left behind by shapes",
        f"{shapes} distinct ones",
        f"{grown / 1024:.0f} KiB",
        grown < 4 * 2**20,
    )
    grown = alone(resources.growth_over_calls, calls)
    yield Line("memory left behind by calls", f"{calls}", f"{grown / 1024:.0f} KiB", grown < 2**20)
    seen = alone(resources.workspace, max(int(300 * scale), 20))
    yield Line(
        "memory allocated by a call: its result and the planned workspace",
        f"{sum(seen.values())} calls",
        f"{seen['equal']} exactly that, {seen['less']} less, {seen['more']} more",
        not seen["more"],
    )
    ratios = alone(resources.denormals)
    text = ", ".join(f"{name}: {ratio:.1f}" for name, ratio in ratios.items())
    yield Line("times as long on denormal numbers", "3x3, 64 to 64 channels, 28x28", text, None)


def main(arguments_=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m verify", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of every size")
    parser.add_argument("--write", action="store_true", help="the report, which has the sizes, at any scale")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    options = parser.parse_args(arguments_)
    start = time.monotonic()
    lines: list[Line] = []

    def add(part):
        for line in part:
            lines.append(line)
            print(f"{time.monotonic() - start:5.0f} s  {line.what}: {line.result}", flush=True)

    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        add(numbers_lines(pool, options.scale, options.jobs))
        add(memory_lines(pool, options.scale, options.jobs))
        add(resource_lines(options.scale))
    held = promises.run_tests()
    add(held)
    if options.write or options.scale == 1:
        summary.keep("verify", lines[: -len(held)], promises=[vars(line) for line in held])
        report.write()
    short = [Line(line.what[:70], "tests", line.result, line.ok) for line in held]
    return summary.show(lines[: -len(held)] + short)


if __name__ == "__main__":
    sys.exit(main() != 0)
