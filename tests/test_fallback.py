"""Without the extension: one clear warning, and the same ops."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

USE = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import nhwc_conv, torch
    from nhwc_conv import _extension
    ours = [w for w in caught if "nhwc_conv" in str(w.message)]
    assert not _extension.available
    for name in ("im2col", "matmul", "conv2d"):
        x = torch.randn(2, 5, 6, 4, dtype=torch.float64, requires_grad=True)
        w = torch.randn(3, 3, 2, 8, dtype=torch.float64, requires_grad=True)
        b = torch.randn(8, dtype=torch.float64, requires_grad=True)
        op = getattr(torch.ops.nhwc_conv, name)
        y = op(x, w, b, 2, [1, 0, 2, 1], [1, 2], 2)
        image = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (2, 1, 1, 0))
        z = torch.nn.functional.conv2d(image, w.permute(3, 2, 0, 1), b, 2, 0, (1, 2), 2).permute(0, 2, 3, 1)
        torch.testing.assert_close(y, z)
        for a, c in zip(*(torch.autograd.grad(t.pow(3).sum(), (x, w, b)) for t in (y, z))):
            torch.testing.assert_close(a, c)
    ours = [w for w in caught if "nhwc_conv" in str(w.message)]
    assert len(ours) == 1 and ours[0].category is RuntimeWarning, ours
    print(ours[0].message)
    print(nhwc_conv.show_config())
"""


def run(folder=ROOT, **environment):
    clean = {k: v for k, v in os.environ.items() if k != "NHWC_CONV_DISABLE_EXT"}
    done = subprocess.run(
        [sys.executable, "-c", USE], capture_output=True, text=True, cwd=folder,
        env={**clean, "PYTHONPATH": str(folder), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_disabled_on_purpose():
    out = run(NHWC_CONV_DISABLE_EXT="1")
    assert out.count("NHWC_CONV_DISABLE_EXT") == 2 and "NumPy" in out


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no library", "does not load: "), (b"", "file too short"), (None, "it is not built")],
)
def test_an_extension_that_does_not_load(content, said, tmp_path):
    package = tmp_path / "nhwc_conv"
    shutil.copytree(ROOT / "nhwc_conv", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    if content is not None:
        (package / "libnhwc_conv.so").write_bytes(content)
    assert run(tmp_path).count(said) == 2


def test_sources_that_hide_the_installed_package_say_so(tmp_path):
    sources, installed = tmp_path / "sources", tmp_path / "installed"
    shutil.copytree(
        ROOT / "nhwc_conv", sources / "nhwc_conv", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    (installed / "nhwc_conv").mkdir(parents=True)
    (installed / "nhwc_conv" / "libnhwc_conv.so").write_bytes(b"")
    out = run(sources, PYTHONPATH=os.pathsep.join(map(str, (sources, installed))))
    assert out.count(f"hides {installed / 'nhwc_conv'}: run Python in another folder") == 2
