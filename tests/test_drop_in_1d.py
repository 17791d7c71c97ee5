"""nhwc_conv.Conv1d beside torch.nn.Conv1d: results, gradients, errors, and convert."""

import copy

import drop_ins
import pytest
import torch
from drop_ins import TOLERANCE, check_copies, check_gradients, check_raises_the_same
from spy import OpNames
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import nhwc_conv
from nhwc_conv import Conv1d

CASES = {
    "plain": (8, 6, 3),
    "pointwise": (5, 7, 1, dict(bias=False)),
    "waveform": (1, 40, 10, dict(stride=5)),
    "causal": (4, 8, 2, dict(dilation=16, padding=16)),
    "depthwise": (6, 6, 5, dict(groups=6, padding="same")),
    "groups": (8, 12, 4, dict(groups=4, stride=3, padding=2)),
    "one output": (16, 1, 7, dict(padding=3)),
    "valid": (3, 4, 5, dict(padding="valid", dilation=2)),
    "reflected": (4, 4, 7, dict(padding=3, padding_mode="reflect")),
    "circular": (4, 4, 4, dict(padding="same", padding_mode="circular")),
}


def pair(name, dtype=torch.float64):
    *sizes, options = CASES[name] if len(CASES[name]) == 4 else (*CASES[name], {})
    return drop_ins.pair((nn.Conv1d, Conv1d), dtype, *sizes, **options)


def signal(layer, batch=3, length=50, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, layer.in_channels, length, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_results_are_torchs(name, dtype, isa):
    theirs, ours = pair(name, dtype)
    x = signal(theirs, dtype=dtype)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    drop_ins.check_rows(theirs, ours, x, dtype)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_torchs(name):
    theirs, ours = pair(name)
    x = signal(theirs).requires_grad_()
    check_gradients(theirs, ours, x)
    ours(x).sum().backward()
    assert ours.weight.grad.shape == ours.weight.shape


WRONG = {
    "channels": lambda layer: layer(torch.zeros(1, 5, 9, dtype=torch.float64)),
    "rank": lambda layer: layer(torch.zeros(1, 8, 4, 4, dtype=torch.float64)),
    "dtype": lambda layer: layer(torch.zeros(1, 8, 9)),
    "too short": lambda layer: layer(torch.zeros(1, 8, 2, dtype=torch.float64)),
    "no tensor": lambda layer: layer([1.0]),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_torchs(name):
    check_raises_the_same(WRONG[name], pair("plain"))


@pytest.mark.parametrize("name", WRONG)
def test_errors_of_packed_layers_are_torchs(name):
    theirs, ours = pair("plain")
    with torch.no_grad():
        check_raises_the_same(WRONG[name], (theirs, nhwc_conv.prepack(ours.eval())))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_packed_weights(name, dtype, isa):
    theirs, ours = pair(name, dtype)
    nhwc_conv.prepack(ours.eval())
    exact, x = copy.deepcopy(theirs).double(), signal(theirs, dtype=dtype)
    channels_last = x.transpose(1, 2).contiguous().transpose(1, 2)
    for given in (x, channels_last, x[:, :, ::2], x[0], x[:0]):
        with torch.no_grad(), OpNames() as looking:
            ours(given)  # not by the packing, where somebody looks
        with torch.no_grad(), torch.profiler.profile() as profile:
            out = ours(given)
        ran = {event.key for event in profile.key_averages()}
        assert out.is_contiguous() and "nhwc_conv::_convolve_packed" in ran
        assert "aten::clone" not in ran or ours.padding_mode != "zeros"  # made so
        assert "nhwc_conv::_convolve_packed" not in looking.seen
        expected = exact(given.double())
        torch.testing.assert_close(out.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    out.add_(ours.weight.sum())  # no view that autograd would refuse to change
    ours(x).sum().backward()
    assert ours.weight.grad is not None


def test_a_packed_layer_sees_other_weights():
    theirs, ours = pair("groups")
    x = signal(theirs)
    nhwc_conv.prepack(ours.eval())
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        ours(x)
        ours._packed.tensor[16:] = 0  # behind what it says of itself
        torch.testing.assert_close(ours(x), ours.bias[:, None].expand_as(theirs(x)))  # it is what runs
        for layer in (theirs, ours):
            layer.weight.mul_(3)
        for call in (ours, compiled, copy.deepcopy(ours)):
            torch.testing.assert_close(call(x), theirs(x))
    ours.train()
    assert ours._packed is None
    with pytest.raises(ValueError, match="training mode"):
        nhwc_conv.prepack(ours)


def test_algorithms():
    with pytest.raises(ValueError, match="algorithm='fast'"):
        Conv1d(4, 4, 3, algorithm="fast")
    layer = Conv1d(4, 4, 3, algorithm="winograd")
    assert "algorithm=winograd" in repr(layer) and "algorithm" not in repr(Conv1d(4, 4, 3))
    with pytest.raises(RuntimeError, match="winograd"):  # which has kernels of 3x3 only
        layer(torch.zeros(1, 4, 9))
    x = torch.randn(2, 4, 9)
    for algorithm in ("im2col", "matmul"):
        layer.algorithm = algorithm
        torch.testing.assert_close(layer(x), nn.functional.conv1d(x, layer.weight, layer.bias))


def test_copies_and_compiled_ones_compute_the_same():
    ours = pair("groups")[1]
    check_copies(ours, signal(ours))


def test_from_and_to_torch():
    others = nn.Conv2d(1, 1, 1), nn.LazyConv1d(4, 2)
    drop_ins.check_exchange(Conv1d, pair("groups")[0], others, "im2col")


class Special(nn.Conv1d):
    pass


class Residual(nn.Module):
    """As in a HiFi-GAN, whose layers have a weight_norm."""

    def __init__(self):
        super().__init__()
        self.first = weight_norm(nn.Conv1d(6, 6, 3, padding="same", dilation=3))
        self.second = weight_norm(nn.Conv1d(6, 6, 3, padding=1))

    def forward(self, x):
        return x + self.second(nn.functional.leaky_relu(self.first(nn.functional.leaky_relu(x, 0.1)), 0.1))


@pytest.mark.parametrize("inference", [False, True])
def test_convert_takes_it_and_revert_gives_it_back(inference):
    torch.manual_seed(0)
    model, reports = nn.Sequential(nn.Conv1d(2, 6, 4, 2), Residual(), Special(6, 3, 1)).double().eval(), []
    x = torch.randn(2, 2, 40, dtype=torch.float64)
    expected = model(x)
    example = dict(example=x, inference=True) if inference else {}
    ours = nhwc_conv.convert(copy.deepcopy(model), report=reports.append, **example)
    assert list(reports[0].converted) == ["0", "1.first", "1.second"]
    assert reports[0].left == {"2": "Special is a subclass of torch.nn.Conv1d"}
    assert sum(isinstance(layer, Conv1d) for layer in ours.modules()) == 3
    torch.testing.assert_close(ours(x), expected)
    back = nhwc_conv.revert(ours)
    assert not any(isinstance(layer, Conv1d) for layer in back.modules())
    torch.testing.assert_close(back(x), expected)
