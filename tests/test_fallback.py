"""Without the extension: one clear warning, and the same ops."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

USE = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    {before}
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


def run(before="pass", **environment):
    clean = {k: v for k, v in os.environ.items() if k != "NHWC_CONV_DISABLE_EXT"}
    done = subprocess.run(
        [sys.executable, "-c", USE.format(before=before)], capture_output=True, text=True, cwd=ROOT,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_disabled_on_purpose():
    out = run(NHWC_CONV_DISABLE_EXT="1")
    assert out.count("NHWC_CONV_DISABLE_EXT") == 2 and "NumPy" in out


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("ImportError('undefined symbol: aoti_torch_nonsense')", "undefined symbol: aoti_torch_nonsense"),
        ("ModuleNotFoundError('no', name='nhwc_conv._C')", "it is not built"),
    ],
)
def test_an_extension_that_does_not_load(raised, said):
    before = f"""
    import sys
    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name == "nhwc_conv._C":
                raise {raised}
    sys.meta_path.insert(0, Refuse())"""
    assert run(before.strip()).count(said) == 2
