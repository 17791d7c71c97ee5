"""Builds and runs the driver in native/: csrc/conv and csrc/kernels without torch, plainly or with sanitizers."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import ROOT
from .geometries import line

ISA_ROW = re.compile(r'^NHWC_ISA\((\w+), (\w+), (\d+), (\d+), "(.*)"\)$', re.MULTILINE)
FLAGS = ["-std=c++17", "-Wall", "-pthread"]


@dataclass(frozen=True)
class Variant:
    """Flags of the compiler: for everything (the link as well), and for the kernels alone.

    `environment` and `place` (of buffers: on the heap, or between guard pages) are for the driver's run. `compiler` is
    the command instead of `compiler()`; `emulator` stands before the driver's own. `instruction_sets` are those whose
    kernels it has, instead of all that the machine may have; `beyond_baseline` are flags for all but the baseline's.
    """

    name: str
    common: tuple[str, ...]
    kernels: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    place: str = "heap"
    compiler: tuple[str, ...] = ()
    emulator: tuple[str, ...] = ()
    instruction_sets: tuple[str, ...] = ()
    beyond_baseline: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        return self.compiler or (compiler(),)


def _sanitizer(name, flags, **environment):
    # Unoptimised: the compiler takes minutes over the kernels' unrolled loops otherwise, and a minute over the passes.
    flags = ("-O0", "-g1", *flags)
    return Variant(name, flags, flags, tuple(environment.items()))


def of_setup(name: str):
    """A constant of setup.py."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise LookupError(f"setup.py has no {name}")


# As shipped, between guard pages.
GUARDED = Variant("guarded", ("-O2",), tuple(of_setup("KERNEL_FLAGS")), place="guard")
ADDRESS = _sanitizer(
    "address",
    ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    ASAN_OPTIONS="detect_leaks=1:detect_stack_use_after_return=1",
    UBSAN_OPTIONS="print_stacktrace=1",
)
THREAD = _sanitizer("thread", ("-fsanitize=thread",), TSAN_OPTIONS="halt_on_error=1")
# Fast to compile, for faults made on purpose.
MUTANT = Variant("mutant", ("-O1",), ("-O0",), place="guard")


class BuildError(Exception):
    """The compiler refused; its messages are the text."""


def compiler() -> str:
    """$CXX, or c++."""
    found = shutil.which(os.environ.get("CXX", "c++"))
    if not found:
        raise BuildError("no C++ compiler: set CXX")
    return found


def target_of(command: tuple[str, ...]) -> str:
    """The architecture that a compiler compiles for."""
    said = subprocess.run([*command, "-dumpmachine"], capture_output=True, text=True, check=True).stdout
    name = said.partition("-")[0].strip()
    return of_setup("SPELLINGS").get(name, name)


def _units(csrc: Path, variant: Variant, folder: Path):
    """(source, object's name, flags) of everything the driver is linked from."""
    machine = target_of(variant.command)
    baseline = ["-march=x86-64"] if machine == "x86_64" else []
    table = (csrc / "kernels/isa_table.def").read_text()
    rows = [row for row in ISA_ROW.finditer(table) if row[1] in (variant.instruction_sets or row[1])]
    driver = sorted((csrc.parent / "verify/native").glob("*.cpp"))
    plain = [
        p for p in sorted(csrc.glob("conv/*.cpp")) + sorted(csrc.glob("kernels/*.cpp")) if p.stem != "isa"
    ]
    for path in driver + plain:
        where = []
        if path.stem == "dispatch" and variant.instruction_sets:
            # It looks for the table where it stands itself first.
            path, where = Path(shutil.copy(path, folder)), ["-iquote", str(path.parent)]
            (folder / "isa_table.def").write_text("\n".join(row[0] for row in rows) + "\n")
        yield path, path.stem, [*FLAGS, *variant.common, *baseline, *where]
    for name, architecture, width, registers, flags in (row.groups() for row in rows):
        if architecture in (machine, "any"):
            macros = dict(NAME=name, VECTOR_BYTES=width, REGISTERS=registers)
            defines = [f"-DNHWC_ISA_{key}={value}" for key, value in macros.items()]
            more = variant.beyond_baseline if name != "baseline" else ()
            own = ["-fno-tree-vectorize", *variant.kernels, *more, *baseline, *flags.split(), *defines]
            yield csrc / "kernels/isa.cpp", f"isa_{name}", [*FLAGS, *own]


