"""`make sanitize`: csrc/conv and csrc/kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.

The driver in native/ runs every pass over the cases of the tests and over random convolutions, on every instruction
set of the machine; in a quick run, ThreadSanitizer and the undefined behaviour of kernels on the baseline alone.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from . import native, over_geometries, summary

# Under ThreadSanitizer one thread has nothing to show.
PASSES = [
    ("AddressSanitizer, UndefinedBehaviorSanitizer", native.ADDRESS, (1, 2)),
    ("ThreadSanitizer", native.THREAD, (4,)),
]
# Kernels are one source for all instruction sets, but for the width of vectors: what the language leaves undefined in
# one is so in all, and checks of it are half of what compiling takes. Which thread writes where is csrc/conv's to say.
QUICK = [
    (PASSES[0][0], replace(native.ADDRESS, beyond_baseline=("-fno-sanitize=undefined",)), (1, 2)),
    (PASSES[1][0], replace(native.THREAD, instruction_sets=("baseline",)), (4,)),
]


def sanitize(passes: list, cases: list) -> list[summary.Line]:
    lines = []
    start = time.monotonic()
    # At once: the last of each to be compiled takes a minute alone.
    with ThreadPoolExecutor(len(passes)) as pool:
        drivers = list(pool.map(native.build, (variant for _, variant, _ in passes)))
    print(f"built in {time.monotonic() - start:.0f} s", flush=True)
    for driver, (what, variant, threads) in zip(drivers, passes, strict=True):
        start = time.monotonic()
        done = native.run(driver, variant, cases, threads=threads)
        if not done["ok"]:
            print(done["output"], file=sys.stderr)
        result = "no finding" if done["ok"] else "findings, see above"
        lines.append(summary.Line(what, native.size_of(done), result, done["ok"]))
        print(f"{what}: run in {time.monotonic() - start:.0f} s", flush=True)
    return lines


def main(arguments=None) -> int:
    looks = partial(sanitize, PASSES), partial(sanitize, QUICK)
    return over_geometries.main("sanitize", __doc__, *looks, 400, arguments)


if __name__ == "__main__":
    sys.exit(main() != 0)
