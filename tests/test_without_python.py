"""The library by itself, as a C++ program loads it: ops without the Python package, and where their limits are."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, SHORT_OPS

from nhwc_conv import _extension, _native
from nhwc_conv._ops import schema

pytestmark = pytest.mark.needs_extension
LIBRARY = _native.PATH


@pytest.mark.parametrize("name", schema.SCHEMAS)
def test_schemas_of_installations_without_the_extension_are_the_same(name):
    defined = getattr(torch.ops.nhwc_conv, name).default
    assert torch._C.parse_schema(f"nhwc_conv::{name}{schema.SCHEMAS[name]}") == defined._schema


def test_every_op_of_the_library_is_in_python():
    names = {name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if "nhwc_conv::" in name}
    assert names == {*schema.SCHEMAS, *schema.ATEN_SCHEMAS, *SHORT_OPS}


@pytest.mark.skipif(torch.__version__ < (2, 12), reason="schemas in C++ have no tags before torch 2.12")
@pytest.mark.parametrize("name", [*schema.SCHEMAS, *schema.ATEN_SCHEMAS])
def test_ops_are_tagged(name):
    assert getattr(torch.ops.nhwc_conv, name).default.tags == [torch.Tag.pt2_compliant_tag]


def run_python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


# Python stands for the C++ program here: nothing is imported but torch.
ALONE = """
import sys, torch
import torch.nn.functional as F
torch.ops.load_library(sys.argv[1])
ops = torch.ops.nhwc_conv
x, w, bias = torch.randn(2, 9, 8, 4), torch.randn(3, 3, 2, 6), torch.randn(6)

def error(call):
    try:
        call()
    except RuntimeError as error:
        return str(error)
"""
ALONE_RESULTS = """
for dtype in (torch.float32, torch.float64):
    tensors = [t.to(dtype) for t in (x, w, bias)]
    image, kernel = tensors[0].permute(0, 3, 1, 2), tensors[1].permute(3, 2, 0, 1)
    expected = F.conv2d(image, kernel, tensors[2], 2, 1, 1, 2)
    torch.testing.assert_close(ops.conv2d(*tensors, 2, 1, 1, 2), expected.permute(0, 2, 3, 1))
    packed = ops.pack_weight(tensors[1], 2)
    y = ops.conv2d_packed(tensors[0], packed, w.shape, tensors[2], 2, 1, 1, 2)
    assert torch.equal(y, ops.conv2d(*tensors, 2, 1, 1, 2))
    grads = torch.ops.aten.convolution_backward(
        torch.ones_like(expected), image, kernel, [6], [2, 2], [1, 1], [1, 1], False, [0, 0], 2, [True, True, False]
    )
    grad = torch.ones_like(y)
    torch.testing.assert_close(ops.conv2d_input(grad, tensors[1], (9, 8), 2, 1, 1, 2), grads[0].permute(0, 2, 3, 1))
    torch.testing.assert_close(ops.conv2d_weight(grad, tensors[0], (3, 3), 2, 1, 1, 2), grads[1].permute(2, 3, 1, 0))
print("same")
"""


def test_ops_by_themselves():
    done = run_python(ALONE + ALONE_RESULTS, LIBRARY)
    assert done.stdout == "same\n", done.stderr


ALONE_TYPES = """
KNOWN = "float32, float64, bfloat16 or float16"
calls = {
    "x": lambda: ops.conv2d(x.int(), w.int(), None, 1, 0, 1, 2),
    "grad": lambda: ops.conv2d_input(torch.randn(2, 7, 6, 6).int(), w.int(), (9, 8), 1, 0, 1, 2),
    "grad ": lambda: ops.conv2d_weight(torch.randn(2, 7, 6, 6).int(), x.int(), (3, 3), 1, 0, 1, 2),
}
for name, call in calls.items():
    assert error(call).startswith(f"expected {name.strip()} to be {KNOWN}, but got int32: "), error(call)
    assert "Python package" in error(call)
