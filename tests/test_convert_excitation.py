"""Squeeze-and-excitation in programs: means over pixels, and products with what convolutions make of them."""

import pytest
import torch
import torch.nn.functional as F
from oracle import assert_close
from test_programs import one_by_one, spied
from torch import nn

import nhwc_conv
from nhwc_conv.nn.images import Product
from nhwc_conv.nn.pooling import ChannelMeans
from nhwc_conv.nn.program import Program

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


class Excited(nn.Module):
    """A convolution whose channels are scaled, and another; the forms of means and products are functions."""

    def __init__(self, mean, product, c=20, kernel=1):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, 5, 1)
        self.squeeze, self.expand = nn.Conv2d(c, 4, kernel, padding=kernel // 2), nn.Conv2d(4, c, 1)
        self.pool, self.halves = nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((2, 1))
        self.mean, self.product = mean, product

    def forward(self, x):
        x = F.silu(self.first(x))
        gate = torch.sigmoid(self.expand(F.relu(self.squeeze(self.mean(self, x)))))
        return self.last(self.product(x, gate))


MEANS = {
    "pool": lambda model, x: model.pool(x),
    "adaptive": lambda _, x: F.adaptive_avg_pool2d(x, (1, 1)),
    "method": lambda _, x: x.mean((2, 3), keepdim=True),
    "function": lambda _, x: torch.mean(x, dim=[-2, -1], keepdim=True),
}
PRODUCTS = {
    "operator": lambda x, g: x * g,
    "reversed": lambda x, g: g * x,
    "function": lambda x, g: torch.mul(x, g),
    "method": lambda x, g: g.mul(x),
}
OTHER_MEANS = {
    "a pool of two pixels": lambda model, x: model.halves(x).mean(2, keepdim=True),
    "two pixels": lambda _, x: F.adaptive_avg_pool2d(x, (2, 1)).mean(2, keepdim=True),
    "one axis": lambda _, x: x.mean(3, keepdim=True).amax(2, keepdim=True),
    "largest": lambda _, x: F.adaptive_max_pool2d(x, 1),
    "of another": lambda _, x: F.adaptive_avg_pool2d(x + 1, 1),
    "in double": lambda _, x: x.mean((2, 3), keepdim=True, dtype=torch.float64).float(),
}


def made(mean, product, images=(2, 3, 7, 9), dtype=torch.float32, **arguments):
    torch.manual_seed(0)
    model, x = Excited(mean, product, **arguments).to(dtype).eval(), torch.randn(images).to(dtype)
    return model, nhwc_conv.convert(model, inference=True, example=x, strict=True), x


def kinds(model):
    return [type(m) for m in model.modules() if isinstance(m, (ChannelMeans, Product))]


@pytest.mark.needs_extension
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("mean", MEANS)
def test_all_is_one_program(mean, product, monkeypatch):
    model, ours, x = made(MEANS[mean], PRODUCTS[product])
    assert len(ours.program.steps) == 6 and sorted(map(str, kinds(ours))) == sorted(
        map(str, (ChannelMeans, Product))
    )
    calls = spied(monkeypatch)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x))
        torch.testing.assert_close(ours(x[:, :, :1]), model(x[:, :, :1]))
        if mean != "method":  # which asks for four dimensions; so does the op: these are computed one by one
            torch.testing.assert_close(ours(x[0]), model(x[0]))
    assert calls == [4] * (2 if mean == "method" else 3)
    torch.testing.assert_close(one_by_one(ours, x), model(x))
    ours(x).sum().backward()
    assert ours.squeeze.weight.grad is not None


@pytest.mark.parametrize("mean", OTHER_MEANS)
def test_other_means_stay(mean):
    model, ours, x = made(OTHER_MEANS[mean], PRODUCTS["operator"])
    assert kinds(ours) == [*([ChannelMeans] if mean == "of another" else []), Product]
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x))


@pytest.mark.parametrize("product", [lambda x, g: x + g, lambda x, g: (x + 1) * g, lambda x, g: x.mul_(g)])
def test_other_products_stay(product):
    """Sums; of an image that no layer of ours computes; in place."""
    model, ours, x = made(MEANS["pool"], product)
    assert kinds(ours) == [ChannelMeans]
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x))


@pytest.mark.parametrize("product", PRODUCTS.values())
def test_products_of_images(product, refusals):
    """Of a gate that has as many pixels as the image, or as many and another number of channels."""
    for mean in (lambda model, x: x, lambda model, x: model.pool(x).expand_as(x)):
        model, ours, x = made(mean, product, kernel=3)
        assert Product in kinds(ours)
        with torch.no_grad():
            torch.testing.assert_close(ours(x), model(x))


def test_hooks_are_called():
    model, ours, x = made(MEANS["pool"], PRODUCTS["operator"])
    seen = []
    (means,) = (m for m in ours.modules() if isinstance(m, ChannelMeans))
    means.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x))
    assert seen == [1]


def computed(layer, *tensors):
    """What one layer computes as the only step of a program."""
    program = Program(len(tensors), [(0, 1 if len(tensors) > 1 else -1)], [0])
    with torch.no_grad():
        (out,) = program(*tensors, layer)
    return out


@pytest.mark.needs_extension
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (2, 3, 5, 4), (3, 67, 4, 1), (1, 130, 9, 13), (2, 64, 0, 3)])
@pytest.mark.parametrize("many", [1, 3])
def test_means_and_scales(size, dtype, channels_last, many, isa, threads, monkeypatch):
    calls = spied(monkeypatch)
    threads(many)
    torch.manual_seed(0)
    x, factors = torch.randn(size).to(dtype), torch.randn(*size[:2], 1, 1).to(dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(computed(Product(), x, factors), x * factors)
    means = computed(ChannelMeans(), x)
    exact = x.double().mean((2, 3), keepdim=True)
    assert means.shape == exact.shape and means.dtype == dtype
    if x.numel():
        sums = x.double().abs().mean((2, 3), keepdim=True)
        assert_close(means, exact, sums, size[2] + size[3] + 1)
    else:
        assert means.isnan().all()
    assert calls == [0, 0]


@pytest.mark.needs_extension
def test_what_does_not_fit_is_computed_by_torch():
    x = torch.randn(2, 6, 3, 4)
    with pytest.raises(RuntimeError, match="must match the size"):
        computed(Product(), x, torch.randn(2, 5, 1, 1))
    rows = torch.randn(2, 6, 3, 1)
    assert torch.equal(computed(Product(), x, rows), x * rows)
