"""python -m nhwc_conv: the table, and the network that learns."""

import numpy as np
import pytest

from nhwc_conv import __main__ as main
from nhwc_conv import _extension
from nhwc_conv._demo import digits, table

NAMES = [
    "F.conv2d", "conv_reference", "conv_naive", "conv_matmul", "conv_im2col",
    "ops.im2col", "ops.matmul", "ops.winograd", "ops.conv2d",
]  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    """The notebook's table on less data, so that seven loops take no time."""
    monkeypatch.setattr(table, "Z_SHAPE", (2, 6, 7, 8))
    monkeypatch.setattr(table, "timed", lambda function: (function(), 1e-3))


def test_table(quick, capsys):
    assert main.main(["--no-training"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for dtype in ("float64", "float32"):
        start = next(i for i, line in enumerate(lines) if dtype in line)
        rows = [line.split()[0] for line in lines[start + 2 : start + 2 + len(NAMES)]]
        assert rows == NAMES
        assert all("[2, 4, 5, 16]" in line for line in lines[start + 2 : start + 2 + len(NAMES)])
    by = "C++" if _extension.available else "NumPy"
    assert sum(f" {by} " in line for line in lines if line.startswith("ops.")) == 8
    assert any("extension: none" in line for line in lines) != _extension.available


def test_a_wrong_result_is_noticed(quick, capsys, monkeypatch):
    right = table.reference.conv_im2col
    monkeypatch.setattr(table.reference, "conv_im2col", lambda Z, W: right(Z, W) * (1 + 1e-6))
    assert main.main(["--no-training"]) == 1
    assert "MISSED: conv_im2col in float64" in capsys.readouterr().err


def test_the_limit_is_near_what_the_notebook_saw():
    limit = table.norm_limit(*table.notebook_data("float64"))
    assert 2e-12 < limit < 1e-11
    assert table.notebook_data("float32")[0].dtype == np.float32


def test_both_networks_start_alike_and_learn(capsys):
    pytest.importorskip("sklearn")
    assert digits.run() == []
    out = capsys.readouterr().out
    assert out.count("epoch ") == digits.EPOCHS and "NHWCConv2d reads" in out


def test_too_little_learning_is_noticed(capsys):
    pytest.importorskip("sklearn")
    assert any("under 97%" in text for text in digits.run(epochs=1))


def test_missing_scikit_learn_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(SystemExit, match="pip install scikit-learn"):
        digits.load()
