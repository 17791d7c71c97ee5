"""torch.export with symbolic batch and image sizes, saved and loaded; and a compiled package, also run elsewhere."""

import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from test_compile import SIZES, Net, image
from torch import nn
from torch.export import Dim

from nhwc_conv import Conv2d, NHWCConv2d

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning"
    ),  # of torch.export and Inductor, about themselves
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]


class Unbatched(nn.Module):
    """[H, W, C] images, padded by each rule."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        paddings = "same", "same_lower", (1, 0, 2, 1), "valid"
        self.layers = nn.ModuleList([NHWCConv2d(3, 3, (2, 3), stride=(1, 2), padding=p) for p in paddings])

    def forward(self, x):
        return [layer(x) for layer in self.layers]


def ops_of(program):
    return [str(n.target) for n in program.graph.nodes if "nhwc_conv" in str(n.target)]


def round_trip(program, folder):
    torch.export.save(program, folder / "model.pt2")
    return torch.export.load(folder / "model.pt2")


@pytest.mark.parametrize("strict", [False, True])
def test_export_of_any_size(strict, tmp_path):
    model = Net().double().eval()
    # As with torch.nn.Conv2d, no result may be of one pixel: the strides of such a dimension are free.
    sizes = {0: Dim("batch", min=1), 1: Dim("height", min=3), 2: Dim("width", min=3)}
    program = torch.export.export(model, (image((2, 16, 18)),), dynamic_shapes=(sizes,), strict=strict)
    assert ops_of(program) == [f"nhwc_conv.{op}.default" for op in ("conv2d", "conv2d", "conv2d_input")]
    loaded = round_trip(program.run_decompositions(), tmp_path).module()
    for size in [*SIZES, (1, 3, 4), (1, 40, 3)]:
        torch.testing.assert_close(loaded(image(size)), model(image(size)))


def test_export_of_every_padding(tmp_path):
    model = Unbatched().double().eval()
    sizes = {0: Dim("height", min=3), 1: Dim("width", min=5)}
    program = torch.export.export(model, (image((6, 7)),), dynamic_shapes=(sizes,))
    loaded = round_trip(program, tmp_path).module()
    for size in ((6, 7), (3, 5), (9, 6), (5, 12)):
        for out, expected in zip(loaded(image(size)), model(image(size)), strict=True):
            assert torch.equal(out, expected)


def test_export_for_training_keeps_the_op_differentiable():
    model = Net().double()
    exported = torch.export.export(model, (image((2, 8, 8)),)).module()
    x = image((2, 8, 8))
    grads = [torch.autograd.grad(m(x).pow(2).sum(), list(m.parameters())) for m in (exported, model)]
    torch.testing.assert_close(*grads)
    assert all(g.abs().max() > 0 for g in grads[0][:2])


RUN = """
import sys, torch
import nhwc_conv  # the package calls its ops by name
model = torch._inductor.aoti_load_package(sys.argv[1])
for x, y in torch.load(sys.argv[2]):
    torch.testing.assert_close(model(x), y)
print("same")
"""


@pytest.mark.needs_extension
def test_compiled_package(tmp_path):
    """AOTInductor: built here, run here and in a process that has never seen the model."""
    torch.manual_seed(0)
    model = nn.Sequential(Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), Conv2d(4, 2, 1)).eval()
    inputs = [torch.randn(n, 3, h, w) for n, h, w in SIZES[:4]]
    sizes = {0: Dim("batch", min=1), 2: Dim("height", min=3), 3: Dim("width", min=3)}
    with torch.no_grad():
        program = torch.export.export(model, (inputs[0],), dynamic_shapes=(sizes,))
        path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "package.pt2"))
        package = torch._inductor.aoti_load_package(path)
        expected = [model(x) for x in inputs]
        for x, y in zip(inputs, expected, strict=True):
            torch.testing.assert_close(package(x), y)
    torch.save(list(zip(inputs, expected, strict=True)), tmp_path / "expected.pt")
    done = subprocess.run(
        [sys.executable, "-c", RUN, path, str(tmp_path / "expected.pt")],
        capture_output=True, text=True, cwd=ROOT, timeout=300,
    )  # fmt: skip
    assert done.stdout == "same\n", done.stderr
