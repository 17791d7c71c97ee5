"""The command of what looks at the native driver's geometries: at all, and reported, or at a few."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from . import report, summary
from .geometries import quick_cases, random_cases, table_cases

Look = Callable[[list], list[summary.Line]]


def main(name: str, about: str, look: Look, quick: Look, random: int, arguments=None) -> int:
    """Runs `look`, or `quick`, as `python -m verify.<name>`; returns the number of lines that are not as promised.

    Args:
        about: the module's docstring.
        random: how many random geometries stand beside the table, unless the command says.
    """
    parser = argparse.ArgumentParser(prog=f"python -m verify.{name}", description=about.splitlines()[0])
    parser.add_argument("--random", type=int, default=random, help="random geometries besides the table")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="40 random geometries and one case for each runner, and no report",
    )
    options = parser.parse_args(arguments)
    if options.quick:
        return summary.show(quick(quick_cases()))
    lines = look([*table_cases(), *random_cases(options.random, seed=1)])
    summary.keep(name, lines)
    report.write()
    return summary.show(lines)
