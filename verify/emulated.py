"""`make emulated`: tests of the kernels and of the binding on 64-bit Arm: its wheel beside torch, under qemu.

For a Debian machine of another kind, with qemu-user and g++-aarch64-linux-gnu; Python and torch are fetched.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import ROOT, platforms, report, summary, wheels

TARGET = platforms.TARGETS["aarch64"]
PYTEST = ("pytest>=8", "iniconfig", "packaging", "pluggy", "pygments")
# What pytest is told; a process each, since the emulator keeps all code that it has translated. Of large tables a part
# is enough for an hour; no test that compiles, starts processes or asks for times and memory.
SLICES = (
    "test_ops.py -k 'exact and conv2d and f32'",
    "test_ops.py -k 'conv2d and neon and f64 and not exact or not neon and not baseline'",
    "test_layouts.py -k 'neon or bias or weights or written or aliases'",
    "test_winograd.py -k 'neon and f32 and (forward or gradients or prepacked)'",
    "test_half.py -k 'not baseline'",
    "test_out_dtype.py -k 'not baseline and not compiled'",
    "test_finish.py test_finish_gradients.py -k 'not baseline'",
    "test_packed_ops.py test_prepack.py -k '(neon or stale or weight) and not fake'",
    "test_recorded.py -k 'neon and (dtype0 or dtype2) or not neon and not baseline'",
    "test_bad_input.py test_bad_tensors.py test_argument_types.py",
    "test_nn.py test_nwc.py test_lazy.py test_lazy_drop_ins.py test_drop_in_1d.py test_transposed_drop_in.py",
    "test_packed_transposed.py test_transpose.py test_functional.py test_exchange.py",
    "test_autograd.py -k 'not gradgradcheck'",
)
FEWEST = 3000


def tree_around(wheel: Path, folder: Path) -> Path:
    """A checkout with the package of the wheel, whose library knows the sources that it is of."""
    for name in ("csrc", "tests", "verify"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(python: list[str], tree: Path, arguments: str) -> tuple[int, summary.Line]:
    """How many tests passed, and what is to be said of it."""
    start = time.monotonic()
    command = [*python, "-m", "pytest", "-p", "no:cacheprovider", *shlex.split(arguments)]
    done = subprocess.run(command, cwd=tree / "tests", capture_output=True, text=True)
    last = done.stdout.strip().rpartition("\n")[2]
    print(f"{arguments}: {last}; {time.monotonic() - start:.0f} s with what comes before", flush=True)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
    counts = {what: int(count) for count, what in re.findall(r"(\d+) (passed|failed|errors?|skipped)", last)}
    passed, size = counts.get("passed", 0), f"{sum(counts.values())} tests"
    result = ", ".join(f"{count} {what}" for what, count in counts.items())
    ok = passed > 0 and done.returncode == 0
    return passed, summary.Line(arguments, size, result or f"ended by {done.returncode}", ok)


def look(slices: list[str], promised: int) -> list[summary.Line]:
    emulated = platforms.python_of(TARGET, "")
    if not emulated:
        sys.exit("verify.emulated needs qemu-aarch64, apt-get and dpkg")
    wheel = wheels.build(TARGET)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = (f"torch=={wheels.OLDEST_TORCH}", *PYTEST)
        python = platforms.new_environment(folder / "python", TARGET, emulated, *wanted)
        tree = tree_around(wheel, folder / "tree")
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            done = list(pool.map(lambda arguments: run(python, tree, arguments), slices))
    passed = sum(count for count, _ in done)
    total = summary.Line("all", f"{promised} promised", f"{passed} passed", passed >= promised)
    return [*(line for _, line in done), total]


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m verify.emulated", description=__doc__.splitlines()[0])
    about = "these alone, and no report: \"test_ops.py -k 'exact and neon'\""
    parser.add_argument("slices", nargs="*", metavar="SLICE", help=about)
    slices = parser.parse_args(arguments).slices
    if slices:
        return summary.show(look(slices, 1))
    lines = look(list(SLICES), FEWEST)
    summary.keep("emulated", lines)
    report.write()
    return summary.show(lines)


if __name__ == "__main__":
    sys.exit(main() != 0)
