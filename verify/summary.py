"""Lines of a report: printed as a table, and kept as JSON beside the page that report.py makes of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date

from . import ROOT

FOLDER = ROOT / "docs/reliability"
MARKS = {True: "ok", False: "FAIL", None: "-"}


@dataclass(frozen=True)
class Line:
    """One thing that was looked at: how much of it, what came out, and whether that is as promised.

    ok is None where nothing is promised: the result is a measurement.
    """

    what: str
    size: str
    result: str
    ok: bool | None


def show(lines: list[Line]) -> int:
    """Prints the table; returns the number of lines that are not as promised."""
    width = [max(len(getattr(line, field)) for line in lines) for field in ("what", "size")]
    print()
    for line in lines:
        print(f"{MARKS[line.ok]:4}  {line.what:{width[0]}}  {line.size:{width[1]}}  {line.result}")
    promised = [line.ok for line in lines if line.ok is not None]
    bad = promised.count(False)
    print(f"\n{len(promised) - bad} of {len(promised)} as promised")
    return bad


def processor() -> str:
    """As the system names it."""
    from nhwc_conv import _doctor  # here, since most of those who print tables need no library

    return _doctor.processor()[0]


def keep(name: str, lines: list[Line], **more) -> None:
    """Writes the lines to docs/reliability/<name>.json, from which report.py makes the page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    content = {
        "date": date.today().isoformat(),
        "processor": processor(),
        "lines": [asdict(line) for line in lines],
        **more,
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
