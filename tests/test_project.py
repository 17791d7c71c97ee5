"""What is said twice of the project, since tools read it in two places."""

import re

import pytest
from conftest import ROOT

import nhwc_conv


def texts(pattern, *paths):
    return [re.search(pattern, (ROOT / path).read_text(), re.MULTILINE).group(1) for path in paths]


def test_one_version():
    """The package reads it from _extension.py; a citation cannot."""
    assert texts(r"^version: (.*)$", "CITATION.cff") == [nhwc_conv.__version__]


@pytest.mark.parametrize("tool", ["ruff", "clang-format", "mypy"])
def test_one_version_of_each_tool(tool):
    first, second = texts(rf'"({tool}==[^"]+)"', "Makefile", "pyproject.toml")
    assert first == second and f"entry: {tool}" in (ROOT / ".pre-commit-config.yaml").read_text()
