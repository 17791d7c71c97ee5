"""convert(inference=True) of sequences: BatchNorm1d folded, activations and sums done by Conv1d, weights packed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from models import as_trained
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import nhwc_conv
from nhwc_conv import Conv1d
from nhwc_conv.nn import FusedConv1d, FusedConvTranspose1d

X = torch.randn(2, 4, 19, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def converted(model, example=X, **options):
    """(converted model, report), after a check against the original that is independent of convert's own."""
    torch.manual_seed(0)
    model, reports = as_trained(model).double().eval(), []
    before = copy.deepcopy(model.state_dict())
    ours = nhwc_conv.convert(model, inference=True, example=example, report=reports.append, **options)
    with torch.no_grad():
        for x in (example, example.flip(0), example.mT.contiguous().mT, example[..., :17]):
            torch.testing.assert_close(ours(x.clone()), model(x.clone()), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    return ours, reports[0]


def kinds(model):
    return [type(m) for m in model.modules() if isinstance(m, nn.Conv1d | nn.BatchNorm1d | nn.ReLU)]


CONVOLUTIONS = {
    "bias": dict(),
    "no bias": dict(bias=False),
    "strided": dict(stride=2, padding=2),
    "dilated": dict(dilation=2, padding="same"),
    "depthwise": dict(groups=4),
    "circular": dict(padding=1, padding_mode="circular"),
}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_every_convolution_folds(name, affine):
    conv, norm = nn.Conv1d(4, 8, 3, **CONVOLUTIONS[name]), nn.BatchNorm1d(8, eps=0.1, affine=affine)
    ours, report = converted(nn.Sequential(conv, norm, nn.ReLU()))
    assert kinds(ours) == [FusedConv1d] and report.folded == {"1": "0"} and report.fused == {"2": "0"}
    (layer,) = (m for m in ours.modules() if isinstance(m, Conv1d))
    assert layer._packed is not None and not report.fallback and list(report.converted) == ["0"]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("options", [dict(), dict(groups=2, bias=False, output_padding=1)], ids=str)
def test_behind_a_transposed_convolution(options, affine):
    up, norm = nn.ConvTranspose1d(4, 6, 3, 2, **options), nn.BatchNorm1d(6, eps=0.1, affine=affine)
    ours, report = converted(nn.Sequential(up, norm, nn.ReLU()))
    assert report.folded == {"1": "0"} and list(report.converted) == ["0"] and not report.fallback
    assert type(ours.get_submodule("0")) is FusedConvTranspose1d and report.fused == {"2": "0"}


def test_parametrised_convolutions_fold_and_fuse():
    model = nn.Sequential(weight_norm(nn.Conv1d(4, 4, 3)), nn.BatchNorm1d(4), weight_norm(nn.Conv1d(4, 4, 1)))
    ours, report = converted(model.append(nn.ReLU()))
    assert report.folded == {"1": "0"} and report.fused == {"3": "2"}
    assert isinstance(ours.get_submodule("2"), FusedConv1d)


class Of(nn.Module):
    """Two convolutions, a BatchNorm over the channels of both, and what is computed with them."""

    def __init__(self, of, norm=11):
        super().__init__()
        self.a, self.b = nn.Conv1d(4, 6, 3, padding=1), nn.Conv1d(4, 5, 1, bias=False)
        self.bn, self.of, self.scale = nn.BatchNorm1d(norm), of, nn.Parameter(torch.rand(6, 1))
        self.shift = nn.Parameter(torch.rand(()))

    def forward(self, x):
        return self.of(self, x)


def functional(m, x):
    bn = m.bn
    return F.batch_norm(m.a(x), bn.running_mean, bn.running_var, bn.weight, bn.bias)


NORMS = {
    "channels": (lambda m, x: F.silu(m.bn(torch.cat([m.a(x), m.b(x)], 1))), 11, "a, b"),
    "channels from the end": (lambda m, x: m.bn(torch.cat([m.a(x), m.b(x)], -2)), 11, "a, b"),
    "length": (lambda m, x: m.bn(torch.cat([m.a(x), m.a(x).sin()], -1)), 6, "it follows cat, not a convolution"),
    "batch": (lambda m, x: m.bn(torch.cat([m.a(x), m.a(x).sin()], -3)), 6, "it follows cat, not a convolution"),
    "a function": (functional, 6, "a"),
    "seen elsewhere": (
        lambda m, x: m.bn(y := m.a(x)) * y, 6, "the result of the convolution 'a' goes elsewhere too",
    ),
    "after an activation": (lambda m, x: m.bn(F.relu(m.a(x))), 6, "it follows relu, not a convolution"),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_which_norms_fold(name):
    of, channels, told = NORMS[name]
    _, report = converted(Of(of, channels))
    folds = told in ("a", "a, b")
    assert list((report.folded if folds else report.unfolded).values()) == [told] and not report.fallback


@pytest.mark.parametrize("options", [dict(kernel_size=1), dict(kernel_size=3, padding="valid", groups=2)])
def test_in_front_of_a_convolution(options):
    model = nn.Sequential(
        nn.Conv1d(4, 4, 1), nn.GELU(), nn.BatchNorm1d(4, eps=0.1), nn.Conv1d(4, 8, **options)
    )
    ours, report = converted(model)
    assert kinds(ours) == [FusedConv1d, Conv1d] and report.folded == {"2": "3"} and report.fused == {"1": "0"}


@pytest.mark.parametrize("padding", [1, "same"])
def test_not_in_front_of_zeros(padding):
    _, report = converted(nn.Sequential(nn.BatchNorm1d(4), nn.Conv1d(4, 4, 3, padding=padding)))
    assert report.unfolded == {"0": "it follows an input, not a convolution"}


def test_behind_a_linear_layer_it_goes_into_that():
    model = nn.Sequential(nn.Conv1d(4, 2, 3), nn.Flatten(), nn.Linear(34, 6), nn.BatchNorm1d(6))
    torch.manual_seed(0)
    model, reports = as_trained(model).double().eval(), []
    ours = nhwc_conv.convert(model, inference=True, example=X, report=reports.append)
    assert reports[0].folded == {"3": "2"} and not reports[0].unfolded
    with torch.no_grad():
        torch.testing.assert_close(ours(X), model(X))


class Activated(nn.BatchNorm1d):
    """Calls the function itself."""

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        return F.relu(F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps))


def test_a_function_is_called_by_the_module_that_calls_it():
    _, report = converted(nn.Sequential(nn.Conv1d(4, 6, 3), Activated(6)))
    assert report.folded == {"1": "0"} and list(report.fused.values()) == ["0"]


def test_in_front_of_one_sequence_it_is_over_another_dimension():
    model, reports = as_trained(nn.Sequential(nn.BatchNorm1d(10), nn.Conv1d(4, 2, 1))).double().eval(), []
    ours = nhwc_conv.convert(model, inference=True, example=X[0, :, :10], report=reports.append)
    assert reports[0].unfolded == {"0": "it follows an input, not a convolution"} and not reports[0].untraced
    with torch.no_grad():
        torch.testing.assert_close(ours(X[0, :, :10]), model(X[0, :, :10]))


@pytest.mark.parametrize("channels", [6, 8])
def test_of_one_sequence_it_is_over_another_dimension(channels):
    """To BatchNorm1d a result [O, L] is a batch of vectors: with as many elements as channels, or others."""
    torch.manual_seed(0)
    model, reports = nn.Sequential(nn.Conv1d(4, channels, 3), nn.BatchNorm1d(8)), []
    model, x = as_trained(model).double().eval(), X[0, :, :10]
    ours = nhwc_conv.convert(model, inference=True, example=x, report=reports.append)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x), rtol=1e-10, atol=1e-10)
    if channels == 6:
        assert reports[0].unfolded == {"1": "it is over another dimension than channels"}
    else:
        assert reports[0].fallback.startswith("nothing is folded or fused, since")


