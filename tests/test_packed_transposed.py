"""Transposed layers on weights that were packed ahead of the calls, and the short call behind them."""

import random

import pytest
import torch
import torch.nn.functional as F

import nhwc_conv
from nhwc_conv._geometry.dtypes import COMPUTED
from nhwc_conv._ops import transposed

pytestmark = pytest.mark.needs_extension
LAYERS = ["ConvTranspose1d", "ConvTranspose2d", "NWCConvTranspose1d", "NHWCConvTranspose2d"]
# Phases apart, as channels, of several taps, of none (the stride exceeds the kernel), and lanes instead of columns.
STEPS = {
    "apart": dict(kernel_size=4, stride=2, padding=1),
    "channels": dict(kernel_size=4, stride=2),
    "uneven": dict(kernel_size=5, stride=3, padding=2, output_padding=1),
    "gaps": dict(kernel_size=2, stride=3, output_padding=2),
    "dilated": dict(kernel_size=3, stride=4, dilation=2, padding=3),
    "groups": dict(kernel_size=3, stride=2, groups=2, padding=1),
    "depthwise": dict(kernel_size=4, stride=2, groups=8, padding=1),
    "winograd": dict(kernel_size=3, padding=1),
    "no bias": dict(kernel_size=4, stride=4, bias=False),
}
DTYPES = list(COMPUTED)


def make(name, steps, dtype=torch.float32):
    """A layer, and images for it."""
    torch.manual_seed(0)
    layer = getattr(nhwc_conv, name)(8, 8, **STEPS[steps]).to(dtype).eval()
    size = (7,) if "1d" in name else (5, 7)
    shape = (2, *size, 8) if name.startswith("N") else (2, 8, *size)
    return layer, torch.randn(shape).to(dtype)


def packed_op(monkeypatch):
    """The results of transposed_by_packing from now on."""
    results, cls = [], nhwc_conv.nn.packed_transposed.PackedTransposed
    plain = cls.convolve
    monkeypatch.setattr(cls, "convolve", lambda *args: results.append(plain(*args)) or results[-1])
    return results


def in_other_layouts(name, x):
    dim = 1 if name.startswith("N") else -1
    yield from (x, x[0], x[:0], x[..., ::2, :] if name.startswith("N") else x[..., ::2])
    yield x.movedim(dim, -dim).contiguous().movedim(-dim, dim)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", LAYERS)
def test_bits_are_those_of_calls_that_record_a_gradient(name, steps, dtype, isa, monkeypatch):
    layer, x = make(name, steps, dtype)
    for given in in_other_layouts(name, x):
        expected = layer(given).detach()
        nhwc_conv.prepack(layer)
        results = packed_op(monkeypatch)
        with torch.no_grad():
            out = layer(given)
            assert torch.equal(out, expected) and out.stride() == expected.stride()
            assert len(results) == 1 and results[0] is not None
            layer._packed = None
            assert torch.equal(layer(given), expected)


def random_geometry(n):
    choose = random.Random(n)

    def two(values):
        return [choose.choice(values) for _ in "hw"]

    kernel, stride, dilation = two([1, 2, 3, 4, 5, 6, 8]), two([1, 1, 2, 2, 3, 4, 8]), two([1, 1, 1, 2, 3])
    padding = [choose.randint(0, (k - 1) * d) for k, d in zip(kernel, dilation, strict=True)]
    more = [choose.randint(0, s - 1) if choose.random() < 0.4 else 0 for s in stride]
    groups = choose.choice([1, 1, 1, 2, 3])
    channels = [groups * choose.choice(sizes) for sizes in ([1, 2, 5, 16, 33], [1, 2, 3, 8, 17, 40])]
    return channels, two(range(1, 10)), kernel, (stride, padding, more, groups, dilation)


