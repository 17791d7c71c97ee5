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


def test_one_oldest_torch():
    """That the package asks for, that setup.py compiles for, and that wheels are built and tried with."""
    found = texts(r"torch[>=]=(\d+\.\d+)", "pyproject.toml", ".github/cibuildwheel.toml")
    found += texts(r'^OLDEST_TORCH = "(\d+\.\d+)\.0"', "verify/wheels.py")
    (compiled,) = texts(r'"TORCH_TARGET_VERSION", "0x(\w{4})0{12}"', "setup.py")
    assert {*found, f"{int(compiled[:2], 16)}.{int(compiled[2:], 16)}"} == {found[0]}


@pytest.mark.parametrize("tool", ["ruff", "clang-format", "mypy"])
def test_one_version_of_each_tool(tool):
    first, second = texts(rf'"({tool}==[^"]+)"', "Makefile", "pyproject.toml")
    assert first == second and f"entry: {tool}" in (ROOT / ".pre-commit-config.yaml").read_text()
