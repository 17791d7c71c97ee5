"""convert(model, inference=True) where torch.fx would record something else than the model computes."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_convert_inference import Residual, X, converted, kinds, trained
from torch import nn

import nhwc_conv
from nhwc_conv import Conv2d, convert


class Block(nn.Module):
    """Branches on whether it gets something to add."""

    def __init__(self):
        super().__init__()
        self.block = Residual()

    def forward(self, x, skip=None, *, scale=1.0):
        x = self.block(x)
        if skip is not None:
            x = x + skip
        return x if scale == 1.0 else x * scale


class Untraceable(nn.Module):
    """Calls its blocks as `how` says."""

    def __init__(self, how):
        super().__init__()
        self.first, self.second, self.how = Block(), Block(), how

    def forward(self, x):
        y = self.how(self, x)
        return y if y.sum() < 1e9 else -y


CALLS = {
    "left out": (lambda s, x: s.second(s.first(x)), []),
    "given": (lambda s, x: s.second(s.first(x, x), skip=x), []),
    "given as nothing": (lambda s, x: s.second(s.first(x, None), skip=None), []),
    "left out and given": (lambda s, x: s.second(s.first(x), x), []),
    "both in one block": (lambda s, x: s.first(s.first(x), x) + s.second(x), ["first"]),
    "past __call__": (lambda s, x: s.second.forward(s.first(x)), ["second"]),
    "a number": (lambda s, x: s.second(s.first(x), scale=2.0), ["second"]),
}


@pytest.mark.parametrize(("how", "untraced"), CALLS.values(), ids=CALLS)
def test_optional_arguments_of_blocks_in_an_untraceable_model(how, untraced):
    model = trained(Untraceable(how))
    _, report = converted(model)
    assert list(report.untraced) == ["", *untraced]
    assert len(report.folded) == 4  # the blocks within are traced either way


def test_a_block_that_was_traced_for_other_arguments_refuses_these():
    ours, _ = converted(trained(Untraceable(CALLS["left out"][0])))
    with pytest.raises(AssertionError, match="skip"):
        ours.first(X, X)


class ReadsTheWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.other = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), Residual()

    def forward(self, x):
        return self.other(F.conv_transpose2d(self.bn(self.conv(x)).relu(), self.conv.weight))


def test_a_weight_that_is_read_elsewhere_stays():
    model = trained(ReadsTheWeight())
    ours, report = converted(model)
    assert report.folded == {"other.bn1": "other.conv1", "other.bn2": "other.conv2"} and not report.untraced
    assert ours.conv.weight is model.conv.weight and ours.bn.kernel_size == (1, 1)


class Within(nn.Module):
    """Computes its first convolution within what `manager` returns."""

    def __init__(self, manager):
        super().__init__()
        self.conv, self.block, self.manager = nn.Conv2d(4, 4, 1), Residual(), manager

    def forward(self, x):
        with self.manager():
            x = self.conv(x)
        return self.block(x + 1)


MANAGERS = {
    "gradient mode": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "nhwc_conv.flags": lambda: nhwc_conv.flags(winograd=False),
    "function modes": lambda: torch.device("cpu"),
}


@pytest.mark.parametrize("name", MANAGERS)
def test_what_runs_within_a_context_manager_is_left_untraced(name):
    model = trained(nn.Sequential(Within(MANAGERS[name]), Residual()))
    ours, report = converted(model)
    assert report.untraced == {"": report.untraced[""], "0": f"it changes {name} on the way"}
    assert len(report.folded) == 4 and type(ours[0]) is Within


class Frozen(Within):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


def test_decorated_forwards():
    """The parameters of the result get no gradient either."""
    model = trained(Frozen(torch.no_grad))
    ours, report = converted(model)
    assert list(report.untraced) == [""] and len(report.folded) == 2
    assert not model(X).requires_grad and not ours(X).requires_grad


class HalfPrecision(Within):
    def forward(self, x):
        with self.manager():
            x = self.block(x)
        return x.to(self.conv.weight.dtype)


def test_what_is_called_under_autocast_is_left_untraced():
    """In bfloat16 a BatchNorm rounds where a convolution that it is folded into does not."""
    model, reports = trained(HalfPrecision(MANAGERS["autocast"])).float(), []
    ours = convert(model, inference=True, example=X.float(), report=reports.append)
    assert not reports[0].folded and reports[0].untraced["block"] == "it is called under another autocast"
    assert torch.equal(ours(X.float()), model(X.float()))


def test_examples_that_are_no_leaves():
    example = X.clone().requires_grad_() * 1
    ours, _ = converted(trained(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))), example)
    assert kinds(ours) == [Conv2d]
    assert example.grad_fn is not None


class Counter(nn.Module):
    """Counts its calls in a buffer, and keeps what it saw last."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.register_buffer("calls", torch.zeros(()))
        self.last = None

    def forward(self, x):
        self.calls = self.calls + 1
        self.last = self.conv(x)
        return self.last


def test_a_model_that_assigns_to_itself_is_left_alone():
    model, x, reports = Counter().eval(), torch.randn(1, 3, 4, 4), []
    ours = nhwc_conv.convert(model, inference=True, example=x, report=reports.append)
    assert type(model.calls) is torch.Tensor and (model.last is None or type(model.last) is torch.Tensor)
    assert "assigns to attributes" in reports[0].untraced[""]
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x))


class PaddedToEven(nn.Module):
    """Computes its padding with tensors or with numbers, whatever sizes are, as timm does."""

    def __init__(self):
        super().__init__()
        self.block = Residual()

    def forward(self, x):
        half = x.shape[-2] / 2
        rows = half.ceil() if isinstance(half, torch.Tensor) else math.ceil(half)
        return self.block(F.pad(x, (0, 0, 0, 2 * rows - x.shape[-2])))


def test_sizes_are_numbers():
    model = trained(PaddedToEven())
    ours, report = converted(model)
    assert not report.untraced
    for rows in (8, 9):
        torch.testing.assert_close(ours(X[..., :rows, :]), model(X[..., :rows, :]))


class AsksWithoutTheExample(nn.Module):
    """Takes another path where a size is no number of Python, as while it is traced; that one fails."""

    def __init__(self):
        super().__init__()
        self.block = Residual()

    def forward(self, x):
        rows = x.shape[-2]
        return self.block(x) * (rows if type(rows) is int else rows.ceil())


def test_graphs_that_fail_print_nothing(capfd):
    _, report = converted(trained(AsksWithoutTheExample()))
    assert report.untraced[""] == "'int' object has no attribute 'ceil'"
    assert capfd.readouterr() == ("", "")
