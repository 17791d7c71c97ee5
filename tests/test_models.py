"""Whole networks, converted and compiled: results, gradients and an optimiser's step are those of the original."""

import copy
from math import sqrt

import models
import pytest
import torch
from spy import FORWARD, Spy
from torch import nn

import nhwc_conv
from nhwc_conv import Conv2d, convert, revert

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
every_model = pytest.mark.parametrize("name", models.SMALL)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def training_step(run, model, x):
    """Result, gradients, and state after a step of an optimiser, all in float64."""
    x = x.detach().requires_grad_()
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    out = run(x)
    # No loss of means: the gradient of what goes into a last BatchNorm would be rounding alone.
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).sin().to(out.dtype).reshape(out.shape)
    (out * weights).sum().backward()
    tensors = {"result": out, "input gradient": x.grad}
    tensors |= {f"gradient of {n}": p.grad for n, p in model.named_parameters()}
    optimiser.step()
    tensors |= model.state_dict()
    return {n: t.detach().double().clone() for n, t in tensors.items()}


def assert_within(actual, expected, limits):
    assert actual.keys() == expected.keys()
    for name, limit in limits.items():
        error = (actual[name] - expected[name]).abs().max().item()
        assert error <= limit, f"{name} is off by {error:.3g}, and may be by {limit:.3g}"


def scales(expected, least):
    """The largest element of each tensor, or `least` times the largest of all: some gradients cancel to zero."""
    largest = {n: t.abs().max().item() for n, t in expected.items()}
    return {n: max(size, least * max(largest.values())) for n, size in largest.items()}


def exact_limits(expected):
    """1e-10 of the largest element."""
    return {n: 1e-10 * size for n, size in scales(expected, 1e-4).items()}


def rounding_limits(model, x, expected):
    """What a step in float32 may be off by, from steps in float64 whose weights and pixels are off by rounding.

    A computed sum of n products is the exact one for factors that are off by about sqrt(n) units (Higham and Mary,
    2019); n is that of the longest sum, forward or backward. A factor of 8 for what two draws miss.
    """
    pixels = x.numel() // x.shape[1]
    terms = max(pixels, *(p[0].numel() for p in model.parameters() if p.dim() > 1))
    unit = sqrt(terms) * torch.finfo(torch.float32).eps / 2
    generator = torch.Generator().manual_seed(0)

    def moved(t):
        return t * (1 + unit * (torch.randint(0, 2, t.shape, generator=generator) * 2 - 1))

    limits = {n: torch.finfo(torch.float32).eps * size for n, size in scales(expected, 1).items()}
    for _ in range(2):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.copy_(moved(parameter))
        step = training_step(other, other, moved(x))
        limits = {n: max(limit, (step[n] - expected[n]).abs().max().item()) for n, limit in limits.items()}
    return {n: 8 * limit for n, limit in limits.items()}


PARAMETERS = {
    models.resnet18: 11_689_512,
    models.resnet50: 25_557_032,
    models.mobilenet_v2: 3_504_872,
    models.convnext: 28_589_128,
    models.efficientnet_b0: 5_288_548,
    models.edsr: 1_369_859,
}


@pytest.mark.parametrize("build", PARAMETERS, ids=lambda build: build.__name__)
def test_the_architectures_are_the_published_ones(build):
    """Their numbers of parameters, as published with the weights."""
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == PARAMETERS[build]


@every_model
@pytest.mark.parametrize("layout", FORMATS)
def test_converted_in_float64(name, layout):
    theirs, x = models.make(name)
    theirs, x = theirs.to(memory_format=FORMATS[layout]), x.contiguous(memory_format=FORMATS[layout])
    ours = convert(copy.deepcopy(theirs))
    assert nn.Conv2d not in map(type, ours.modules()) and Conv2d in map(type, ours.modules())
    expected = training_step(theirs, theirs, x)
    assert_within(training_step(ours, ours, x), expected, exact_limits(expected))
    assert ours(x).stride() == theirs(x).stride()
    revert(ours)
    assert [type(m) for m in ours.modules()] == [type(m) for m in theirs.modules()]


@every_model
def test_converted_in_float32(name):
    model, x = models.make(name, torch.float32)
    theirs, x64 = copy.deepcopy(model).double(), x.double()
    twin = copy.deepcopy(theirs)
    expected = training_step(twin, twin, x64)
    ours = convert(model)
    assert_within(training_step(ours, ours, x), expected, rounding_limits(theirs, x64, expected))


@every_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_converted_for_inference(name, dtype):
    theirs, x = models.make(name, dtype)
    reports = []
    ours = convert(theirs.eval(), inference=True, example=x, report=reports.append)
    with torch.no_grad():
        expected = copy.deepcopy(theirs).double()(x.double())
        error = (ours(x).double() - expected).abs().max().item()
    assert error <= (1e-10 * expected.abs().max().item() if dtype == torch.float64 else reports[0].tolerance)
    assert nn.BatchNorm2d not in map(type, ours.modules()) and not reports[0].untraced
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in theirs.modules())
    assert len(reports[0].folded) == norms


@every_model
def test_compiled_without_inductor(name):
    model, x = models.make(name)
    theirs, spy = copy.deepcopy(model), Spy()
    expected = training_step(theirs, theirs, x)
    step = training_step(torch.compile(model, backend=spy, fullgraph=True), model, x)
    assert_within(step, expected, exact_limits(expected))
    # The gradient of a transposed convolution is a convolution.
    convolutions = sum(type(m) in (nn.Conv2d, nn.ConvTranspose2d) for m in model.modules())
    assert spy.rewritten == spy.ops[FORWARD] == convolutions


def test_compiled():
    """The backend with Inductor, whose time is that of its C++ compiler."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), models.ConvNeXtBlock(8)).double()
    x = torch.randn(2, 3, 24, 20).double()
    theirs = copy.deepcopy(model)
    expected = training_step(theirs, theirs, x)
    compiled = torch.compile(model, backend=nhwc_conv.compile_backend)
    assert_within(training_step(compiled, model, x), expected, exact_limits(expected))
    with torch.profiler.profile() as profile:
        training_step(compiled, model, x)
    calls = {e.key: e.count for e in profile.key_averages()}
    backward = (
        ["_convolution_gradients"] if nhwc_conv._extension.available else ["conv2d_input", "conv2d_weight"]
    )
    assert [calls.get(f"nhwc_conv::{op}") for op in ("conv2d", *backward)] == [2] * (1 + len(backward))
    assert not {"aten::conv2d", "aten::convolution", "aten::convolution_backward"} & calls.keys()
