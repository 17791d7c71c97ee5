"""convert(inference=True): BatchNorm behind a concatenation and in front of a convolution."""

import pytest
import torch
import torch.nn.functional as F
from test_convert_inference import X, converted, kinds, trained
from torch import nn

from nhwc_conv import Conv2d
from nhwc_conv.nn import FusedConv2d, FusedConvTranspose2d


class Concatenated(nn.Module):
    """As in cross-stage partial networks."""

    def __init__(self, cat=lambda *tensors: torch.cat(tensors, 1), affine=True, second=None):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 6, 3, padding=1), second or nn.Conv2d(4, 5, 1, bias=False)
        self.bn, self.cat = nn.BatchNorm2d(11, eps=0.1, affine=affine), cat

    def forward(self, x):
        return F.silu(self.bn(self.cat(self.a(x), self.b(x))))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    "cat",
    [
        lambda *tensors: torch.cat(tensors, 1),
        lambda *tensors: torch.cat(tensors=tensors, dim=-3),
        lambda *tensors: torch.concat([*tensors], dim=1),
    ],
)
def test_behind_a_concatenation(cat, affine):
    ours, report = converted(trained(Concatenated(cat, affine)))
    assert kinds(ours) == [FusedConv2d] * 2 and report.folded == {"bn": "a, b"} and not report.unfolded
    assert report.fused == {"silu": "a, b"} and "bn into a, b" in str(report)


class Twice(Concatenated):
    def forward(self, x):
        y = self.a(x)
        return self.bn(torch.cat([y, y], 1))


class AlsoReturned(Concatenated):
    def forward(self, x):
        y = torch.cat([self.a(x), self.b(x)], 1)
        return self.bn(y) + y


class OneAlsoReturned(Concatenated):
    def forward(self, x):
        a = self.a(x)
        return self.bn(torch.cat([a, self.b(x)], 1)).sum(1) + a.sum(1)


def twice():
    model = Twice()
    model.bn = nn.BatchNorm2d(12)
    return model


def in_rows():
    model = Concatenated(lambda a, b: torch.cat([a, a.sin()], 2))
    model.bn = nn.BatchNorm2d(6)
    return model


APART = {
    "itself": (twice, "a tensor is concatenated with itself before it"),
    "also returned": (AlsoReturned, "the concatenation before it goes elsewhere too"),
    "one also returned": (OneAlsoReturned, "the result of the convolution 'a' goes elsewhere too"),
    "another tensor": (
        lambda: Concatenated(second=nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU())),
        "it follows ReLU, not a convolution",
    ),
    "rows": (in_rows, "it follows cat, not a convolution"),
}


@pytest.mark.parametrize("name", APART)
def test_not_behind_what_others_see(name):
    make, why = APART[name]
    ours, report = converted(trained(make()))
    assert report.unfolded == {"bn": why} and not report.folded and is_depthwise(ours.bn)


def is_depthwise(layer):
    """Which a BatchNorm is that is left."""
    return isinstance(layer, Conv2d) and layer.kernel_size == (1, 1) and layer.groups == layer.in_channels


def test_a_norm_that_is_left_does_what_follows_it():
    """And a ReLU and a sum after it; not one of the input, of statistics of its batch, of another dtype, or of rows."""
    left = nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.ReLU(), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1)
    )
    ours, report = converted(trained(left))
    assert (
        report.fused == {"1": "0", "3": "2"}
        and is_depthwise(ours.get_submodule("2"))
        and len(ours.program.steps) == 3
    )
    for model in (
        nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.BatchNorm2d(4, track_running_stats=False)),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(2), nn.BatchNorm1d(4)),
    ):
        ours, _ = converted(trained(model))
        assert any(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in ours.modules())


class Activated(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.a, self.b, self.of = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 1), of

    def forward(self, x):
        return self.of(self.a(x), self.b(x), x)


def into_given_tensor(a, b, x):
    given = x.new_empty(2, 12, 9, 8)
    return F.relu(torch.cat([a, b], 1, out=given)) + given


