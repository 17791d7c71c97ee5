"""The programs of examples/: those in C++ built and run as their Makefile does."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
from conftest import ROOT

COMPILER = os.environ.get("CXX", "g++").split()[-1]


@pytest.mark.needs_extension
@pytest.mark.skipif(sys.platform != "linux", reason="asks ldd, and links as GNU's linker does")
@pytest.mark.skipif(
    not shutil.which("make") or not shutil.which(COMPILER), reason="no make or no C++ compiler here"
)
def test_programs_without_python(tmp_path):
    done = subprocess.run(
        ["make", "-C", ROOT / "examples/native", f"BUILD={tmp_path}", f"PYTHON={sys.executable}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "conv2d: as aten's\n" in done.stdout and "package: as in Python\n" in done.stdout
    for program in ("call_op", "run_package"):
        needed = subprocess.run(
            ["ldd", tmp_path / program], capture_output=True, text=True, check=True
        ).stdout
        assert "libtorch_cpu" in needed and "libpython" not in needed


@pytest.mark.skipif(not find_spec("keras"), reason="no Keras here")
def test_keras_digits():
    done = subprocess.run(
        [sys.executable, ROOT / "examples/keras_digits.py", "2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    differences = re.search(r"losses differ by (\S+) of their value; .* makes (\S+)", done.stdout)
    ours, rounding = map(float, differences.groups())
    assert len(re.findall(r"losses .* accuracy .* s\n", done.stdout)) == 3
    assert ours <= 16 * rounding
