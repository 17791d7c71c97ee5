"""What is said twice of the project, since tools read it in two places."""

import re

import pytest
from conftest import ROOT

import nhwc_conv


def texts(pattern, *paths):
    return [re.search(pattern, (ROOT / path).read_text(), re.MULTILINE).group(1) for path in paths]


def test_one_version():
    """The package reads it from _extension.py; a citation cannot, and the changes tell of what is released."""
    assert texts(r"^version: (.*)$", "CITATION.cff") == [nhwc_conv.__version__]
    assert texts(r"^## \[(\d.*)\] - ", "CHANGELOG.md") == [nhwc_conv.__version__]


def test_one_date():
    first, second = texts(r"^date-released: (.*)$", "CITATION.cff") + texts(
        r"^## \[\d.*\] - (.*)$", "CHANGELOG.md"
    )
    assert first == second and re.fullmatch(r"\d{4}-\d\d-\d\d", first)


def test_the_changes_keep_their_form():
    """Of keepachangelog.com: what is not released first, then versions, and kinds of changes that it knows."""
    headings = re.findall(r"^(#+) (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == [("#", "Changelog"), ("##", "[Unreleased]")]
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for level, text in headings[2:]:
        assert text in kinds if level == "###" else re.fullmatch(r"\[\d+\.\d+\.\d+\] - [\d-]{10}", text)


def test_one_oldest_torch():
    """That the package asks for, that setup.py compiles for, and that wheels are built and tried with."""
    found = texts(r"torch[>=]=(\d+\.\d+)", "pyproject.toml", ".github/cibuildwheel.toml")
    found += texts(r'^OLDEST_TORCH = "(\d+\.\d+)\.0"', "verify/wheels.py")
    (compiled,) = texts(r'"TORCH_TARGET_VERSION", "0x(\w{4})0{12}"', "setup.py")
    assert {*found, f"{int(compiled[:2], 16)}.{int(compiled[2:], 16)}"} == {found[0]}


@pytest.mark.parametrize("tool", ["ruff", "clang-format", "mypy"])
def test_one_version_of_each_tool(tool):
    first, second = texts(rf'"({tool}==[^"]+)"', "Makefile", "pyproject.toml")
    assert first == second


def test_commits_are_checked_as_make_check_does():
    recipe = texts(r"^check:.*\n((?:\t.*\n)+)", "Makefile")[0]
    commands = re.findall(r"\$\(BIN\)/(.*?)(?: \.)?$", recipe, re.MULTILINE)
    hooks = re.findall(r"entry: (.*?)(?: \})?$", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert len(commands) == 4 and sorted(hooks) == sorted(commands)


def test_the_site_is_built_by_the_same_tools():
    """By `make docs`, and where somebody installs the extra."""
    installed, extra = texts(r"^\.venv/installed-docs.*\n\t\$\(PIP\) (.*)$", "Makefile") + texts(
        r"^docs = \[(.*)\]", "pyproject.toml"
    )
    assert installed.replace('"', "").split() == extra.replace('"', "").split(", ")
