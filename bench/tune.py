"""What a tuning constant of csrc/ is worth: some of its values, built and timed by turns with the committed one.

python bench/tune.py kItemInputBytes '96 * 1024' '384 * 1024' --layers '1x1$' --pass train --dtype float64

Each value is an expression that takes the place of the committed one in a copy of the sources. Ratios are the time of
this checkout, which has the committed value and its library built, over the value's: above 1 the value is faster.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from interleaved import add_options, conditions, measure, rows, start
from layers import ROOT

from verify.builds import BuildError

COMMITTED = "committed"
PARTS = (
    "csrc",
    "nhwc_conv",
    "setup.py",
    "build",
)  # what a library is built from, and objects that need not be again


@dataclass(frozen=True)
class Constant:
    """Where its expression stands: text[start:end] of the file."""

    path: Path
    text: str
    start: int
    end: int

    @property
    def expression(self) -> str:
        return self.text[self.start : self.end]

    @property
    def line(self) -> int:
        return self.text.count("\n", 0, self.start) + 1

    def replaced(self, expression: str) -> str:
        """The file with another expression."""
        return self.text[: self.start] + expression + self.text[self.end :]


def find_constant(csrc: Path, name: str) -> Constant:
    """The one definition of a constant.

    Raises:
        LookupError: there is none, or there are several.
    """
    found = []
    for path in sorted(p for p in csrc.rglob("*") if p.suffix in (".h", ".cpp")):
        text = path.read_text()
        # Blanks for comments keep all places.
        code = re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"\S", " ", m[0]), text, flags=re.DOTALL)
        for match in re.finditer(rf"\bconstexpr\b[^;{{}}]*?\b{re.escape(name)}\s*=(?!=)\s*", code):
            found.append(Constant(path, text, match.end(), end_of_expression(code, match.end())))
    if len(found) != 1:
        places = ", ".join(f"{c.path.relative_to(csrc.parent)}:{c.line}" for c in found) or "none"
        raise LookupError(f"looked in {csrc} for one `constexpr ... {name} = ...`, found {places}")
    return found[0]


def end_of_expression(code: str, start: int) -> int:
    """Where the declaration ends or its next name follows."""
    depth = 0
    for end in range(start, len(code)):
        depth += (code[end] in "([{") - (code[end] in ")]}")
        if depth == 0 and code[end] in ",;":
            return end
    raise LookupError(f"no end of the declaration: {code[start : start + 40]}")


def build(origin: Path, folder: Path, constant: Constant, value: str) -> None:
    """A copy of `origin` with another value, built; what does not depend on it is not compiled again.

    Raises:
        BuildError: the compiler's messages.
    """
    for part in PARTS:
        if (origin / part).is_dir():
            shutil.copytree(origin / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif (origin / part).exists():
            shutil.copy2(origin / part, folder / part)
    (folder / constant.path.relative_to(ROOT)).write_text(constant.replaced(value))
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"value {value}: {done.stderr.strip()}")


def sweep(options, constant, lot) -> None:
    """Prints a line of ratios for each row of the lot, and their geometric means."""
    with ExitStack() as stack:
        workers = {COMMITTED: stack.enter_context(start(ROOT, options))}  # first: it may not be built
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        origin = ROOT
        for i, value in enumerate(options.values):
            print(f"building {options.name} = {value}", file=sys.stderr)
            build(origin, scratch / str(i), constant, value)
            origin = scratch / str(i)
            workers[value] = stack.enter_context(start(origin, options))
        print(f"{options.name} = {constant.expression}, {constant.path.relative_to(ROOT)}:{constant.line}")
        print(", ".join(f"{k} {v}" for k, v in conditions(options, workers[COMMITTED]).items()))
        width = max(8, *map(len, options.values)) + 2
        print(f"{'layer':32}{'':10}{COMMITTED:>12}" + "".join(f"{v:>{width}}" for v in options.values))
        ratios = {value: [] for value in options.values}
        for case, name in lot:
            seconds = measure(workers, name, case, options)
            for value, found in ratios.items():
                found.append(seconds[COMMITTED] / seconds[value])
            cells = "".join(f"{found[-1]:{width}.3f}" for found in ratios.values())
            print(f"{case.name:32}{name:10}{seconds[COMMITTED] * 1e3:9.4f} ms{cells}", flush=True)
        means = "".join(f"{statistics.geometric_mean(found):{width}.3f}" for found in ratios.values())
        print(f"{'geometric mean':54}{means}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", metavar="NAME", help="of a constant in csrc/")
    parser.add_argument("values", metavar="VALUE", nargs="+", help="expressions in its place")
    add_options(parser)
    options = parser.parse_args()
    lot = list(rows(parser, options))
    try:
        sweep(options, find_constant(ROOT / "csrc", options.name), lot)
    except LookupError as error:
        parser.error(f"NAME {options.name}: {error}")
    except BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
