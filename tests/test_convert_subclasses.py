"""convert(inference=True): subclasses of nn.Conv2d, taken for what their forward is seen to compute."""

import copy

import pytest
import torch
import torch.nn.functional as F
from test_convert_classes import X
from test_convert_own_forward import Conv2dSame, ScaledStdConv2d, StdConv2d, layer
from torch import nn

from nhwc_conv import Conv2d, convert, revert
from nhwc_conv.nn import FusedConv2d


def test_for_inference():
    model = nn.Sequential(
        layer(Conv2dSame, 2), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.ReLU(), ScaledStdConv2d(4, 4, 3)
    )
    model, reports = model.double().eval(), []
    ours = convert(
        model,
        subclasses=(Conv2dSame, StdConv2d),
        inference=True,
        example=X,
        strict=True,
        report=reports.append,
    )
    assert list(reports[0].converted) == ["0", "2", "4"] and reports[0].fused == {"1": "0", "3": "2"}
    with torch.no_grad():
        for x in (X, X[..., :5]):
            torch.testing.assert_close(ours(x), model(x))
            torch.testing.assert_close(revert(copy.deepcopy(ours))(x), model(x))
    assert type(model[0]) is Conv2dSame and [type(m) for m in layers_of(ours)[:2]] == [
        FusedConv2d,
        FusedConv2d,
    ]
    assert isinstance(layers_of(ours)[2], ScaledStdConv2d)  # which pads by what it computes of sizes


def layers_of(model):
    return [m for m in model.modules() if isinstance(m, Conv2d)]


class Padded(nn.Conv2d):
    """A forward that pads by hand, behind a scaled weight and a shifted bias."""

    def forward(self, x):
        return F.conv2d(x, self.weight * 2, self.bias + 1, self.stride, (2, 1), self.dilation, self.groups)


class Scaled(StdConv2d):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain, self.scale = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1)), 0.3

    def forward(self, x):
        weight = self.standardised((self.gain * self.scale).view(-1))
        return F.conv2d(x, weight, bias=self.bias, stride=self.stride, groups=self.groups)


class Renamed(nn.Conv2d):
    """Comes to nn.Conv2d's forward."""

    def forward(self, x):
        return super().forward(x)


class Sampled(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight + torch.rand(()), self.bias)


class Counting(nn.Conv2d):
    """Writes to a buffer of its own."""

    def __init__(self, *args):
        super().__init__(*args)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        return F.conv2d(x, self.weight * self.calls.fill_(1), self.bias)


class Noting(Counting):
    def forward(self, x):
        self.calls.fill_(1)
        return F.conv2d(x, self.weight, self.bias)


class Dropping(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, F.dropout(self.weight, 0.5, training=True), self.bias)


class Clamping(nn.Conv2d):
    """Writes to its weight, as an argument tells."""

    def forward(self, x):
        return F.conv2d(x, F.relu(self.weight, inplace=True), self.bias)


class OfInput(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight * x.mean(), self.bias)


class More(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias) + self.bias.mean()


class BySize(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x if x.shape[-1] > 3 else F.pad(x, (1, 1)), self.weight, self.bias)


@pytest.mark.parametrize("cls", [Conv2dSame, StdConv2d, Scaled, Padded, Renamed])
def test_for_inference_none_is_to_be_named(cls):
    """Of what is computed of a weight alone, its result is the layer's weight; SAME padding is its padding."""
    model, reports = nn.Sequential(layer(cls, 2), nn.BatchNorm2d(8), nn.ReLU()).double().eval(), []
    ours = convert(model, inference=True, example=X, strict=True, report=reports.append)
    assert list(reports[0].converted) == ["0"] and not reports[0].left and reports[0].converted["0"]
    assert reports[0].folded == {"1": "0"} and [type(m) for m in layers_of(ours)] == [FusedConv2d]
    with torch.no_grad():
        for x in (X, X[..., :5]):
            torch.testing.assert_close(ours(x), model(x))
            torch.testing.assert_close(revert(copy.deepcopy(ours))(x), model(x))


@pytest.mark.parametrize("cls", [Sampled, Counting, Noting, Clamping, Dropping, OfInput, More, BySize])
def test_for_inference_others_stay(cls):
    model, reports = nn.Sequential(cls(4, 8, 1), nn.Conv2d(8, 4, 1)).double().eval(), []
    before = copy.deepcopy(model)
    ours = convert(model, inference=True, example=X, report=reports.append)
    assert not reports[0].fallback and "0" in reports[0].left and type(ours.get_submodule("0")) is cls
    torch.manual_seed(0)
    with torch.no_grad():
        found = ours(X)
        torch.manual_seed(0)
        torch.testing.assert_close(found, before(X))
