"""`python -m verify.models`: see __init__.py. Exits with 1 where the row of a model names a problem."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from multiprocessing import connection, get_context
from pathlib import Path

import torch

from . import table
from .trial import trial
from .zoo import MODELS

TIMEOUT = 1800  # seconds of a model; most take ten, on a machine that does nothing else


def work(name: str, path: Path) -> None:
    torch.set_num_threads(1)
    path.write_text(json.dumps(trial(MODELS[name])))


def in_processes(names: list[str], jobs: int) -> Iterator[tuple[str, dict]]:
    """(name, row) of each model from a process of its own, forked from this one, which has imported the packages."""
    context, waiting, running = get_context("fork"), list(names), {}
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                path = Path(folder) / f"{len(waiting)}.json"
                process = context.Process(target=work, args=(name, path))
                process.start()
                running[process.sentinel] = name, path, process, time.monotonic()
            connection.wait(list(running), timeout=5)
            for sentinel, (name, path, process, start) in list(running.items()):
                seconds = time.monotonic() - start
                if process.is_alive() and seconds < TIMEOUT:
                    continue
                why = f"no end after {TIMEOUT} seconds" if process.is_alive() else "its process ended"
                process.kill()
                process.join()
                del running[sentinel]
                lost = {"problems": [f"{why}, code {process.exitcode}"], "seconds": round(seconds, 1)}
                yield name, json.loads(path.read_text()) if path.exists() else lost


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m verify.models", description=__doc__)
    parser.add_argument(
        "--only", default="", help="regular expression: which models to run; the rest keep their rows"
    )
    parser.add_argument("--missing", action="store_true", help="run only models without a row")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    options = parser.parse_args(arguments)
    rows = table.load()
    names = [n for n in MODELS if re.search(options.only, n) and not (options.missing and n in rows)]
    for package, _ in table.PACKAGES.values():
        try:
            import_module(package)
        except ImportError as error:
            print(f"{package}: {error}", file=sys.stderr)
    for name, row in in_processes(names, options.jobs):
        rows = {**table.load(), name: row}  # others may be running, too
        print(
            f"{name}: {'; '.join(row['problems']) or 'as the original'} ({row['seconds']:.0f} s)", flush=True
        )
        table.save(rows)
    bad = sum(bool(row["problems"]) for row in rows.values())
    print(f"\n{len(rows) - bad} of {len(rows)} as the original")
    return bad


if __name__ == "__main__":
    sys.exit(main() != 0)
