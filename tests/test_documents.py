"""The documents: their lists name all, the reference has every public name, and links lead somewhere."""

import re
from importlib import import_module
from inspect import isroutine

import pytest
from conftest import ROOT

import nhwc_conv
from nhwc_conv._ops import schema

DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"
REFERENCE = DOCS / "reference"
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


def test_the_site_has_every_document_once():
    pages = re.findall(r"^ +- (?:[^:\n]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(pages) == sorted(str(page.relative_to(ROOT)) for page in DOCUMENTS)


def functions_of(module):
    """Those that are written in a module of functions."""
    for name, value in vars(import_module(module)).items():
        if isroutine(value) and value.__module__ == module and name[0] != "_":
            yield f"{module}.{name}"


def public_names():
    """What the reference has an entry for, by its shortest name."""
    modules = {"functional", "nn", "ops", "reference"}  # ops are on a page of their own
    top = set(nhwc_conv.__all__) - modules - {"__version__"}
    yield from (f"nhwc_conv.{name}" for name in top)
    yield from (f"nhwc_conv.nn.{name}" for name in set(nhwc_conv.nn.__all__) - top - {"init"})
    yield from (f"nhwc_conv.keras.{name}" for name in nhwc_conv.keras.__all__)
    yield from functions_of("nhwc_conv.reference")
    yield from (name for name in functions_of("nhwc_conv.nn.init") if name.endswith("_"))


def test_the_reference_has_every_public_name_once():
    text = "".join(page.read_text() for page in sorted(REFERENCE.glob("*.md")))
    assert sorted(re.findall(r"^::: (\S+)$", text, re.MULTILINE)) == sorted(public_names())


@pytest.mark.parametrize("name", sorted(public_names()))
def test_every_public_name_says_what_it_is(name):
    module, _, attribute = name.rpartition(".")
    assert getattr(import_module(module), attribute).__doc__


def test_the_reference_has_every_op_as_it_is():
    block = (REFERENCE / "ops.md").read_text().split("```")[1]
    shown = dict(re.findall(r"^(\w+) *\(([^)]*)\)", block, re.MULTILINE))
    assert list(shown) == list(schema.SCHEMAS)
    for op, signature in shown.items():
        arguments = getattr(schema.ops, op).default._schema.arguments
        names, defaults = [argument.name for argument in arguments], schema.DEFAULTS[op]
        said = [argument.partition("=")[::2] for argument in re.split(r",\s+", signature)]
        assert [name for name, _ in said] == names
        for (_, value), argument, default in zip(said, arguments, defaults, strict=True):
            assert bool(value) == argument.has_default_value()
            assert not value or eval(value) in (default, *(default if isinstance(default, tuple) else ()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target, anchor in LINK.findall(document.read_text()):
        page = (document.parent / target).resolve() if target else document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page.read_text()), f"{target}#{anchor}"
