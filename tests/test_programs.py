"""Convolutions that follow each other by one op."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nhwc_conv
from nhwc_conv.nn import FusedConv2d
from nhwc_conv.nn.program import Program

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")


class Block(nn.Module):
    """Two branches of convolutions that meet twice, and one result that is read behind them, too."""

    def __init__(self, c=8):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(c, c, k, padding=k // 2) for k in (1, 3, 1))
        self.d = nn.Conv2d(c, c, 3, padding=1, groups=c)

    def forward(self, x):
        a = F.relu(self.a(x))
        b = F.silu(self.b(a))
        d = F.relu(self.d(b) + a)
        return (self.c(d) + x) * b


def spied(monkeypatch):
    """The numbers of steps that the op has done."""
    from nhwc_conv.nn import program

    calls, op = [], program.convolve_program

    def call(tensors, packed, *rest):
        calls.append(len(packed))
        return op(tensors, packed, *rest)

    monkeypatch.setattr(program, "convolve_program", call)
    return calls


def made(dtype=torch.float32, **arguments):
    torch.manual_seed(0)
    model, x = Block(**arguments).to(dtype).eval(), torch.randn(2, 8, 7, 9).to(dtype)
    return model, nhwc_conv.convert(model, inference=True, example=x, strict=True), x


def one_by_one(model, x):
    """By the layers: a gradient might be recorded."""
    with torch.enable_grad():
        return model(x).detach()


@pytest.mark.needs_extension
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_bits_and_formats_are_those_of_the_layers(dtype, channels_last, isa, monkeypatch):
    _, ours, x = made(dtype)
    ours = copy.deepcopy(ours)
    nhwc_conv.prepack(ours)  # for this instruction set
    calls = spied(monkeypatch)
    for image in (x, x[:1], x[..., :5], x[0]):
        if channels_last and image.dim() == 4:
            image = image.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            found = ours(image)
            layers = ours.a(image), ours.program  # they are there under their names
            assert isinstance(layers[1], Program)
            ours.a.register_forward_hook(lambda *_: None)
            expected = ours(image)
            ours.a._forward_hooks.clear()
        assert torch.equal(found, expected) and found.stride() == expected.stride()
    assert calls == [4] * 4


@pytest.mark.needs_extension
def test_who_looks_sees_layers(monkeypatch):
    model, ours, x = made()
    calls = spied(monkeypatch)
    with torch.no_grad():
        expected = ours(x)
        assert calls == [4]
        seen = []
        for layer in (ours.a, ours.b):
            handle = layer.register_forward_hook(lambda *_: seen.append(1))
            torch.testing.assert_close(ours(x), expected)
            handle.remove()
        assert seen == [1, 1] and calls == [4]
        with torch.profiler.profile() as profile:
            ours(x)
        assert sum(event.count for event in profile.key_averages() if "nhwc_conv" in event.key) == 4
        with torch.autocast("cpu", torch.bfloat16):
            ours(x)
        torch.func.vmap(ours)(x[:, None])
        assert calls == [4]
    torch.testing.assert_close(one_by_one(ours, x), expected)
    ours(x).sum().backward()  # folded or not, parameters may be trained
    assert calls == [4] and ours.a.weight.grad is not None


def test_revert_gives_the_layers_back():
    model, ours, x = made()
    with torch.no_grad():
        reverted = nhwc_conv.revert(copy.deepcopy(ours))
        assert not any(isinstance(module, (Program, nhwc_conv.Conv2d)) for module in reverted.modules())
        torch.testing.assert_close(reverted(x), model(x))
        torch.testing.assert_close(torch.jit.script(reverted)(x), model(x))
        torch.testing.assert_close(ours(x), model(x))


def test_a_model_that_has_a_program_of_its_own():
    class Named(Block):
        program = "mine"

    model, x = Named().eval(), torch.randn(1, 8, 5, 6)
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True)
    assert ours.program == "mine" and any(isinstance(module, Program) for module in ours.modules())
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x))


def test_copies_and_names():
    model, ours, x = made()
    assert ours.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        expected = ours(x)
        for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            nhwc_conv.prepack(other)
            torch.testing.assert_close(other(x), expected)
        compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), expected)
        program = torch.export.export(ours, (x,))
        torch.testing.assert_close(program.module()(x), expected)
        theirs = nhwc_conv.revert(ours)
        assert not any(isinstance(m, FusedConv2d) for m in theirs.modules())
        torch.testing.assert_close(theirs(x), expected)


@pytest.mark.needs_extension
def test_a_program_that_does_not_fit():
    op = torch.ops.nhwc_conv._convolve_program
    x, packed = torch.randn(1, 5, 5, 4), torch.ops.nhwc_conv.pack_weight(torch.randn(1, 1, 4, 4))
    one = 1 | 1 << 16 | 1 << 32 | 1 << 48
    step, numbers = [0, -1, -1, 0, one, 0, 1, 0, 0, -1, 0], torch.zeros(2, dtype=torch.float64)
    rest = [0, 0, -1, 0]

    def run(code, outputs=(0,), numbers=numbers):
        return op([x], [packed], [], torch.tensor(code), numbers, list(outputs))

    assert torch.equal(run(step)[0], nhwc_conv.ops.conv2d_packed(x, packed, [1, 1, 4, 4]))
    for bad, place in (
        ([1, *step[1:]], 1),
        ([0, 1, *step[2:]], 1),
        ([0, -1, 0, *step[3:]], 0),
    ):
        with pytest.raises(RuntimeError, match=f"tensor {place}"):
            run(bad)
    for code in (step[:-1], [*step, *step], [float(n) for n in step], [[n] for n in step]):
        with pytest.raises(RuntimeError, match="code and numbers of whole steps|code to be a row of int64"):
            run(code)
    for wrong in (numbers.float(), numbers[:1], torch.zeros(4, dtype=torch.float64)[::2]):
        with pytest.raises(RuntimeError, match="numbers to be a row of double|of whole steps"):
            run(step, numbers=wrong)
    for kind, tensor, text in (
        (-11, x, "of kind -11"),
        (-2, x, "tensor -1"),  # which multiplies by what a step without a residual lacks
        (-4, x, "a concatenation of the program reads"),
        (-8, x[0], "expected images"),
        (-5, x[0], "expected images"),
        (-6, x, f"activation={one}"),
        (-1, x[0], "expected images"),
    ):
        with pytest.raises(RuntimeError, match=text):
            op([tensor], [], [], torch.tensor([0, -1, -1, kind, *step[4:]]), numbers, [0])
    for kind, name in ((-7, "avg_pool2d"), (-9, "channel_shuffle")):  # of no pixels; in no groups
        with pytest.raises(RuntimeError, match=f"aten::{name} failed on a tensor of type float"):
            op([x], [], [], torch.tensor([0, -1, -1, kind, 0, 0, 0, *rest]), numbers, [0])
    with pytest.raises(RuntimeError, match="tensor 3"):
        op([x], [], [], torch.tensor([0, -1, -1, -4, 0, 2, *step[6:], 0, 0, 3, 0]), numbers, [0])
    with pytest.raises(RuntimeError, match="expected images"):
        op([x, x[0]], [], [], torch.tensor([0, 1, -1, -8, *step[4:]]), numbers, [0])
    with pytest.raises(RuntimeError, match="expected images of one size and type"):
        op([x, x[:, :4]], [], [], torch.tensor([0, 1, -1, -6, 0, *step[5:]]), numbers, [0])
    with pytest.raises(RuntimeError, match="tensor 0"):
        op([x], [], [], torch.tensor(step), numbers, [0])
    run([*step[:-3], 1, *step[-2:]])  # releases what there is not
    for home in (-2, 1):
        with pytest.raises(RuntimeError, match="stands in one that it does not have"):
            run([*step[:-2], home, 0])
    with pytest.raises(RuntimeError, match="tensor 2"):
        run(step, outputs=(1,))
    with pytest.raises(RuntimeError, match="channels"):
        op([x[..., :3]], [packed], [], torch.tensor(step), numbers, [0])
