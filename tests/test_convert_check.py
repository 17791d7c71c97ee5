"""The comparison of a converted model with the original: its tolerance, and what `convert` does where it fails."""

import copy

import pytest
import torch
from models import as_trained
from torch import nn

import nhwc_conv
from nhwc_conv import convert
from nhwc_conv._convert import fold
from nhwc_conv._convert.check import Reference
from nhwc_conv.nn import program


def compare(original, model, example):
    return Reference(original, example).check(model)


X = torch.randn(2, 4, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_tolerance_is_near_rounding(dtype):
    """Eight convolutions deep: an error of two hundred units of the last place in the last norm is noticed."""
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(8)]
    model = as_trained(nn.Sequential(*blocks)).to(dtype).eval()
    x = X.to(dtype)
    ours = convert(model, inference=True, example=x)
    assert compare(model, ours, x)[0] <= compare(model, ours, (x,))[1]
    wrong = copy.deepcopy(model)
    wrong[7][1].weight.data *= 1 + 200 * torch.finfo(dtype).eps
    with pytest.raises(RuntimeError, match="rounding explains"):
        compare(model, wrong, x)


def test_the_tolerance_grows_with_the_length_of_sums():
    model = nn.Conv2d(4096, 64, 1)
    x = torch.randn(1, 4096, 3, 3)
    tolerance = compare(model, model, x)[1] / (torch.finfo(torch.float32).eps * model(x).abs().max())
    assert 10 < tolerance / 8 < 64  # 8: the safety factor; sqrt(4097) / 2 units of the last place


@pytest.mark.parametrize("norm", [False, True])
def test_biases_may_be_first_in_long_sums(norm):
    """Here they are: where what is added to one is far smaller, each addition rounds as that of the bias does."""
    torch.manual_seed(0)
    conv, last = nn.Conv2d(512, 64, 1), nn.BatchNorm2d(64) if norm else nn.Identity()
    nn.init.uniform_(last.bias if norm else conv.bias, 0.5, 1)
    with torch.no_grad():
        conv.weight.mul_(1e-5)
    model = nn.Sequential(conv, last).eval()
    x = torch.randn(1, 512, 9, 9)
    reports = []
    convert(model, inference=True, example=x, report=reports.append)
    assert not reports[0].fallback
    eps = torch.finfo(torch.float32).eps
    assert 8 * eps < reports[0].tolerance < 8 * 64 * eps
    wrong = copy.deepcopy(model)
    (wrong[1] if norm else wrong[0]).bias.data *= 1 + 200 * eps
    with pytest.raises(RuntimeError, match="rounding explains"):
        compare(model, wrong, x)


def test_what_cannot_be_compared():
    model = nn.Conv2d(4, 4, 3).double()
    with pytest.raises(ValueError, match="no floating-point result to compare, or none that is finite"):
        compare(model, model, X * float("nan"))
    with pytest.raises(ValueError, match="no floating-point result"):
        compare(nn.Flatten(), nn.Flatten(), torch.ones(2, 2, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="off by inf"):
        compare(model, nn.Sequential(model, nn.Flatten()), X)


class Choosing(nn.Module):
    """Gives what `choose` makes of the scores of classes."""

    def __init__(self, choose):
        super().__init__()
        self.body, self.choose = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)), choose

    def forward(self, x):
        return self.choose(self.body(x))


CHOICES = {
    "argmax": lambda y: y.argmax(1),
    "topk": lambda y: y.topk(2, 1).indices,
    "mask": lambda y: y > 0.5,
    "masked": lambda y: y.masked_fill(y < 0, -torch.inf),
    "infinite": lambda y: torch.cat([y, torch.full_like(y, torch.inf), torch.full_like(y, torch.nan)]),
    "both": lambda y: {"scores": y, "classes": [y.argmax(1), None]},
}


@pytest.mark.parametrize("name", CHOICES)
def test_results_that_are_no_finite_numbers(name):
    torch.manual_seed(0)
    model, reports = as_trained(Choosing(CHOICES[name])).double().eval(), []
    ours = convert(model, inference=True, example=X, report=reports.append)
    assert reports[0].folded == {"body.1": "body.0"} and not reports[0].fallback
    torch.testing.assert_close(ours(X), model(X), equal_nan=True)


@pytest.mark.parametrize("name", CHOICES)
def test_a_wrong_result_of_any_kind_is_noticed(name):
    torch.manual_seed(0)
    model = as_trained(Choosing(CHOICES[name])).double().eval()
    wrong = copy.deepcopy(model)
    wrong.body[1].weight.data *= 1 + 1e-9
    with pytest.raises(RuntimeError, match="rounding explains"):
        compare(model, wrong, X)


def test_infinities_elsewhere_are_noticed():
    model = nn.Sequential(nn.Conv2d(4, 4, 3).double(), nn.ReLU())
    wrong = nn.Sequential(*model, nn.Threshold(-1, 0))
    wrong.register_forward_hook(
        lambda module, args, y: y / (1 - (y / y.max()).floor())
    )  # its largest element
    with pytest.raises(RuntimeError, match="off by inf"):
        compare(model, wrong, X)


def broken(monkeypatch):
    right = fold.folded

    def wrong(*args):
        layer = right(*args)
        layer.bias.data += 1e-6
        return layer

    monkeypatch.setattr(fold, "folded", wrong)


def test_a_model_that_folds_wrong_is_not_folded(monkeypatch):
    broken(monkeypatch)
    model, reports = as_trained(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))).double().eval(), []
    ours = convert(model, inference=True, example=X, report=reports.append)
    assert isinstance(ours[0], nhwc_conv.Conv2d) and type(ours[1]) is nn.BatchNorm2d
    assert reports[0].fallback.startswith(
        "nothing is folded or fused, since the converted model's result is off by 1e-06"
    )
    assert reports[0].converted == {"0": ""} and not reports[0].folded and "fallback" in str(reports[0])
    torch.testing.assert_close(ours(X), model(X))
    with pytest.raises(RuntimeError, match="off by .* but rounding explains"):
        convert(model, inference=True, example=X, strict=True)


@pytest.mark.parametrize("error", [None, KeyError("lost")])
def test_a_model_whose_layers_compute_something_else_is_not_converted(monkeypatch, error):
    """No convolution of ours does, so one is made to."""
    right = nhwc_conv.Conv2d._conv_forward

    def wrong(self, *args):
        if error is not None:
            raise error
        return right(self, *args) * 1.001

    model, reports = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()).double().eval(), []
    monkeypatch.setattr(nhwc_conv.Conv2d, "_conv_forward", wrong)
    ours = convert(model, inference=True, example=X, report=reports.append)
    assert ours is not model and ours[0] is model[0] and torch.equal(ours(X), model(X))
    why = "the converted model's result is off" if error is None else "KeyError: 'lost'"
    assert reports[0].fallback.startswith(f"nothing is converted, since {why}")
    assert not reports[0].converted and reports[0].left == {
        "0": "the converted model computes something else"
    }
    with pytest.raises(RuntimeError if error is None else KeyError):
        convert(model, inference=True, example=X, strict=True)


@pytest.mark.needs_extension
def test_programs_are_compared_too(monkeypatch):
    """They call their layers one by one while what torch calls is watched."""
    op = program.convolve_program
    monkeypatch.setattr(program, "convolve_program", lambda *arguments: [2 * t for t in op(*arguments)])
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)).double().eval()
    with pytest.raises(RuntimeError, match="rounding explains"):
        convert(model, inference=True, example=X.contiguous(memory_format=torch.channels_last), strict=True)
