"""Faults made mechanically in a source: one small change of one line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    file: str  # relative to the root
    line: int  # from 1
    kind: str
    was: str
    now: str

    @property
    def rank(self) -> str:
        """A number drawn from what the fault is, not from where it stands: other lines may come and go."""
        return hashlib.sha256(f"{self.file}|{self.was}|{self.now}".encode()).hexdigest()

    @property
    def key(self) -> tuple[str, str, str]:
        return self.file, self.was.strip(), self.now.strip()


# kind, what is looked for, and what stands there instead.
REPLACEMENTS = [
    ("+-1", r"(?<![\w.])(\d+)(?![\w.*])", lambda m: str(int(m[1]) + 1)),
    ("+-1", r"(?<![\w.])([1-9]\d*)(?![\w.*])", lambda m: str(int(m[1]) - 1)),
    ("+-1", r" \+ 1\b", lambda m: ""),
    ("+-1", r" - 1\b", lambda m: ""),
    ("bound", r"(?<=\w|\)) < (?=[\w(])", lambda m: " <= "),
    ("bound", r"(?<=\w|\)) <= (?=[\w(])", lambda m: " < "),
    ("bound", r"(?<=\w|\)) > (?=[\w(])", lambda m: " >= "),
    ("bound", r"(?<=\w|\)) >= (?=[\w(])", lambda m: " > "),
    ("negate", r" == ", lambda m: " != "),
    ("negate", r" != ", lambda m: " == "),
    ("negate", r"\bif \((.*)\)(?= [\w{]| continue|$)", lambda m: f"if (!({m[1]}))"),
    ("negate", r"\btrue\b", lambda m: "false"),
    ("negate", r"\bfalse\b", lambda m: "true"),
    ("negate", r"(?<=[\w)\]]) \? ", lambda m: " && false ? "),
    ("swap", r" && ", lambda m: " || "),
    ("swap", r" \|\| ", lambda m: " && "),
    ("swap", r"(?<=[\w)\]]) \+ (?=[\w(])", lambda m: " - "),
    ("swap", r"(?<=[\w)\]]) - (?=[\w(])", lambda m: " + "),
    ("swap", r"(?<=[\w)\]]) \* (?=[\w(])", lambda m: " + "),
    ("swap", r"(?<=[\w)\]]) \+= ", lambda m: " = "),
    ("swap", r"\b(g_?|forward)\.h\.", lambda m: f"{m[1]}.w."),
    ("swap", r"\b(g_?|forward)\.w\.", lambda m: f"{m[1]}.h."),
    ("swap", r"\.begin\b", lambda m: ".end"),
    ("swap", r"\.end\b", lambda m: ".begin"),
    ("swap", r"_k\b", lambda m: "_j"),
    ("swap", r"_i\b", lambda m: "_j"),
    ("drop", r"^( *)([\w.>\[\]*()-]+ [-+*/]?= [^;]*|[\w.]+\([^;]*\)|continue|break);$", lambda m: f"{m[1]};"),
]
NO_CODE = re.compile(
    r"^\s*(//|#|template|NHWC_INSTANTIATE|namespace|using |typedef |$)|static_cast<const T\*>"
)


def faults_of(root: Path, path: Path) -> Iterator[Fault]:
    """Every fault that REPLACEMENTS can make in a file of `root`."""
    for number, text in enumerate(path.read_text().splitlines(), 1):
        code = text.split("//")[0].rstrip()
        if NO_CODE.search(code) or code.endswith("\\"):
            continue
        for kind, pattern, replacement in REPLACEMENTS:
            for match in re.finditer(pattern, code):
                now = code[: match.start()] + match.expand(replacement(match).replace("\\", r"\\"))
                now += code[match.end() :]
                if now != code:
                    yield Fault(path.relative_to(root).as_posix(), number, kind, code, now)


def draw(root: Path, seed: int) -> Iterator[Fault]:
    """All faults of csrc/conv and csrc/kernels in an order fixed by the seed, at most one for each line."""
    found = [
        fault
        for folder in ("conv", "kernels")
        for path in sorted((root / "csrc" / folder).glob("*"))
        if path.suffix in (".h", ".cpp")
        for fault in faults_of(root, path)
    ]
    seen = set()
    for fault in sorted(found, key=lambda f: hashlib.sha256(f"{seed}|{f.rank}".encode()).hexdigest()):
        if (fault.file, fault.was) not in seen:
            seen.add((fault.file, fault.was))
            yield fault
