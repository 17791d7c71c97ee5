"""`make aarch64`: the kernels for 64-bit Arm on any machine: built by GCC and clang, run by an emulator, and read.

Needs the Debian packages of TOOLS; root installs what is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import ROOT, assembly, native, over_geometries, summary

TOOLS = {
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "qemu-aarch64": "qemu-user",
    "clang++-19": "clang-19",
    "llvm-objdump-19": "llvm-19",
    "llvm-nm-19": "llvm-19",
    "llvm-mca-19": "llvm-19",
}
COMPILERS = {
    "GCC": ("aarch64-linux-gnu-g++",),
    "clang": ("clang++-19", "--target=aarch64-linux-gnu"),
}
# As shipped, between guard pages; clang ignores the flag that GCC alone has.
VARIANTS = {
    name: native.Variant(
        f"aarch64_{name}",
        ("-O2", "-static"),
        (*native.of_setup("KERNEL_FLAGS"), *native.of_setup("TARGET_FLAGS")["aarch64"]),
        place="guard",
        compiler=command,
        emulator=("qemu-aarch64",),
    )
    for name, command in COMPILERS.items()
}
INSTRUCTION_SETS = ("neon", "baseline")
# Of a process: the emulator keeps all code that it has translated.
MOST_CASES = 24
# Fused multiply-adds of 16 bytes that a core does in a cycle, and the part of them that the main tiles must reach.
CORES = {"neoverse-n1": 2, "neoverse-v1": 4, "neoverse-v2": 4}
FEWEST = 0.9
ROUNDS = 500
# Type, lanes, vectors, rows, whether rows of C are neighbours in A; without packing or rounding.
TILE = re.compile(r"\btile<(float|double), \1, (\d+), (\d+), (\d+), (false|true), false, \1>")


def missing() -> list[str]:
    """The packages of tools that are not there."""
    return sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})


def prepare() -> None:
    """Installs what is missing, or ends: it may not."""
    if missing() and os.geteuid() == 0:
        subprocess.run(["apt-get", "install", "--yes", "--no-install-recommends", *missing()], check=True)
    if missing():
        sys.exit(f"needs Debian's {', '.join(missing())}")


def said_by(*command: str, given: str | None = None) -> str:
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout


def run(compiler: str, cases: list) -> summary.Line:
    """Every pass over the cases, emulated."""
    variant = VARIANTS[compiler]
    start = time.monotonic()
    driver = native.build(variant)
    print(f"built by {compiler} in {time.monotonic() - start:.0f} s", flush=True)
    start = time.monotonic()
    done = native.run(driver, variant, cases, most=MOST_CASES)
    print(f"run in {time.monotonic() - start:.0f} s", flush=True)
    if not done["ok"]:
        print(done["output"], file=sys.stderr)
    result = "no failure" if done["ok"] else "failures, see above"
    return summary.Line(f"{compiler}: every pass, emulated", native.size_of(done), result, done["ok"])


def object_of(compiler: str, name: str) -> Path:
    return ROOT / "build/verify" / VARIANTS[compiler].name / f"isa_{name}.o"


def kernels(path: Path) -> list[assembly.Function]:
    listing = said_by("llvm-objdump-19", "-dC", "--no-show-raw-insn", str(path))
    return [function for function in assembly.functions(listing) if function.is_kernel]


def read(what: str, functions: list[assembly.Function], symbols: str) -> list[summary.Line]:
    """What the kernels of an object hold that they must not, and what it exports, as nm lists it."""
    apart = [f.name for f in functions if f.having("fmul")]
    with_products = sum(bool(f.having(assembly.FUSED)) for f in functions)
    tiles = [f for f in functions if re.search(r"\btile<", f.name)]
    loops = [loop for f in tiles for loop in f.product_loops()]
    spilling = [loop.name for loop in loops if loop.spills]
    exported = symbols.splitlines()
    weak = [row for row in exported if row.split()[1] in "WVu"]
    for row in [*apart, *spilling, *weak]:
        print(f"{what}: {row}", file=sys.stderr)
    return [
        summary.Line(
            f"{what}: kernels that multiply apart from an addition",
            f"{with_products} tile, lanewise, grouped, gradient and dot kernels with products",
            str(len(apart)),
            with_products > 100 and not apart,
        ),
        summary.Line(
            f"{what}: vectors that go to the stack",
            f"{len(loops)} inner loops of {len(tiles)} tiles",
            str(len(spilling)),
            len(loops) >= len(tiles) > 100 and not spilling,
        ),
        summary.Line(
            f"{what}: exported symbols",
            "one promised, none of them weak",
            f"{len(exported)}, {len(weak)} weak",
            len(exported) == 1 and not weak,
        ),
    ]


def main_loops(functions: list[assembly.Function]) -> dict[tuple[bool, str], assembly.Function]:
    """The inner loops of the tallest tiles of several full vectors, by whether rows are neighbours in A, and shape."""
    tallest: dict[tuple[str, str, str], tuple[int, assembly.Function]] = {}
    for function in functions:
        if tile := TILE.search(function.name):
            kind, lanes, vectors, rows, neighbours = tile.groups()
            full = int(lanes) * {"float": 4, "double": 8}[kind] == 16
            if full and int(vectors) > 1 and int(rows) > tallest.get((kind, vectors, neighbours), (0,))[0]:
                tallest[kind, vectors, neighbours] = int(rows), function
    return {
        (neighbours == "true", f"{kind} {vectors}x{rows}"): max(
            function.product_loops(), key=lambda loop: len(loop.having(assembly.FUSED))
        )
        for (kind, vectors, neighbours), (rows, function) in tallest.items()
    }


def rate(loop: assembly.Function, core: str) -> float:
    """Fused multiply-adds of a cycle, as llvm-mca expects them."""
    command = ["llvm-mca-19", "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={ROUNDS}", "--json"]
    told = json.loads(said_by(*command, given=loop.text))["CodeRegions"][0]["SummaryView"]
    return len(loop.having(assembly.FUSED)) * ROUNDS / told["TotalCycles"]


def rates(what: str, functions: list[assembly.Function]) -> list[summary.Line]:
    lines = []
    loops = main_loops(functions)
    for neighbours, where in ((False, "of layers"), (True, "of weight gradients")):
        for core, peak in CORES.items():
            parts = {
                shape: rate(loop, core) / peak for (kind, shape), loop in loops.items() if kind == neighbours
            }
            reached = len(parts) == 6 and min(parts.values()) >= FEWEST
            lines.append(
                summary.Line(
                    f"{what}: inner loops of main tiles {where} on {core}",
                    f"{peak} multiply-adds a cycle" + f", {FEWEST:.0%} of them promised" * (not neighbours),
                    ", ".join(f"{shape} {part:.0%}" for shape, part in sorted(parts.items())),
                    None if neighbours else reached,
                )
            )
    return lines


def examine(cases: list) -> list[summary.Line]:
    prepare()
    lines = []
    for compiler in COMPILERS:
        lines.append(run(compiler, cases))
        for name in INSTRUCTION_SETS:
            path, what = object_of(compiler, name), f"{compiler}, {name}"
            functions = kernels(path)
            symbols = said_by("llvm-nm-19", "--defined-only", "--extern-only", str(path))
            lines += read(what, functions, symbols)
            if name == INSTRUCTION_SETS[0]:
                lines += rates(what, functions)
    return lines


def main(arguments=None) -> int:
    return over_geometries.main("aarch64", __doc__, examine, examine, 100, arguments)


if __name__ == "__main__":
    sys.exit(main() != 0)
