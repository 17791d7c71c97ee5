"""`python -m verify.report`: docs/reliability.md from what `make verify`, `sanitize`, `aarch64` and others wrote."""

from __future__ import annotations

import json

from . import ROOT
from .summary import FOLDER

PAGE = ROOT / "docs/reliability.md"
MARKS = {True: "yes", False: "**no**", None: "-"}
HEAD = """# Reliability: what was looked at, and what came out

Made by `verify/report.py` from the last full runs of `make verify`, `sanitize`, `aarch64`, `emulated` and `mutate`;
do not edit.
Whoever runs these commands writes this page anew. What `convert` makes of models of other packages stands in
[models.md](models.md).
"""
PARTS = {
    "verify": (
        "make verify",
        "Random geometries have strides, dilations, padding on four sides, groups and sizes with tails; all computed "
        "dtypes; every instruction set of the machine. u is half the step from 1 to the next number of the dtype.",
    ),
    "sanitize": (
        "make sanitize",
        "csrc/conv and csrc/kernels under a driver without torch: every pass over the table of tests/cases.py and over "
        "random geometries, each checked against seven loops on integers.",
    ),
    "aarch64": (
        "make aarch64",
        "csrc/conv and csrc/kernels for 64-bit Arm, by the flags that setup.py has, on a machine of another kind: the "
        "same driver under qemu, and the machine code as llvm-objdump and llvm-mca read it. Times are what the "
        "compilers' models of the cores expect; nothing was measured.",
    ),
    "emulated": (
        "make emulated",
        "Tests of tests/ on 64-bit Arm: the library of that platform's wheel beside torch 2.10, in Debian's Python, "
        "all of it under qemu.",
    ),
    "mutate": (
        "make mutate",
        "One small fault at a time (a number one off, operators or axes exchanged, a bound moved, a condition negated, "
        "a statement dropped) at random lines of csrc/conv and csrc/kernels, run over small geometries by the same "
        "driver.",
    ),
}


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(cell, row)) + " |" for row in lines) + "\n"


def part(name: str) -> str:
    command, about = PARTS[name]
    text = f"\n## `{command}`\n\n{about}\n"
    path = FOLDER / f"{name}.json"
    if not path.exists():
        return text + "\nNot run yet.\n"
    data = json.loads(path.read_text())
    text += f"\n{data['date']}, {data['processor']}:\n\n"
    rows = [[x["what"], x["size"], x["result"], MARKS[x["ok"]]] for x in data["lines"]]
    text += table(["what", "size", "result", "as promised"], rows)
    if "promises" in data:
        rows = [[x["what"], x["size"].replace(", ", "<br>"), x["result"]] for x in data["promises"]]
        text += "\nThe promises and the tests in tests/ that hold them:\n\n" + table(
            ["promise", "tests", "result"], rows
        )
    if "survivors" in data:
        rows = [
            [f"{x['file']}:{x['line']}", f"`{x['was']}`", f"`{x['now']}`", x["why"] or "**open**"]
            for x in data["survivors"]
        ]
        text += "\nFaults that nothing noticed, and why they change no result:\n\n"
        text += table(["where", "was", "became", "why"], rows)
    return text


def write() -> None:
    PAGE.write_text(HEAD + "".join(part(name) for name in PARTS))


if __name__ == "__main__":
    write()