@pytest.mark.parametrize("n", range(300))
def test_random_geometries_are_exact_on_integers(n, isa):
    (C, O), size, kernel, steps = random_geometry(n)  # noqa: E741
    stride, padding, more, groups, dilation = steps
    dtype = DTYPES[n % len(DTYPES)]
    generator = torch.Generator().manual_seed(n)
    shapes = (2, C, *size), (C, O // groups, *kernel), (O,)
    x, w, bias = (torch.randint(-3, 4, s, generator=generator).to(dtype) for s in shapes)
    try:
        sums = F.conv_transpose2d(x.double(), w.double(), None, *steps)
    except RuntimeError as error:
        assert "output size" in str(error)  # an image without pixels
        return
    expected = sums.to(dtype) + bias[:, None, None]
    for nchw in (False, True):
        call = transposed.transposed_call(nchw, stride, padding, more, groups, dilation, 0)
        images, weight = (x, w) if nchw else (x.permute(0, 2, 3, 1), w.permute(2, 3, 1, 0))
        packed = transposed.pack_transposed(weight, call)
        for given in (images, images.contiguous(memory_format=torch.channels_last)):
            for packing in (packed, None):
                out = transposed.convolve_transposed(given, weight, bias, call, packing)
                assert torch.equal(out if nchw else out.permute(0, 3, 1, 2), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_the_packing_is_what_runs_and_what_follows_the_weight(name):
    layer, x = make(name, "apart")
    nhwc_conv.prepack(layer)
    with torch.no_grad():
        before = layer(x)
        packed, weight = layer._packed, layer.weight.detach().clone()
        packed.tensor = transposed.pack_transposed(packed.weight * 2, packed.call)
        assert not torch.equal(layer(x), before)
        layer.weight.copy_(weight)  # counted, so that it is packed anew
        assert torch.equal(layer(x), before) and layer._packed is not packed
        layer.weight.mul_(2)
        doubled = layer(x)
        assert not torch.equal(doubled, before)
        layer.weight = torch.nn.Parameter(weight)
        assert torch.equal(layer(x), before)
    assert layer.train()._packed is None


@pytest.mark.parametrize("name", LAYERS)
def test_other_sizes_of_results_are_computed_without_the_packing(name, monkeypatch):
    layer, x = make(name, "channels")
    sizes = sizes_of(layer, x)
    expected = [layer(x, output_size=size).detach() for size in sizes]
    nhwc_conv.prepack(layer)
    results = packed_op(monkeypatch)
    with torch.no_grad():
        for size, right in zip(sizes, expected, strict=True):
            assert torch.equal(layer(x, output_size=size), right)
    assert len(results) <= 1  # of the size that it has anyway


def sizes_of(layer, x):
    shape = layer(x).shape
    least = shape[1:-1] if type(layer).__name__.startswith("N") else shape[2:]
    return [list(least), [n + 1 for n in least]]


def test_packings_of_other_calls_are_not_used():
    layer, x = make("ConvTranspose2d", "apart")
    nhwc_conv.prepack(layer)
    packed = layer._packed
    with torch.no_grad():
        expected = layer(x)
        others = [make("ConvTranspose2d", steps)[0] for steps in STEPS if steps != "apart"]
        for other in nhwc_conv.prepack(torch.nn.ModuleList(others)):
            packed.tensor = other._packed.tensor
            assert torch.equal(layer(x), expected)
        for wrong in (packed.tensor[:-1], packed.tensor[:3], torch.zeros(0), packed.tensor.double()):
            packed.tensor = wrong
            assert torch.equal(layer(x), expected)


def test_channels_phases_need_output_padding_that_keeps_them():
    """A result of another size than the packing was made for has phases of its own."""
    call = transposed.transposed_call(True, 2, 0, 0, 1, 1, 0)
    other = call._replace(output_padding=(1, 1))
    x, w = torch.ones(1, 8, 3, 3), torch.randint(-3, 4, (8, 8, 4, 4)).float()
    packed = transposed.pack_transposed(w, call)
    assert packed.shape != transposed.pack_transposed(w, other).shape
    out = transposed.convolve_transposed(x, w, None, other, packed)
    assert torch.equal(out, F.conv_transpose2d(x, w, None, 2, 0, 1))


def test_what_does_not_fit_is_left_to_others():
    x, w, bias = torch.ones(1, 4, 3, 3), torch.ones(4, 2, 2, 2), torch.ones(2)
    call = transposed.transposed_call(True, 1, 0, 0, 1, 1, 0)
    assert transposed.convolve_transposed(x, w, bias, call, None) is not None
    half = x.half(), w.half()
    for tensors in (
        (x[:, :3], w, bias), (x, w[0], bias), (x[0, 0], w, bias), (x[:, :, :0], w, bias), (x, w.double(), bias),
        (x, w, bias[:1]), (x, w, bias[None]), (x, w, bias.double()), (*half, bias), (*half, bias[:1].half()),
    ):  # fmt: skip
        assert transposed.convolve_transposed(*tensors, call, None) is None
    for wrong in (
        dict(groups=0), dict(groups=3), dict(sides=9),
        dict(output_padding=(1, 1)), dict(output_padding=(-1, 0)), dict(output_padding=(0,)),
    ):  # fmt: skip
        assert transposed.convolve_transposed(x, w, bias, call._replace(**wrong), None) is None
    with pytest.raises(ValueError, match="twice"):
        transposed.transposed_call(True, 2, 0, 1, 1, 1, 1)
