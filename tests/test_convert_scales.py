"""Factors of channels behind layers in models converted for inference."""

import copy

import pytest
import torch
from torch import nn

import nhwc_conv


class Scaled(nn.Module):
    """A block of ConvNeXt, whose image and result are NCHW."""

    def __init__(self, size=(8,)):
        super().__init__()
        self.depthwise, self.point = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.scale, self.other = nn.Parameter(torch.rand(size)), nn.Parameter(torch.rand(8, 1, 1))

    def forward(self, x):
        y = self.depthwise(x).permute(0, 2, 3, 1)
        return self.other * self.point(x + (self.scale * self.mlp(y)).permute(0, 3, 1, 2))


def test_scales_and_sums_behind_a_permutation():
    torch.manual_seed(0)
    model, reports = Scaled().eval(), []
    x = torch.randn(2, 8, 6, 7)
    before = copy.deepcopy(model.state_dict())
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True, report=reports.append)
    assert reports[0].fused == {"mlp.1": "mlp.0", "mul": "mlp.2", "add": "mlp.2", "mul_1": "point"}
    with torch.no_grad():
        for image in (x, x[:1, :, :5], x.contiguous(memory_format=torch.channels_last)):
            torch.testing.assert_close(ours(image), model(image), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def converted(model, x):
    """The converted model, whose results are compared with those of the model, and what was fused in it."""
    model, reports = model.eval(), []
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True, report=reports.append)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x), rtol=1e-4, atol=1e-5)
    return ours, reports[0].fused


@pytest.mark.parametrize("size", [(1,), (7, 8), ()])
def test_scales_that_stay(size):
    assert "mul" not in converted(Scaled(size), torch.randn(2, 8, 6, 7))[1]


class Layer(nn.Module):
    """A layer whose result is scaled as `how` says."""

    def __init__(self, layer, how):
        super().__init__()
        self.layer, self.how = layer, how
        self.scale, self.many = nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(1, 8, 1, 1))
        self.register_buffer("buffer", torch.rand(8))

    def forward(self, x):
        return self.how(self, self.layer(x))


def conv():
    return nn.Conv2d(8, 8, 3)


X, TOKENS = torch.randn(2, 8, 10, 10), torch.randn(2, 8, 8, 8)
CONVOLUTIONS = {
    "view": lambda m, y: y * m.scale.view(1, -1, 1, 1),
    "a tuple": lambda m, y: y.mul(m.scale.reshape((1, 8, 1, 1))),
    "a list": lambda m, y: m.scale.reshape([-1, 1, 1]) * y,
    "of as many dimensions": lambda m, y: y * m.many,
    "viewed twice": lambda m, y: y * m.many.view(8).view(8, 1, 1),
    "permuted": lambda m, y: y.permute(0, 2, 3, 1) * m.scale,
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_viewed_scales_of_convolutions(name):
    model = Layer(conv(), CONVOLUTIONS[name])
    ours, fused = converted(model, X)
    assert list(fused.values()) == ["layer"]
    assert not any(word in ours.code for word in ("view", "reshape", "scale", "many"))
    with torch.no_grad():
        if name in ("view", "a tuple", "of as many dimensions"):  # the model's own result has four
            with pytest.raises(ValueError, match="expected a tensor of 4 dimensions"):
                ours(X[0])
        elif name != "permuted":
            torch.testing.assert_close(ours(X[0]), model(X[0]), rtol=1e-4, atol=1e-5)


LINEAR = {
    "behind a permutation": lambda m, y: y.permute(0, 3, 1, 2) * m.scale.view(1, -1, 1, 1),
    "of three dimensions": lambda m, y: y.permute(0, 3, 1, 2) * m.scale.view(-1, 1, 1),
    "as it is": lambda m, y: y * m.scale.view(1, 1, 1, 8),
    "another order": lambda m, y: y.permute(0, 1, 3, 2) * m.scale.view(8, 1),
}


@pytest.mark.parametrize("name", LINEAR)
def test_viewed_scales_of_linear_layers(name):
    ours, fused = converted(Layer(nn.Linear(8, 8), LINEAR[name]), TOKENS)
    assert list(fused.values()) == ["layer"]
    assert ("check_dimensions" in ours.code) == (name == "as it is")


OTHERS = {
    "another axis of an image": (conv, lambda m, y: y * m.scale),
    "a row of an image": (conv, lambda m, y: y * m.scale.view(1, 1, -1)),
    "another axis of an image, permuted": (conv, lambda m, y: y.permute(0, 2, 3, 1) * m.scale.view(8, 1, 1)),
    "another axis of tokens": (lambda: nn.Linear(8, 8), lambda m, y: y * m.scale.view(1, -1, 1, 1)),
    "another axis, permuted": (
        lambda: nn.Linear(8, 8),
        lambda m, y: y.permute(0, 3, 1, 2) * m.scale.view(1, 1, -1, 1),
    ),
    "of five dimensions, permuted": (
        lambda: nn.Linear(8, 8),
        lambda m, y: y.permute(0, 3, 1, 2) * m.scale.view(-1, 1, 1, 1, 1),
    ),
    "a size of the image": (conv, lambda m, y: y * m.scale.view(1, y.shape[1], 1, 1)),
    "a buffer": (conv, lambda m, y: y * m.buffer.view(1, -1, 1, 1)),
    "read elsewhere": (conv, lambda m, y: y * m.scale.view(1, -1, 1, 1) + y.tanh()),
    "permuted and read": (
        lambda: nn.Linear(8, 8),
        lambda m, y: (p := y.permute(0, 3, 1, 2)) * m.scale.view(1, -1, 1, 1) + p.tanh(),
    ),
    "read and permuted": (
        lambda: nn.Linear(8, 8),
        lambda m, y: y.permute(0, 3, 1, 2) * m.scale.view(1, -1, 1, 1) + y.tanh(),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_factors_stay(name):
    layer, how = OTHERS[name]
    _, fused = converted(Layer(layer(), how), TOKENS if "Linear" in str(layer()) else X)
    assert not any(product.startswith("mul") for product in fused)


class Twice(nn.Module):
    """Scales images, and one image, whose result it makes a batch."""

    def __init__(self):
        super().__init__()
        self.block = Layer(conv(), CONVOLUTIONS["view"])

    def forward(self, x):
        y = self.block(x) + self.block(x[0])
        return y if y.sum() < 1e9 else -y


def test_scales_of_results_of_any_dimensions_stay():
    assert "block.mul" not in converted(Twice(), X)[1]
