"""What convert(inference=True) lets convolutions do besides convolving, and what it does not."""

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nhwc_conv
from nhwc_conv.nn import FusedConv2d


class Model(nn.Module):
    """Two convolutions, `after` behind them: a function of them and an image."""

    def __init__(self, after, activation=None):
        super().__init__()
        self.after, self.activation = after, activation
        self.first, self.second = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)

    def forward(self, x):
        return self.after(self, x)


def converted(after, **arguments):
    """The converted model and its report; it has computed the same on other images and in other formats."""
    torch.manual_seed(0)
    model, reports = Model(after, **arguments).double().eval(), []
    example = torch.randn(2, 6, 7, 9, dtype=torch.float64)
    ours = nhwc_conv.convert(model, inference=True, example=example, strict=True, report=reports.append)
    for x in (example, example[:1, :, :5], example.contiguous(memory_format=torch.channels_last)):
        with torch.no_grad():
            given = x.clone()
            torch.testing.assert_close(ours(x.clone()), model(x.clone()), rtol=1e-12, atol=1e-12)
            assert torch.equal(x, given)
    return ours, reports[0]


def fused(model):
    """(activation, activation_first) of the layers that do more than convolve."""
    layers = [m for m in model.modules() if isinstance(m, FusedConv2d)]
    return [(m.activation, m.activation_first) for m in layers]


