"""convert(model): what changes, and that nothing else does."""

import copy

import pytest
import torch
from torch import nn

from nhwc_conv import Conv2d, convert


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.again = self.first
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return x + self.again(self.norm(self.first(x)).relu())


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=2, padding=2), Residual(),
        nn.Sequential(
            nn.Conv2d(4, 8, 3, padding="same", groups=2),
            nn.Conv2d(8, 8, 3, padding_mode="reflect", padding=1),
        ),
    )  # fmt: skip


def test_values_gradients_and_names():
    ours, theirs = convert(model().double()), model().double()
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert {type(m) for m in ours.modules()} & {nn.Conv2d, Conv2d} == {Conv2d}
    x = torch.randn(2, 3, 12, 10, dtype=torch.float64)
    outs = ours(x), theirs(x)
    torch.testing.assert_close(*outs)
    grads = [
        torch.autograd.grad(out.pow(2).sum(), list(m.parameters()))
        for out, m in zip(outs, (ours, theirs), strict=True)
    ]
    torch.testing.assert_close(*grads)


def test_parameters_are_shared_and_flags_kept():
    original = model().eval()
    original[0].requires_grad_(False)
    parameters = dict(original.named_parameters())
    converted = convert(original)
    assert converted is original
    assert all(p is parameters[n] for n, p in converted.named_parameters())
    assert not any(m.training for m in converted.modules())
    assert not converted[0].weight.requires_grad and converted[1].first.weight.requires_grad


def test_shared_layers_stay_shared():
    converted = convert(model())
    assert converted[1].first is converted[1].again and type(converted[1].first) is Conv2d


def test_hooks_stay():
    original = model()
    seen = []
    handle = original[0].register_forward_hook(lambda m, args, out: seen.append(m))
    original[2][0].register_forward_pre_hook(lambda m, args: seen.append(m))
    converted = convert(original)
    converted(torch.randn(1, 3, 8, 8))
    assert seen == [converted[0], converted[2][0]]
    handle.remove()
    converted(torch.randn(1, 3, 8, 8))
    assert len(seen) == 3


def test_a_model_that_is_a_convolution():
    layer = nn.Conv2d(3, 4, 3)
    converted = convert(layer)
    assert type(converted) is Conv2d and converted.weight is layer.weight and repr(converted) == repr(layer)
    assert convert(converted) is converted


def test_subclasses_are_left_alone():
    class Special(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) + 1

    untouched = nn.ModuleList([Special(3, 4, 3), nn.LazyConv2d(4, 3), Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3)])
    before = list(untouched)
    assert all(a is b for a, b in zip(convert(untouched), before, strict=True))


def test_the_replaced_layer_is_independent():
    layer = nn.Conv2d(3, 4, 3)
    converted = convert(layer)
    layer.weight = nn.Parameter(torch.zeros_like(layer.weight))
    assert converted.weight.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_converted_model_trains_like_the_original(dtype):
    theirs = model().to(dtype)
    ours = convert(copy.deepcopy(theirs))
    x = torch.randn(4, 3, 8, 8, dtype=dtype)
    for m in (ours, theirs):
        optimizer = torch.optim.SGD(m.parameters(), 0.1)
        for _ in range(2):
            optimizer.zero_grad()
            m(x).pow(2).mean().backward()
            optimizer.step()
    torch.testing.assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()))
