"""`make sanitize`: csrc/conv and csrc/kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.

The driver in native/ runs every pass over the cases of the tests and over random convolutions, on every instruction
set of the machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from . import native, report, summary
from .geometries import quick_cases, random_cases, table_cases

# Under ThreadSanitizer one thread has nothing to show.
PASSES = [
    ("AddressSanitizer, UndefinedBehaviorSanitizer", native.ADDRESS, (1, 2)),
    ("ThreadSanitizer", native.THREAD, (4,)),
]


def sanitize(cases: list) -> list[summary.Line]:
    lines = []
    start = time.monotonic()
    # At once: the last of each to be compiled takes a minute alone.
    with ThreadPoolExecutor(len(PASSES)) as pool:
        drivers = list(pool.map(native.build, (variant for _, variant, _ in PASSES)))
    print(f"built in {time.monotonic() - start:.0f} s", flush=True)
    for driver, (what, variant, threads) in zip(drivers, PASSES, strict=True):
        start = time.monotonic()
        done = native.run(driver, variant, cases, threads=threads)
        if not done["ok"]:
            print(done["output"], file=sys.stderr)
        result = "no finding" if done["ok"] else "findings, see above"
        lines.append(summary.Line(what, native.size_of(done), result, done["ok"]))
        print(f"{what}: run in {time.monotonic() - start:.0f} s", flush=True)
    return lines


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m verify.sanitize", description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, default=400, help="random geometries besides the table")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="40 random geometries and one case for each runner, and no report",
    )
    options = parser.parse_args(arguments)
    if options.quick:
        return summary.show(sanitize(quick_cases()))
    lines = sanitize([*table_cases(), *random_cases(options.random, seed=1)])
    summary.keep("sanitize", lines)
    report.write()
    return summary.show(lines)


if __name__ == "__main__":
    sys.exit(main() != 0)