FINISHED = {
    "activation": (lambda m, x: F.gelu(m.a(x)), [("gelu", False)]),
    "method": (lambda m, x: m.a(x).relu_(), [("relu", False)]),
    "written out": (lambda m, x: (y := m.a(x)) * y.sigmoid(), [("silu", False)]),
    "concatenated": (lambda m, x: F.relu(torch.cat([m.a(x), m.b(x)], 1)), [("relu", False)] * 2),
    "computed later": (lambda m, x: F.relu(m.a(x) + x.repeat(1, 2, 1)[:, :6]), []),
    "sum": (lambda m, x: F.relu(x.repeat(1, 2, 1)[:, :6] + m.a(x)), [("relu", False)]),
    "activation and sum": (
        lambda m, x: x.repeat(1, 2, 1)[:, :6] + F.leaky_relu(m.a(x), 0.1), [(("leaky_relu", 0.1), True)],
    ),
    "of one element": (lambda m, x: x[:, :1, :1] + m.a(x), [(None, False)]),
    "of no dimension": (lambda m, x: m.shift + m.a(x), [(None, False)]),
    "of more dimensions": (lambda m, x: x[:1, None, :1] + m.a(x), [(None, False)]),
    "scaled": (lambda m, x: m.scale * m.a(x), []),
    "scaled otherwise": (lambda m, x: m.scale.T[:, :1] * m.a(x), []),
    "two activations": (lambda m, x: F.relu(F.silu(m.a(x))), [("silu", False)]),
    "seen elsewhere": (lambda m, x: F.relu(y := m.a(x)) * y, []),
    "prelu": (lambda m, x: F.prelu(m.a(x), m.shift[None]), []),
}  # fmt: skip


