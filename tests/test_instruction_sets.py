"""Which instruction set runs: the best, or the one that the environment or the setter names."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.needs_extension


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


USE = """
import torch, nhwc_conv
from nhwc_conv._extension import module as extension
torch.ops.nhwc_conv.conv2d(torch.ones(1, 4, 4, 2), torch.ones(3, 3, 2, 3))
print(extension.instruction_set())
"""


def test_environment_chooses_the_instruction_set(isa):
    done = run_python(USE, NHWC_CONV_ISA=isa)
    assert done.stdout.strip() == isa, done.stderr


def test_default_instruction_set_is_the_best():
    from nhwc_conv._extension import module as extension

    done = run_python(USE, NHWC_CONV_ISA="")
    assert done.stdout.strip() == extension.instruction_sets()[0], done.stderr


def test_unsupported_instruction_set_raises():
    from nhwc_conv._extension import module as extension

    done = run_python(USE, NHWC_CONV_ISA="avx9000")
    assert done.returncode == 1 and not done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert all(part in last for part in ("NHWC_CONV_ISA", "avx9000", *extension.instruction_sets())), (
        done.stderr
    )


@pytest.mark.parametrize("name", ["avx9000", "", "AVX2"])
def test_setter_refuses_unknown_instruction_sets(name):
    from nhwc_conv._extension import module as extension

    before = extension.instruction_set()
    with pytest.raises(ValueError, match="baseline"):
        extension.set_instruction_set(name)
    assert extension.instruction_set() == before
