"""What `make emulated` makes of pytest's runs, here by the Python that runs this."""

import shlex
import sys

import pytest
from conftest import ROOT

pytest.importorskip("lief")  # of verify/wheels.py
from verify import emulated  # noqa: E402

TESTS = """
import pytest
def test_right(): pass
def test_other(): pass
def test_wrong(): assert False
def test_left_out(): pytest.skip()
def test_without(nothing): pass
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    (folder / "tests").mkdir()
    (folder / "tests/test_some.py").write_text(TESTS)
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    return folder


@pytest.mark.parametrize("arguments, size, result, passed, ok", [
    ("test_some.py -k 'right or other'", "2 tests", "2 passed", 2, True),
    ("test_some.py -k 'right or left'", "2 tests", "1 passed, 1 skipped", 1, True),
    ("test_some.py -k 'right or wrong'", "2 tests", "1 failed, 1 passed", 1, False),
    ("test_some.py -k 'right or without'", "2 tests", "1 passed, 1 error", 1, False),
    ("test_some.py -k left", "1 tests", "1 skipped", 0, False),
    ("test_some.py -k nowhere", "0 tests", "ended by 5", 0, False),
    ("test_gone.py", "0 tests", "ended by 4", 0, False),
])  # fmt: skip
def test_what_is_said_of_a_slice(arguments, size, result, passed, ok, tree, capsys):
    count, line = emulated.run([sys.executable], tree, arguments)
    assert (count, line.what, line.size, line.result, line.ok) == (passed, arguments, size, result, ok)
    assert ("short test summary" in capsys.readouterr().err) is ("failed" in result or "error" in result)


def test_slices_are_of_tests_that_are_there():
    named = [word for arguments in emulated.SLICES for word in shlex.split(arguments) if word.endswith(".py")]
    assert len(named) >= len(emulated.SLICES) == len(set(emulated.SLICES))
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []
