"""What a newcomer does in an environment with PyTorch and a wheel: runs what pages show, and asks the doctor.

`python -I verify/newcomer.py [PAGE ...]`: with nothing of this checkout on the path but the pages.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

GUIDE = ("docs/guide/finish.md", "docs/guide/transpose.md", "docs/guide/winograd.md")
PAGES = ("README.md", *GUIDE)  # which compile nothing
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[str]:
    """The Python of each block, moved down to its line on the page, so that a traceback names that line."""
    for match in BLOCK.finditer(text):
        yield "\n" * text.count("\n", 0, match.start(1)) + match[1]


def run(page: Path) -> None:
    """The blocks of a page, in order, in one namespace."""
    namespace = {"__name__": page.stem}
    for code in blocks(page.read_text(encoding="utf-8")):
        exec(compile(code, str(page), "exec"), namespace)


def main(pages: list[str]) -> int:
    import torch

    from nhwc_conv import __main__ as command
    from nhwc_conv import _extension

    if not _extension.available:
        sys.exit(f"nhwc_conv has no extension here: {_extension.reason}")
    if Path(sys.prefix).resolve() not in Path(_extension.__file__).resolve().parents:
        sys.exit(f"{_extension.__file__} is not of this environment")
    for page in map(Path, pages or [Path(__file__).parent.parent / page for page in PAGES]):
        torch.manual_seed(0)
        run(page)
        print(f"ran {page.name}", flush=True)
    return command.main(["--doctor"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
