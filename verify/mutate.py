"""`make mutate`: how many faults, made mechanically in csrc/conv and csrc/kernels, the driver in native/ notices.

Each fault is compiled (only the objects it touches) and run over small cases of the tests and random convolutions. What
survives must be argued in equivalent.json to change no result, or is a hole in the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import ROOT, native, report, summary
from .faults import Fault, draw
from .geometries import random_cases, table_cases

ARGUED = ROOT / "verify/equivalent.json"
# Enough of the table to reach every path: the largest ones take most of the time.
LARGE = {"many_weights_3x3", "many_weights_split_taps", "winograd_chunks"}
SURVIVED, SAME = "survived", "same code"
TIMEOUT = 240  # seconds; the whole run without a fault takes a fifth


def cases() -> list:
    def work(case):
        h, w = case.x[-3:-1]
        return h * w * case.w[0] * case.w[1] * case.w[2] * case.w[3]

    table = [case for case in table_cases() if work(case) <= 60_000 or case.name in LARGE]
    return sorted(table, key=work) + list(random_cases(40, seed=2))


class Workshop:
    """A copy of the sources with objects built from them, in which one fault at a time is tried."""

    def __init__(self, folder: Path):
        self.root, self.objects, self.trial = folder / "root", folder / "objects", folder / "trial"
        for part in ("csrc/conv", "csrc/kernels", "verify/native"):
            shutil.copytree(ROOT / part, self.root / part)
        native.build(native.MUTANT, self.root, self.objects, jobs=1)

    def run(self, driver: Path, lot: list) -> dict:
        return native.run(driver, native.MUTANT, lot, jobs=1, timeout=TIMEOUT, stop=True)

    def judge(self, fault: Fault, lot: list) -> str:
        """ "killed: ..." , "same code", "survived", or "" where it does not compile."""
        path = self.root / fault.file
        before, times = path.read_text(), path.stat()
        lines = before.splitlines()
        lines[fault.line - 1] = fault.now
        shutil.rmtree(self.trial, ignore_errors=True)
        shutil.copytree(self.objects, self.trial)  # objects keep their times; dates of copies do not matter
        try:
            path.write_text("\n".join(lines) + "\n")
            driver = native.build(native.MUTANT, self.root, self.trial, jobs=1)
            if all(o.read_bytes() == (self.objects / o.name).read_bytes() for o in self.trial.glob("*.o")):
                return SAME
            done = self.run(driver, lot)
            if done["ok"]:
                return SURVIVED
            return f"killed: {(done['output'].strip() or 'crashed').splitlines()[0][:90]}"
        except native.BuildError:
            return ""
        except subprocess.TimeoutExpired:
            return "killed: no end"
        finally:
            path.write_text(before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def mutate(count: int, seed: int, jobs: int) -> list[tuple[Fault, str]]:
    """The first `count` faults that compile, and what became of each."""
    lot, results = cases(), []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        shops: queue.Queue[Workshop] = queue.Queue()
        for shop in pool.map(Workshop, [Path(folder) / str(job) for job in range(jobs)]):
            shops.put(shop)
        shop = shops.get()
        if not shop.run(shop.objects / "driver", lot)["ok"]:
            raise SystemExit("the driver fails without any fault: run `make sanitize`")
        shops.put(shop)

        def judge(fault):
            shop = shops.get()
            try:
                outcome = shop.judge(fault, lot)
            finally:
                shops.put(shop)
            if outcome:
                print(f"{fault.file}:{fault.line}: {fault.now.strip()[:80]}: {outcome}", flush=True)
            return fault, outcome

        faults = draw(ROOT, seed)
        while len(results) < count:
            batch = [fault for fault, _ in zip(faults, range(count - len(results)), strict=False)]
            if not batch:
                break
            results += [(fault, outcome) for fault, outcome in pool.map(judge, batch) if outcome]
    return results


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m verify.mutate", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    results = mutate(options.count, options.seed, options.jobs)
    argued = {(a["file"], a["was"], a["now"]): a["why"] for a in json.loads(ARGUED.read_text())}
    survivors = [fault for fault, outcome in results if outcome in (SURVIVED, SAME)]
    argued |= {fault.key: "the compiler emits the same code" for fault, outcome in results if outcome == SAME}
    table = [
        dict(file=f.file, line=f.line, was=f.was.strip(), now=f.now.strip(), why=argued.get(f.key, ""))
        for f in survivors
    ]
    open_ones = [row for row in table if not row["why"]]
    for row in table:
        print(
            f"survived: {row['file']}:{row['line']}: {row['was']}  ->  {row['now']}: {row['why'] or 'NOT ARGUED'}"
        )
    killed = len(results) - len(survivors)
    lines = [
        summary.Line(
            "faults made mechanically",
            f"{len(results)} in {len({f.file for f, _ in results})} files",
            f"{killed} noticed, {len(table) - len(open_ones)} change no result, {len(open_ones)} open",
            not open_ones,
        )
    ]
    if (options.count, options.seed) == (parser.get_default("count"), parser.get_default("seed")):
        summary.keep("mutate", lines, survivors=table)
        report.write()
    return summary.show(lines)


if __name__ == "__main__":
    sys.exit(main() != 0)
