"""The documents: the list of them names all, and their links lead somewhere."""

import re

import pytest
from conftest import ROOT

DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"
DOCUMENTS = [
    page
    for pattern in ("*.md", "csrc/**/*.md", "docs/**/*.md", "examples/**/*.md", "verify/**/*.md")
    for page in sorted(ROOT.glob(pattern))
]
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


def anchors(text):
    """Of the headings of a page, as GitHub makes them."""
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_index_names_every_document():
    named = {
        (DOCS / target).resolve()
        for target in re.findall(r"^\| \[[\w.]+\]\(([^)]+)\)", INDEX.read_text(), re.MULTILINE)
    }
    pages = {page for page in DOCS.glob("*.md") if page != INDEX}
    folders = {page for page in DOCS.glob("*/README.md")}
    assert pages and folders and named >= pages | folders


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target, anchor in LINK.findall(document.read_text()):
        page = (document.parent / target).resolve() if target else document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page.read_text()), f"{target}#{anchor}"
