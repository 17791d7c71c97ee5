"""The user's guide, and what else has examples: their Python blocks run, in order, in one namespace per page."""

import re

import pytest
import torch
from conftest import DISABLED, ROOT

from verify import newcomer

GUIDE = ROOT / "docs" / "guide"
INDEX = GUIDE / "README.md"
OF_THE_GUIDE = [page for page in sorted(GUIDE.glob("*.md")) if page != INDEX]
PAGES = [ROOT / "README.md", ROOT / "docs" / "how_it_works.md", *OF_THE_GUIDE]
NEEDED = {
    "keras": ("keras",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}  # by pages, beside torch and NumPy
OF_THE_EXTENSION = {"benchmark", "tools"}  # pages that ask for what it does


def test_the_index_names_every_page():
    named = re.findall(r"^\| \[\w+\]\((\w+\.md)\)", INDEX.read_text(), re.MULTILINE)
    assert OF_THE_GUIDE and sorted(named) == [page.name for page in OF_THE_GUIDE]


def test_blocks_keep_their_lines():
    page = "# Title\n\n```python\na = 1\n```\nwords\n```bash\nmake\n```\n```python\nb = 2\n```\n"
    assert list(newcomer.blocks(page)) == ["\n\n\na = 1\n", "\n" * 10 + "b = 2\n"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
# PyTorch's own, from torch.compile, from forward-mode formulas and from torch.onnx.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of Keras about its variables
def test_page_runs(page, tmp_path, monkeypatch):
    text = page.read_text()
    assert "```python" in text
    for package in NEEDED.get(page.stem, ()):
        pytest.importorskip(package)
    if DISABLED and page.stem in OF_THE_EXTENSION:
        pytest.skip("NHWC_CONV_DISABLE_EXT disables the extension that this page asks about")
    monkeypatch.chdir(tmp_path)  # what a page saves
    torch.manual_seed(0)
    newcomer.run(page)
