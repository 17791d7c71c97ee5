"""Memory: what calls leave behind, and what happens where there is too little. `make verify` looks longer."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = [
    pytest.mark.needs_extension,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and limits the address space"),
]


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_memory_is_flat_over_shapes_and_calls():
    out = run(
        "from verify.resources import *\nprint(growth_over_shapes(100), growth_over_calls(3000))",
    )
    shapes, calls = map(int, out.split())
    assert shapes < 4 * 2**20 and calls < 2**20


def test_workspace_is_never_more_than_planned():
    out = run("from verify.resources import workspace\nprint(workspace(20)['more'])")
    assert int(out) == 0


HUGE_PAGES = """
import torch, nhwc_conv
y = torch.ops.nhwc_conv.conv2d(torch.ones(1, 256, 512, 4), torch.ones(1, 1, 4, 16))
address = y.data_ptr() + y.nbytes // 2
inside = False
for line in open("/proc/self/smaps"):
    first, _, rest = line.partition(" ")
    if "-" in first:
        begin, end = (int(part, 16) for part in first.split("-"))
        inside = begin <= address < end
    elif inside and first == "VmFlags:":
        print("hg" in rest.split(), bool((y == 4).all()))
"""


@pytest.mark.skipif(
    not os.path.exists("/sys/kernel/mm/transparent_hugepage"),
    reason="this kernel has no huge pages to ask for",
)
def test_large_results_ask_for_huge_pages():
    assert run(HUGE_PAGES).split() == ["True", "True"]


OUT_OF_MEMORY = """
import mmap, resource, torch, nhwc_conv
ops = torch.ops.nhwc_conv
nhwc_conv.set_flags(winograd=False)  # its workspace is small
x, w, grad = torch.ones(1, 36, 36, 1024), torch.ones(3, 3, 1024, 4096), torch.ones(1, 34, 34, 4096)
small = torch.ones(1, 5, 5, 8), torch.ones(3, 3, 8, 8)
before = ops.conv2d(*small)
large = torch.ones(1).expand(512, 256, 256, 64)
used = int(open("/proc/self/statm").read().split()[0]) * mmap.PAGESIZE
limit = used + 96 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name, call in {
    "result": lambda: ops.conv2d(large, torch.ones(1, 1, 64, 64)),
    "gradient": lambda: ops.conv2d_input(torch.ones(1).expand(512, 256, 256, 64), torch.ones(1, 1, 64, 64), [256, 256]),
    "workspace": lambda: ops.conv2d(x, w),
    "gradient's workspace": lambda: ops.conv2d_input(grad, w, [36, 36]),
    "weight": lambda: ops.conv2d_weight(grad, x, [3, 3]),
    "packed weight": lambda: ops.pack_weight(w),
}.items():
    for _ in range(3):
        try:
            call()
        except RuntimeError as error:
            assert "not enough memory" in str(error), (name, error)
        else:
            raise SystemExit(f"{name}: no exception")
        assert torch.equal(ops.conv2d(*small), before), name
"""


def test_out_of_memory_raises_and_leaves_the_process_usable():
    run(OUT_OF_MEMORY)
