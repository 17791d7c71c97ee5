"""The comparison of a converted model with the original: its tolerance is near rounding, and what is off raises."""

import copy

import pytest
import torch
from models import as_trained
from torch import nn

from nhwc_conv import convert
from nhwc_conv._convert.check import compare

X = torch.randn(2, 4, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class OtherWayWhenTraced(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.conv(x) if isinstance(x, torch.Tensor) else self.conv(x) * 1.001


def test_another_result_raises():
    with pytest.raises(RuntimeError, match="off by .* but rounding explains"):
        convert(OtherWayWhenTraced().double().eval(), inference=True, example=X)


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


def test_what_cannot_be_compared():
    model = nn.Conv2d(4, 4, 3).double()
    with pytest.raises(ValueError, match="no floating-point result to compare, or one that is not finite"):
        compare(model, model, X * float("nan"))
    with pytest.raises(ValueError, match="no floating-point result"):
        compare(nn.Flatten(), nn.Flatten(), torch.ones(2, 2, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="off by inf"):
        compare(model, nn.Sequential(model, nn.Flatten()), X)
