"""Prepacked layers in torch.export and AOTInductor: no packing is baked, so it is of no one machine or moment."""

import subprocess
import sys

import pytest
import torch
from conftest import DISABLED, ROOT, instruction_set
from test_export import ops_of, pytestmark, round_trip  # noqa: F401
from torch import nn
from torch.export import Dim

import nhwc_conv

SIZES = {0: Dim("batch", min=1), 2: Dim("height", min=5), 3: Dim("width", min=5)}
PACKED = "nhwc_conv.conv2d_packed.default"


class Model(nn.Module):
    """Both layers, dense, by Winograd's algorithm, depthwise, and of few outputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nhwc_conv.Conv2d(3, 32, 3, stride=2, padding=1),
            nhwc_conv.nn.FusedConv2d(32, 33, 3, padding=1, activation="relu"),
            nhwc_conv.Conv2d(33, 33, 3, padding="same", groups=33),
        )
        self.head = nhwc_conv.NHWCConv2d(33, 3, 1)
        self.eval()

    def forward(self, x):
        return self.head(self.features(x).relu().permute(0, 2, 3, 1))


def inputs():
    return [torch.randn(n, 3, h, w) for n, h, w in ((2, 30, 31), (1, 5, 9), (3, 17, 8))]


def exported(model, strict=False):
    with torch.no_grad():
        return torch.export.export(model, (inputs()[0],), dynamic_shapes=(SIZES,), strict=strict)


def assert_same(package, model):
    with torch.no_grad():
        for x in inputs():
            torch.testing.assert_close(package(x), model(x))


def doubled():
    """Another model, and its state."""
    model = Model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model, model.state_dict()


@pytest.mark.parametrize("strict", [False, True])
def test_a_program_has_no_packing(strict, tmp_path):
    plain = exported(Model(), strict)
    assert set(ops_of(plain)) == {"nhwc_conv.conv2d.default", PACKED}  # without a packing, for its activation
    program = exported(nhwc_conv.prepack(Model()), strict)
    assert ops_of(program) == [PACKED] * 4
    assert [t.numel() for t in program.constants.values()] == [0] * 4
    other, state = doubled()
    for module in (program.module(), round_trip(program.run_decompositions(), tmp_path).module()):
        assert_same(module, Model())
        module.load_state_dict(state)
        assert_same(module, other)


def poison(module):
    """What the module of a program has packed, NaN from now on."""
    for packing in module._packings.values():
        packing.tensor[32:] = torch.nan


@pytest.mark.parametrize("strict", [False, True])
def test_a_program_is_packed_where_it_runs(strict, isa, tmp_path):
    program = exported(nhwc_conv.prepack(Model()), strict)
    other, state = doubled()
    for module in (program.module(), round_trip(program, tmp_path).module()):
        assert nhwc_conv.prepack(module) is module
        assert len(module._packings) == 4
        assert_same(module, Model())
        if not DISABLED:
            poison(module)
            with torch.no_grad():
                assert module(inputs()[0]).isnan().all()
        module.load_state_dict(state)
        assert_same(module, other)
        nhwc_conv.prepack(module)
        assert_same(module, other)


def test_a_packed_program_after_a_fused_step():
    module = nhwc_conv.prepack(exported(nhwc_conv.prepack(Model())).module())
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(module.parameters(), lr=0.1, fused=True).step()
    other = Model()
    other.load_state_dict(module.state_dict())
    assert_same(module, other)


@pytest.mark.needs_extension
def test_a_packed_program_on_other_instruction_sets():
    extension = nhwc_conv._extension.module
    module = nhwc_conv.prepack(exported(nhwc_conv.prepack(Model())).module())
    for name in extension.instruction_sets():
        with instruction_set(name):
            assert_same(module, Model())


def test_a_converted_model():
    layers = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding="same")
    original = nn.Sequential(*layers).eval()
    model = nhwc_conv.convert(original, inference=True, example=inputs()[0])
    program = exported(model)
    assert ops_of(program) == [PACKED] * 2
    assert_same(program.module(), original)
    assert_same(torch.compile(nhwc_conv.prepack(program.module()), backend="aot_eager"), original)


def test_a_program_that_records_gradients_raises():
    """It has none; silence would be wrong."""
    module = exported(nhwc_conv.prepack(Model())).module()
    with pytest.raises(RuntimeError, match="conv2d_packed has no gradient"):
        module(inputs()[0])


def test_exported_with_gradients_it_is_plain():
    program = torch.export.export(nhwc_conv.prepack(Model()), (inputs()[0],))
    assert set(ops_of(program)) == {"nhwc_conv.conv2d.default"}


RUN = """
import sys, torch
import nhwc_conv
extension = nhwc_conv._extension.module
for name in extension.instruction_sets():
    extension.set_instruction_set(name)
    package = torch._inductor.aoti_load_package(sys.argv[1])
    for x, y in torch.load(sys.argv[2]):
        torch.testing.assert_close(package(x), y)
    print(name)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A model, the path of its package, and of a file of inputs with their results."""
    folder = tmp_path_factory.mktemp("package")
    model = nhwc_conv.prepack(Model())
    with torch.no_grad():
        path = torch._inductor.aoti_compile_and_package(
            exported(model), package_path=str(folder / "model.pt2")
        )
        torch.save([(x, model(x)) for x in inputs()], folder / "calls.pt")
    return model, path, folder / "calls.pt"


@pytest.mark.needs_extension
def test_a_package_runs_on_every_instruction_set(package):
    """Compiled on the best of this machine, in a process that has never seen the model."""
    _, path, calls = package
    done = subprocess.run(
        [sys.executable, "-c", RUN, path, str(calls)], capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert tuple(done.stdout.split()) == nhwc_conv._extension.module.instruction_sets(), done.stderr


@pytest.mark.needs_extension
def test_a_package_with_other_weights(package):
    model, path, _ = package
    loaded = torch._inductor.aoti_load_package(path)
    assert_same(loaded, model)
    _, state = doubled()
    constants = {name: state[name] for name in loaded.get_constant_fqns()}  # the smallest tensors are none
    loaded.load_constants(constants, check_full_update=True)
    other = Model()
    other.load_state_dict(constants, strict=False)
    assert_same(loaded, other)
