"""Max pooling as a step of a program, between the convolutions of a converted model."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from test_convert_excitation import computed
from test_programs import one_by_one, spied
from torch import nn

import nhwc_conv
from nhwc_conv.nn.pooling import MaxPool

DTYPES = torch.float32, torch.float64, torch.bfloat16, torch.float16
WINDOWS = [  # size, stride, padding
    ((2, 2), (2, 2), (0, 0)),
    ((3, 3), (2, 2), (1, 1)),
    ((3, 3), (1, 1), (1, 1)),
    ((3, 2), (2, 3), (0, 1)),
    ((5, 1), (1, 4), (2, 0)),
    ((1, 1), (2, 2), (0, 0)),
    ((7, 9), (7, 3), (3, 4)),
]


@pytest.mark.needs_extension
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [(2, 3, 9, 7), (1, 67, 8, 10), (3, 130, 7, 9), (0, 16, 8, 9)], ids=str)
@pytest.mark.parametrize("many", [1, 3])
def test_maxima_are_torchs(size, dtype, channels_last, many, isa, threads, monkeypatch):
    calls = spied(monkeypatch)
    threads(many)
    torch.manual_seed(0)
    x = torch.randn(size).to(dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    for windows, ceil_mode in itertools.product(WINDOWS, (False, True)):
        layer = MaxPool(*windows, ceil_mode)
        found, expected = computed(layer, x), layer(x)
        assert torch.equal(found, expected) and found.dtype == dtype
        if x.numel():
            assert found.stride() == expected.stride()
    assert len(calls) == 2 * len(WINDOWS)


def test_nan_and_infinity(isa):
    x = torch.randn(1, 20, 9, 9).contiguous(memory_format=torch.channels_last)
    x[:, ::3, 4, 4], x[:, 1::3, 2, 7], x[:, 2::3] = torch.nan, torch.inf, -torch.inf
    for windows in WINDOWS:
        layer = MaxPool(*windows, False)
        torch.testing.assert_close(computed(layer, x), layer(x), rtol=0, atol=0, equal_nan=True)


@pytest.mark.needs_extension
@pytest.mark.parametrize("windows", [((3, 3), (1, 1), (2, 2)), ((9, 9), (1, 1), (0, 0))], ids=str)
def test_what_does_not_fit(windows):
    layer, x = MaxPool(*windows, False), torch.randn(1, 4, 6, 6).contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError) as expected:
        layer(x)
    with pytest.raises(RuntimeError) as found:
        computed(layer, x)
    assert str(found.value) == str(expected.value)


class Model(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.a, self.b, self.pool = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), pool

    def forward(self, x):
        return self.b(self.pool(F.relu(self.a(x))))


POOLS = {
    "module": lambda: nn.MaxPool2d(3, 2, 1),
    "its own stride": lambda: nn.MaxPool2d((2, 3)),
    "rounded up": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "function": lambda: lambda x: F.max_pool2d(x, 2),
    "torch's": lambda: lambda x: torch.max_pool2d(x, [3, 2], stride=[2], padding=1),
}
OTHERS = {
    "dilated": lambda: nn.MaxPool2d(2, 1, dilation=2),
    "with places": lambda: lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "of a size": lambda: lambda x: F.max_pool2d(x, x.shape[-1] // 3),
    "averages": lambda: nn.AvgPool2d(2),
}


def converted(pool):
    torch.manual_seed(0)
    model, x = Model(pool).eval(), torch.randn(2, 3, 11, 13)
    return model, nhwc_conv.convert(model, inference=True, example=x, strict=True), x


@pytest.mark.needs_extension
@pytest.mark.parametrize("pool", POOLS)
def test_all_is_one_program(pool, monkeypatch):
    model, ours, x = converted(POOLS[pool]())
    assert len(ours.program.steps) == 3 and sum(isinstance(m, MaxPool) for m in ours.modules()) == 1
    calls = spied(monkeypatch)
    with torch.no_grad():
        for image in (x, x.contiguous(memory_format=torch.channels_last), x[..., :8], x[0]):
            torch.testing.assert_close(ours(image), model(image))
    assert calls == [2] * 4
    torch.testing.assert_close(one_by_one(ours, x), model(x))
    ours(x).sum().backward()
    assert ours.a.weight.grad is not None


@pytest.mark.parametrize("pool", OTHERS)
def test_others_stay(pool):
    model, ours, x = converted(OTHERS[pool]())
    assert not any(isinstance(m, MaxPool) for m in ours.modules())
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x))


def test_hooks_are_called():
    _, ours, x = converted(nn.MaxPool2d(2))
    seen = []
    ours.pool.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        ours(x)
    assert seen == [1] and "kernel_size=(2, 2)" in repr(ours.pool)