ACTIVATIONS = {
    "F.relu": (F.relu, "relu"),
    "F.relu_": (F.relu_, "relu"),
    "method": (lambda x: x.relu(), "relu"),
    "ReLU": (nn.ReLU(inplace=True), "relu"),
    "ReLU6": (nn.ReLU6(), ("clamp", 0.0, 6.0)),
    "F.relu6": (F.relu6, "relu6"),
    "Hardtanh": (nn.Hardtanh(-0.25, 0.5), ("clamp", -0.25, 0.5)),
    "F.hardtanh": (lambda x: F.hardtanh(x, max_val=0.5), ("clamp", -1.0, 0.5)),
    "clamp": (lambda x: torch.clamp(x, -0.25, 0.5), ("clamp", -0.25, 0.5)),
    "clamp method": (lambda x: x.clamp(min=-0.25), ("clamp", -0.25, float("inf"))),
    "LeakyReLU": (nn.LeakyReLU(0.2), ("leaky_relu", 0.2)),
    "F.leaky_relu": (lambda x: F.leaky_relu(x, 0.2, True), ("leaky_relu", 0.2)),
    "Hardsigmoid": (nn.Hardsigmoid(), "hardsigmoid"),
    "Hardswish": (nn.Hardswish(), "hardswish"),
    "F.hardswish": (lambda x: F.hardswish(x, inplace=True), "hardswish"),
    "Sigmoid": (nn.Sigmoid(), "sigmoid"),
    "sigmoid": (torch.sigmoid, "sigmoid"),
    "SiLU": (nn.SiLU(), "silu"),
    "F.silu": (F.silu, "silu"),
    "Tanh": (nn.Tanh(), "tanh"),
    "tanh method": (lambda x: x.tanh(), "tanh"),
    "ELU": (nn.ELU(0.5), ("elu", 0.5)),
    "F.elu": (F.elu, ("elu", 1.0)),
    "Mish": (nn.Mish(), "mish"),
    "GELU": (nn.GELU(), "gelu"),
    "GELU tanh": (nn.GELU(approximate="tanh"), "gelu_tanh"),
    "F.gelu": (lambda x: F.gelu(x, approximate="tanh"), "gelu_tanh"),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    function, expected = ACTIVATIONS[name]
    module = function if isinstance(function, nn.Module) else None
    call = (lambda m, x: m.activation(m.first(x))) if module else lambda m, x: function(m.first(x))
    ours, report = converted(call, activation=module)
    assert (
        fused(ours) == [(expected, False)] and not report.unfused and list(report.fused.values()) == ["first"]
    )


WRITTEN_OUT = {
    "silu": (lambda x: x * torch.sigmoid(x), "silu"),
    "silu, turned": (lambda x: torch.mul(x.sigmoid(), x), "silu"),
    "silu in place": (lambda x: x.mul_(x.sigmoid()), "silu"),
    "hardsigmoid": (lambda x: F.relu6(x + 3) / 6, "hardsigmoid"),
    "hardswish": (lambda x: x * F.relu6(3 + x, inplace=True) / 6.0, "hardswish"),
    "hardswish by hardsigmoid": (lambda x: x * F.hardsigmoid(x), "hardswish"),
    "hardswish by a quotient": (lambda x: x * (F.relu6(x + 3) / 6), "hardswish"),
    "mish": (lambda x: x * torch.tanh(F.softplus(x)), "mish"),
}


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_activations_that_are_written_out(name):
    function, expected = WRITTEN_OUT[name]
    ours, report = converted(lambda m, x: function(m.first(x)))
    assert fused(ours) == [(expected, False)] and not report.unfused


def another_reader(x):
    gate = x.sigmoid()
    return x * gate + gate


def reads_what_was_written(x):
    y = x.mul_(x.sigmoid())
    return y + x


ALMOST = {
    "of another": lambda x: x * torch.sigmoid(x + 1),
    "gate seen elsewhere": another_reader,
    "written to and read": reads_what_was_written,
    "other numbers": lambda x: F.relu6(x + 2) / 6 + x * F.relu6(x + 3) / 5,
    "sum with a factor": lambda x: F.relu6(torch.add(x, 3, alpha=2)) / 6,
    "softplus of other numbers": lambda x: x * torch.tanh(F.softplus(x, 2)),
}


@pytest.mark.parametrize("name", ALMOST)
def test_what_is_almost_an_activation(name):
    ours, _ = converted(lambda m, x: ALMOST[name](m.first(x)))
    assert not {"silu", "hardswish", "mish", "hardsigmoid"} & {activation for activation, _ in fused(ours)}


SUMS = {
    "behind": (lambda m, x: m.first(x) + x, [(None, False)]),
    "before": (lambda m, x: x + m.first(x), [(None, False)]),
    "torch.add": (lambda m, x: torch.add(m.first(x), x), [(None, False)]),
    "method": (lambda m, x: m.first(x).add(x), [(None, False)]),
    "in place": (lambda m, x: operator.iadd(m.first(x), x), [(None, False)]),
    "add_": (lambda m, x: m.first(x).add_(x), [(None, False)]),
    "then relu": (lambda m, x: F.relu(m.first(x) + x), [("relu", False)]),
    "silu before": (lambda m, x: F.silu(m.first(x)) + x, [("silu", True)]),
    "of two convolutions": (lambda m, x: F.relu(m.first(x) + m.second(x)), [("relu", False)]),
    "of two with activations": (
        lambda m, x: F.relu(m.first(x)) + F.silu(m.second(x)), [("relu", False), ("silu", True)],
    ),
    "broadcast": (lambda m, x: x.mean((2, 3), keepdim=True) + m.first(x), [(None, False)]),
    "larger": (lambda m, x: m.first(x.mean((2, 3), keepdim=True)) + x, [(None, False)]),
}  # fmt: skip


@pytest.mark.parametrize("name", SUMS)
def test_sums(name):
    after, expected = SUMS[name]
    ours, report = converted(after)
    assert fused(ours) == expected and not report.unfused


def watched_sum(m, x):
    y = m.first(x)
    return (y + x) * y


STAY = {
    "seen elsewhere": (watched_sum, "goes elsewhere too"),
    "a number": (lambda m, x: m.first(x) + 1, "what is added is no other tensor"),
    "itself": (lambda m, x: operator.add(*[m.first(x)] * 2), "what is added is no other tensor"),
    "scaled": (lambda m, x: torch.add(m.first(x), x, alpha=2), None),
    "in place elsewhere": (lambda m, x: operator.iadd(x * 1, m.first(x)), "writes to another tensor"),
    "later": (lambda m, x: m.first(x) + x.sin(), "computed later"),
    "activation and relu": (lambda m, x: F.relu(F.silu(m.first(x)) + x), "has an activation already"),
    "two sums": (lambda m, x: m.first(x) + x + x.detach(), None),
    "two activations": (lambda m, x: F.relu(F.silu(m.first(x))), "has an activation already"),
    "computed slope": (lambda m, x: F.leaky_relu(m.first(x), m.second(x).mean().item()), None),
}


@pytest.mark.parametrize("name", STAY)
def test_what_stays(name):
    after, why = STAY[name]
    torch.manual_seed(0)
    model, reports = Model(after).double().eval(), []
    x = torch.randn(2, 6, 7, 9, dtype=torch.float64)
    ours = nhwc_conv.convert(model, inference=True, example=x, report=reports.append)
    with torch.no_grad():
        torch.testing.assert_close(ours(x.clone()), model(x.clone()))
    if why is not None:
        assert any(why in text for text in reports[0].unfused.values()), reports[0].unfused


def test_what_is_added_may_change_meanwhile():
    def after(m, x):
        y = x * 2
        z = m.first(x)
        F.relu_(y)
        return z + y

    ours, report = converted(after)
    assert not fused(ours) and "what is added is computed later" not in report.unfused.values()


def test_reverted():
    ours, _ = converted(lambda m, x: F.relu(m.first(x) + x))
    x = torch.randn(2, 6, 7, 9, dtype=torch.float64)
    with torch.no_grad():
        expected = ours(x)
        theirs = nhwc_conv.revert(ours)
        assert not any(isinstance(m, nhwc_conv.Conv2d) for m in theirs.modules())
        torch.testing.assert_close(theirs(x), expected)
