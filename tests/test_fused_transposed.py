"""Transposed layers that do the activation behind them, and how convert makes them."""

import pytest
import torch
import torch.nn.functional as F
from test_finish import ARGUMENTS
from test_packed_transposed import STEPS, in_other_layouts, packed_op
from torch import nn

import nhwc_conv
from nhwc_conv._ops.finish import NAMES

LAYERS = {"FusedConvTranspose1d": (2, 8, 7), "FusedConvTranspose2d": (2, 8, 5, 7)}
DTYPES = torch.float32, torch.float64, torch.bfloat16, torch.float16
MORE_STEPS = {**STEPS, "one tap": dict(kernel_size=1, bias=False), "patches": dict(kernel_size=2, stride=2)}


def make(name, steps, dtype=torch.float32, **rest):
    torch.manual_seed(0)
    layer = getattr(nhwc_conv.nn, name)(8, 8, **MORE_STEPS[steps], **rest).to(dtype).eval()
    return layer, torch.randn(LAYERS[name]).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("steps", MORE_STEPS)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("packed", [False, True])
def test_exact_on_integers(name, steps, dtype, packed, isa):
    """A clamp of sums that are no rounded numbers, those of places that no tap meets among them."""
    layer, x = make(name, steps, dtype, activation=("clamp", 1.0, 9.0))
    with torch.no_grad():
        for t in (x, *layer.parameters()):
            t.copy_(torch.randint(-2, 3, t.shape))
        exact = layer.to_torch().double()
        expected = [exact(given.double()).to(dtype) for given in in_other_layouts("drop-in", x)]
        layer.to(dtype)
        nhwc_conv.prepack(layer) if packed else None
        found = [layer(given) for given in in_other_layouts("drop-in", x)]
    assert all(map(torch.equal, found, expected)) and found[0].max() > 1


@pytest.mark.parametrize("activation", NAMES[1:])
@pytest.mark.parametrize("steps", ["apart", "channels", "gaps", "one tap"])
def test_activations(steps, activation, isa):
    layer, x = make("FusedConvTranspose2d", steps, activation=ARGUMENTS[activation])
    with torch.no_grad():
        expected = layer.to_torch()(x)
        torch.testing.assert_close(layer(x), expected)
        nhwc_conv.prepack(layer)
        torch.testing.assert_close(layer(x), expected)
    assert f"activation={ARGUMENTS[activation]!r}" in repr(layer)


@pytest.mark.needs_extension
def test_the_op_does_it(monkeypatch):
    layer, x = make("FusedConvTranspose2d", "apart", activation="relu")
    nhwc_conv.prepack(layer)
    results = packed_op(monkeypatch)
    with torch.no_grad():
        out = layer(x)
    assert results[0] is out and out.min() == 0 < out.max()


@pytest.mark.parametrize("name", LAYERS)
def test_sizes_gradients_and_graphs(name):
    torch._dynamo.reset()
    layer, x = make(name, "apart", torch.float64, activation="silu")
    nhwc_conv.prepack(layer)
    theirs, size = layer.to_torch(), [2 * n + 1 for n in x.shape[2:]]
    with torch.no_grad():
        torch.testing.assert_close(layer(x, size), theirs(x, size))
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), theirs(x))
        torch.testing.assert_close(torch.vmap(layer)(x[None])[0], theirs(x))
    grads = [torch.autograd.grad(f(x).sin().sum(), list(layer.parameters())) for f in (layer, theirs)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("name", LAYERS)
def test_what_does_not_fit(name):
    with pytest.raises(ValueError, match="Unknown activation"):
        getattr(nhwc_conv.nn, name)(8, 8, 3, activation="softmax")
    layer, x = make(name, "apart", activation="relu")
    nhwc_conv.prepack(layer)
    with torch.no_grad(), pytest.raises(RuntimeError, match="channels"):
        layer(x[:, :5])


def converted(model, x):
    reports = []
    with torch.no_grad():
        expected = model.eval()(x)
        ours = nhwc_conv.convert(model, inference=True, example=x, strict=True, report=reports.append)
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(nhwc_conv.revert(ours)(x), expected, rtol=1e-4, atol=1e-5)
    return reports[-1]


@pytest.mark.parametrize("axes", [1, 2])
def test_convert(axes):
    up, norm = getattr(nn, f"ConvTranspose{axes}d"), getattr(nn, f"BatchNorm{axes}d")
    model = nn.Sequential(up(4, 6, 4, 2, 1), norm(6), nn.LeakyReLU(0.2), up(6, 3, 4, 2, 1), nn.Tanh())
    report = converted(model, torch.randn(2, 4, *(5, 7)[:axes]))
    assert report.folded == {"1": "0"} and report.fused == {"2": "0", "4": "3"}


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.ConvTranspose2d(4, 4, 2, 2), nn.Conv2d(4, 4, 2, 2)

    def forward(self, x):
        y = F.relu(self.up(x))
        return F.relu(x + self.up(self.down(y))[..., ::2, ::2]), self.up(x) + y


def test_sums_are_left_apart():
    """Of what a transposed layer has computed, whoever else reads it."""
    report = converted(Skip(), torch.randn(2, 4, 6, 8))
    assert set(report.fused.values()) <= {"up", "up_1", "up_2"} and len(report.fused) == 1