assert f"w to be {KNOWN}" in error(lambda: ops.pack_weight(w.int()))
print("refused")
"""


def test_other_types_are_refused():
    done = run_python(ALONE + ALONE_TYPES, LIBRARY)
    assert done.stdout == "refused\n", done.stderr


ALONE_GRADIENTS = """
grad, packed = torch.randn(2, 7, 6, 6), ops.pack_weight(w, 2)
calls = {
    "im2col": lambda x, w, bias: ops.im2col(x, w, bias, 1, 0, 1, 2),
    "matmul": lambda x, w, bias: ops.matmul(x, w, bias, 1, 0, 1, 2),
    "winograd": lambda x, w, bias: ops.winograd(x, w, bias, 1, 0, 1, 2),
    "conv2d": lambda x, w, bias: ops.conv2d(x, w, bias, 1, 0, 1, 2),
    "conv2d_input": lambda x, w, bias: ops.conv2d_input(grad * bias, w, (9, 8), 1, 0, 1, 2),
    "conv2d_weight": lambda x, w, bias: ops.conv2d_weight(grad * bias, x, (3, 3), 1, 0, 1, 2),
    "pack_weight": lambda x, w, bias: ops.pack_weight(w, 2)[32:],  # behind the header: that knows which w it was
    "conv2d_packed": lambda x, w, bias: ops.conv2d_packed(x, packed, w.shape, bias, 1, 0, 1, 2),
}
READS_NOT = {("conv2d_input", 0), ("conv2d_weight", 1), ("pack_weight", 0), ("pack_weight", 2), ("conv2d_packed", 1)}
for name, call in calls.items():
    for index in range(3):
        tensors = [x, w, bias]
        expected = call(*tensors)
        for leaf in (True, False):
            tensors[index] = tensors[index].detach().requires_grad_()
            tensors[index] = tensors[index] if leaf else tensors[index].clone()
            said = error(lambda: call(*tensors))
            if (name, index) in READS_NOT:
                assert said is None
                continue
            assert said.startswith(f"nhwc_conv::{name} was called on a tensor of size ["), said
            assert "requires grad" in said and "Python package" in said and "NoGradGuard" in said
            with torch.no_grad():
                assert torch.equal(call(*tensors), expected)
            with torch.inference_mode():
                assert torch.equal(call(*tensors), expected)
print("refused")
"""


def test_gradients_are_refused():
    done = run_python(ALONE + ALONE_GRADIENTS, LIBRARY)
    assert done.stdout == "refused\n", done.stderr


THEN_THE_PACKAGE = """
import nhwc_conv
y = ops.conv2d(x.requires_grad_(), w, None, 1, 0, 1, 2).sum().backward()
assert x.grad.abs().sum() > 0
assert ops.conv2d(x.int(), w.int(), None, 1, 0, 1, 2).dtype == torch.int32
print("imported")
"""


def test_the_package_takes_over_a_library_that_is_loaded():
    done = run_python(ALONE + THEN_THE_PACKAGE, LIBRARY)
    assert done.stdout == "imported\n", done.stderr


CHOICE = """
assert "NHWC_CONV_ISA is 'avx9000', which is not usable here; usable: " in error(lambda: ops.conv2d(x, w, groups=2))
import ctypes
library = ctypes.CDLL(sys.argv[1])
text = ctypes.c_char_p()
assert library.nhwc_conv_instruction_set(ctypes.byref(text)) == 1 and b"avx9000" in text.value
assert library.nhwc_conv_set_instruction_set(b"avx9001", ctypes.byref(text)) == 2 and b"'avx9001'" in text.value
assert library.nhwc_conv_set_instruction_set(b"baseline", ctypes.byref(text)) == 0
assert library.nhwc_conv_instruction_set(ctypes.byref(text)) == 0 and text.value == b"baseline"
assert ops.conv2d(x, w, groups=2).shape == (2, 7, 6, 6)
print("chosen")
"""


def test_a_bad_instruction_set_is_reported_by_the_ops():
    done = run_python(ALONE + CHOICE, LIBRARY, NHWC_CONV_ISA="avx9000")
    assert done.stdout == "chosen\n", done.stderr


WINOGRAD = """
x, w = torch.randn(1, 56, 56, 64), torch.randn(3, 3, 64, 64)
print(torch.equal(ops.conv2d(x, w), ops.winograd(x, w)))
"""


@pytest.mark.parametrize("flag", ["0", "1"])
def test_winograd_is_chosen_by_the_environment(flag):
    done = run_python(ALONE + WINOGRAD, LIBRARY, NHWC_CONV_WINOGRAD=flag)
    assert done.stdout == f"{flag == '1'}\n", done.stderr


@pytest.mark.parametrize("first", ["torch.ops.load_library(sys.argv[1])", "import nhwc_conv"])
def test_a_second_copy_is_refused_and_ends_no_process(first, tmp_path):
    copy = shutil.copy(LIBRARY, tmp_path / LIBRARY.name)
    code = f"import sys, torch\n{first}\n" + (
        "import nhwc_conv" if "load" in first else
        "from nhwc_conv._native import Native\nfrom pathlib import Path\nNative(Path(sys.argv[1]))"
    )  # fmt: skip
    done = run_python(code, copy)
    assert done.returncode == 1 and "RuntimeError: the ops of nhwc_conv are defined already" in done.stderr, (
        done
    )


def test_arguments_of_the_c_interface():
    with pytest.raises(OverflowError):
        _extension.module.explain(
            "forward", "auto", "float32", (1, 2**63, 4, 4), (1, 1, 4, 4), (1,), (0,), (1,), 1, 0
        )
    with pytest.raises(ValueError, match="int8"):
        _extension.module.fma_peak("int8", 0.01)
    assert _extension.module.fma_peak("float64", 0.01) > 0