def _compile(unit, variant: Variant, folder: Path) -> Path:
    """The object of a unit, compiled unless it is newer than everything it was made from."""
    source, name, flags = unit
    target, stamp = folder / f"{name}.o", folder / f"{name}.d"
    command = [*variant.command, *flags, "-MMD", "-c", str(source)]
    said = folder / f"{name}.command"
    if target.exists() and stamp.exists() and said.exists() and said.read_text() == " ".join(command):
        made_from = stamp.read_text().replace("\\\n", " ").split(":", 1)[1].split()
        if all(Path(p).exists() and Path(p).stat().st_mtime < target.stat().st_mtime for p in made_from):
            return target
    done = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True)
    if done.returncode:
        raise BuildError(done.stderr)
    said.write_text(" ".join(command))
    return target


def build(variant: Variant, root: Path = ROOT, folder: Path | None = None, jobs: int | None = None) -> Path:
    """The driver's executable, in build/verify/<variant>; only what has changed is compiled."""
    folder = folder or ROOT / "build/verify" / variant.name
    folder.mkdir(parents=True, exist_ok=True)
    units = list(_units(root / "csrc", variant, folder))
    # The longest first: vectors of more registers have more kernels.
    units.sort(key=lambda unit: (not unit[1].startswith("isa_"), unit[1] != "isa_avx512"))
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        objects = list(pool.map(lambda unit: _compile(unit, variant, folder), units))
    driver = folder / "driver"
    done = subprocess.run(
        [*variant.command, *FLAGS, *variant.common, *map(str, objects), "-o", str(driver)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BuildError(done.stderr)
    return driver


def run(
    driver: Path,
    variant: Variant,
    cases: list,
    *,
    threads=(1, 3),
    jobs=None,
    timeout=None,
    stop=False,
    most: int | None = None,
) -> dict:
    """What the driver counted, over `jobs` processes; `ok`, and `output`, which says what failed.

    With `stop`, a process ends at its first failure; with `most`, it has so many cases, and others follow.

    Raises:
        subprocess.TimeoutExpired: a process took longer than `timeout` seconds.
    """
    command = [*variant.emulator, str(driver), "--place", variant.place]
    command += ["--threads", ",".join(map(str, threads)), "--stop", str(int(stop))]
    jobs = min(jobs or os.cpu_count() or 1, len(cases))
    slices = max(jobs, -(-len(cases) // most) if most else 1)

    def part(index):
        return subprocess.run(
            command,
            input="\n".join(map(line, cases[index::slices])) + "\n",
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **dict(variant.environment)},
        )

    with ThreadPoolExecutor(jobs) as pool:
        parts = list(pool.map(part, range(slices)))
    total = dict(ok=True, geometries=0, calls=0, failures=0, instruction_sets=0, output="")
    for done in parts:
        last = done.stdout.strip().rpartition("\n")[2]
        counts = json.loads(last) if last.startswith("{") else {}
        total["ok"] &= done.returncode == 0 and bool(counts)
        total["output"] += (done.stdout + done.stderr).strip() + "\n"
        for name in ("geometries", "calls", "failures"):
            total[name] += counts.get(name, 0)
        total["instruction_sets"] = counts.get("instruction_sets", 0)
    return total


def size_of(done: dict) -> str:
    """How much a run looked at."""
    return (
        f"{done['geometries']} geometries, {done['calls']} calls, {done['instruction_sets']} instruction sets"
    )