# What is computed of both convolutions, and how many of them do an activation then.
ACTIVATED = {
    "channels": (lambda a, b, x: F.gelu(torch.cat([a, b], 1)), 2),
    "rows": (lambda a, b, x: F.relu_(torch.cat([a, b], -2)), 2),
    "itself": (lambda a, b, x: F.relu(torch.cat([a, a, b], 1)), 0),
    "also added": (lambda a, b, x: (c := torch.cat([a, b], 1)) + F.relu(c), 0),
    "one also added": (lambda a, b, x: F.relu(torch.cat([a, b], 1)).sum(1) + a.sum(1), 0),
    "one is active": (lambda a, b, x: F.relu(torch.cat([a.sigmoid(), b], 1)), 1),
    "into a given tensor": (into_given_tensor, 0),
}


@pytest.mark.parametrize("name", ACTIVATED)
def test_an_activation_behind_a_concatenation(name):
    of, count = ACTIVATED[name]
    ours, report = converted(trained(Activated(of)))
    assert sum(isinstance(layer, FusedConv2d) for layer in ours.modules()) == count
    assert list(report.fused.values()) == {0: [], 1: ["a"], 2: ["a, b"]}[count] and not report.fallback


AHEAD = {
    "pointwise": dict(kernel_size=1),
    "valid": dict(kernel_size=3, padding="valid", bias=False),
    "strided groups": dict(kernel_size=(2, 3), stride=2, groups=2),
    "depthwise": dict(kernel_size=3, groups=4, dilation=(2, 1), bias=False),
    "circular": dict(kernel_size=3, padding=(1, 2), padding_mode="circular"),
    "reflected": dict(kernel_size=3, padding="same", padding_mode="reflect"),
}


@pytest.mark.parametrize("name", AHEAD)
@pytest.mark.parametrize("affine", [True, False])
def test_in_front_of_a_convolution(name, affine):
    """As in ConvMixer, whose activation comes before BatchNorm."""
    before, norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, eps=0.1, affine=affine)
    model = trained(nn.Sequential(before, nn.GELU(), norm, nn.Conv2d(4, 8, **AHEAD[name])))
    ours, report = converted(model)
    assert kinds(ours) == [FusedConv2d, Conv2d] and report.folded == {"2": "3"} and not report.unfolded
    assert report.fused == {"1": "0"}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("options", [dict(), dict(groups=2, bias=False, output_padding=1)])
def test_behind_a_transposed_convolution(options, affine):
    up = nn.ConvTranspose2d(4, 6, 3, 2, **options)
    ours, report = converted(trained(nn.Sequential(up, nn.BatchNorm2d(6, eps=0.1, affine=affine), nn.ReLU())))
    assert report.folded == {"1": "0"} and list(report.converted) == ["0"]
    assert type(ours.get_submodule("0")) is FusedConvTranspose2d and report.fused == {"2": "0"}


def test_of_two_convolutions_the_one_before_it():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    ours, report = converted(trained(model))
    assert kinds(ours) == [Conv2d, Conv2d] and report.folded == {"1": "0", "3": "2"}


class AlsoAdded(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = self.bn(x)
        return y + self.conv(y)


BEHIND = {
    "zeros": lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)),
    "same": lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding="same")),
    "an activation between": lambda: nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)),
    "also added": AlsoAdded,
    "transposed": lambda: nn.Sequential(nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 4, 1)),
}


@pytest.mark.parametrize("name", BEHIND)
def test_not_where_it_would_not_be_exact_or_seen(name):
    ours, report = converted(trained(BEHIND[name]()))
    assert list(report.unfolded.values()) == ["it follows an input, not a convolution"] and not report.folded
    assert nn.BatchNorm2d in kinds(ours)


def test_of_a_layer_that_is_called_twice_one_call():
    """The other call has nothing before it."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn, self.conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.conv(self.conv(F.silu(x)) - self.conv(self.bn(x)))

    _, report = converted(trained(Shared()), X)
    assert len(report.folded) == 1