@pytest.mark.parametrize("name", FINISHED)
def test_what_a_convolution_does(name):
    of, expected = FINISHED[name]
    ours, report = converted(Of(of))
    layers = [m for m in ours.modules() if isinstance(m, FusedConv1d)]
    assert [(m.activation, m.activation_first) for m in layers] == expected and not report.fallback
    assert ("mul" in report.fused) == (name == "scaled")


class Block(nn.Module):
    """As in a TCN, whose layers have a weight_norm and look back only."""

    def __init__(self, dilation):
        super().__init__()
        self.first = nn.Conv1d(4, 4, 3, padding=2 * dilation, dilation=dilation)
        self.bn, self.chomp = nn.BatchNorm1d(4), 2 * dilation
        self.second = weight_norm(nn.Conv1d(4, 4, 3, padding=1))

    def forward(self, x):
        y = F.relu(self.bn(self.first(x)))[:, :, : -self.chomp]
        return F.relu(self.second(y) + x)


def test_a_network_there_and_back():
    ours, report = converted(nn.Sequential(Block(1), Block(2), nn.Conv1d(4, 3, 1)))
    assert len(report.folded) == 2 and len(report.fused) == 6 and len(report.converted) == 5
    assert (
        sum(m._packed is not None for m in ours.modules() if isinstance(m, Conv1d)) == 5 - 2
    )  # but normed ones
    with torch.no_grad():
        expected = ours(X)
        with torch.profiler.profile() as profile:
            ours(X)
        theirs = nhwc_conv.revert(copy.deepcopy(ours))
        assert not any(isinstance(m, Conv1d) for m in theirs.modules())
        torch.testing.assert_close(theirs(X), expected)
        compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(X), expected)
    assert not {"aten::conv1d", "aten::relu", "aten::add"} & {e.key for e in profile.key_averages()}
    assert (
        str(report).splitlines()[0].startswith("nhwc_conv.convert: 5 converted, 0 left, 2 BatchNorms folded")
    )


class Functional(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.kernel, self.bias, self.weight = (
            nn.Parameter(torch.randn(6, 2, 3)),
            nn.Parameter(torch.randn(6)),
            weight,
        )

    def forward(self, x):
        return F.relu(F.conv1d(x, self.weight(self), self.bias, 2, (1,), groups=2))


def test_a_function_of_parameters():
    ours, report = converted(Functional(lambda m: m.kernel))
    assert kinds(ours) == [FusedConv1d] and list(report.converted) == ["conv1d"] and not report.left
    ours, report = converted(Functional(lambda m: m.kernel * 2))
    assert kinds(ours) == [FusedConv1d] and not report.left
