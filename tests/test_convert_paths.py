"""convert(model, inference=True) of models whose code looks at what kind of object, or of what size, an image is."""

import pytest
import torch
import torch.nn.functional as F
from models import as_trained
from torch import nn

from nhwc_conv import convert


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


class Branching(nn.Module):
    """Halves images where `asks` says so."""

    def __init__(self, asks):
        super().__init__()
        self.conv, self.bn, self.stem, self.asks = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), Stem(), asks

    def forward(self, x):
        y = self.bn(self.conv(x))
        if self.asks(x):
            y = F.interpolate(y, scale_factor=0.5)
        return self.stem(y)


def swallowing(x):
    try:
        if x.shape[-1] > 16:
            return True
    except Exception:
        pass
    return False


def counted(x):
    return len([row for row in x[0, 0]]) > 16


ASKS = {
    "isinstance": lambda x: isinstance(x, torch.Tensor) and x.shape[-1] > 16,
    "is_tensor": lambda x: torch.is_tensor(x) and x.size(-1) > 16,
    "type": lambda x: type(x) is torch.Tensor and x.shape[-1] > 16,
    "swallowed": swallowing,
    "rows": counted,
    "values": lambda x: bool(x.abs().max() > 100),
    "hasattr": lambda x: not hasattr(x, "no_such_attribute") and x.shape[-1] > 16,
    "tracing": lambda x: not torch.fx._symbolic_trace.is_fx_tracing() and x.shape[-1] > 16,
    "dimensions": lambda x: x.dim() == 4 and x.shape[-1] > 16,
}


@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize("size", [8, 32])
def test_both_branches_stay(name, size):
    """Whichever the example took: the part that branches stays, and what is called in it is converted."""
    torch.manual_seed(0)
    model, reports = as_trained(Branching(ASKS[name])).double().eval(), []
    example = torch.randn(1, 3, size, size, dtype=torch.float64)
    ours = convert(model, inference=True, example=example, report=reports.append)
    assert list(reports[0].untraced) == [""] and reports[0].folded == {"stem.bn": "stem.conv"}
    assert reports[0].unfolded == {"bn": "no graph shows what it follows"} and not reports[0].fallback
    with torch.no_grad():
        for other in (8, 32):
            x = torch.randn(2, 3, other, other, dtype=torch.float64) * 10
            torch.testing.assert_close(ours(x), model(x))


class Asking(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Stem()

    def forward(self, x):
        if not isinstance(x, torch.Tensor) or not torch.is_tensor(x):
            raise TypeError("expected a tensor")
        return self.stem(x)


def test_tensors_are_tensors():
    model, reports = as_trained(Asking()).eval(), []
    convert(model, inference=True, example=torch.randn(1, 3, 4, 4), report=reports.append)
    assert not reports[0].untraced and reports[0].folded == {"stem.bn": "stem.conv"}


class Trusting(nn.Module):
    """Hands a tensor to a function that takes an object of class Tensor for one without looking further."""

    def __init__(self):
        super().__init__()
        self.stem = Stem()
        self.register_buffer("index", torch.tensor([2, 1, 0]))

    def forward(self, x):
        return self.stem(x.index_select(1, torch.autograd.Variable(self.index)))


def test_proxies_do_not_reach_code_that_reads_memory():
    model, reports = as_trained(Trusting()).eval(), []
    x = torch.randn(1, 3, 4, 4)
    ours = convert(model, inference=True, example=x, report=reports.append)
    assert list(reports[0].untraced) == [""] and reports[0].folded == {"stem.bn": "stem.conv"}
    torch.testing.assert_close(ours(x), model(x))


class InPlace(nn.Module):
    """`kept` is the tensor that `y` writes to; in `x = x + 1` it would not be."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.register_buffer("shift", torch.rand(3, 1, 1))

    def forward(self, x):
        y = self.conv(x)
        kept = y
        y += x
        y *= 2
        y -= self.shift[:, :1]
        y /= 3
        return kept + y


def test_operators_in_place():
    model, reports = InPlace().eval(), []
    x = torch.randn(1, 3, 4, 4)
    ours = convert(model, inference=True, example=x, report=reports.append)
    assert not reports[0].untraced
    for _ in range(2):
        torch.testing.assert_close(ours(x), model(x))
        model.shift += 1  # a buffer of both, which no constant was computed from


class Noisy(nn.Module):
    def __init__(self, noise):
        super().__init__()
        self.stem, self.noise = Stem(), noise

    def forward(self, x):
        return self.stem(x) + self.noise(x)


@pytest.mark.parametrize(
    ("noise", "untraced"),
    [(lambda x: torch.rand(4, 1, 1), [""]), (lambda x: F.dropout(x[:, :1], 0.5, True), [])],
)
def test_random_numbers_stay_random(noise, untraced):
    """torch.fx draws torch.rand once, while tracing."""
    model, reports = as_trained(Noisy(noise)).eval(), []
    x = torch.randn(1, 3, 4, 4)
    ours = convert(model, inference=True, example=x, report=reports.append)
    assert list(reports[0].untraced) == untraced and not reports[0].fallback
    assert not torch.equal(ours(x), ours(x))
    torch.manual_seed(1)
    expected = model(x)
    torch.manual_seed(1)
    torch.testing.assert_close(ours(x), expected)
