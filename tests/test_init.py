"""nhwc_conv.nn.init against torch.nn.init: the same values from the same seed, permuted."""

import inspect
import math

import pytest
import torch
from torch import nn

from nhwc_conv import NHWCConv2d, NHWCConvTranspose2d
from nhwc_conv.nn import init

LAYERS = [(NHWCConv2d, nn.Conv2d), (NHWCConvTranspose2d, nn.ConvTranspose2d)]
layers = pytest.mark.parametrize(("ours", "theirs"), LAYERS, ids=["conv", "transposed"])
CALLS = [
    (name, arguments)
    for name in ("kaiming_uniform_", "kaiming_normal_")
    for arguments in (
        dict(), dict(a=math.sqrt(5)), dict(mode="fan_out", nonlinearity="relu"), dict(a=0.2, mode="fan_out"),
        dict(nonlinearity="tanh"),
    )
] + [
    (name, arguments)
    for name in ("xavier_uniform_", "xavier_normal_", "orthogonal_")
    for arguments in (dict(), dict(gain=nn.init.calculate_gain("relu")))
]  # fmt: skip
CALLS += [("dirac_", dict()), ("dirac_", dict(groups=2))]


@layers
@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_are_those_of_torch(ours, theirs, name, arguments, groups, dtype):
    if name == "orthogonal_" and dtype == torch.bfloat16:
        return  # torch has no QR decomposition of those
    layer, reference = (cls(4, 8, (3, 5), groups=groups, dtype=dtype) for cls in (ours, theirs))
    results = []
    for module, functions in ((layer, init), (reference, nn.init)):
        torch.manual_seed(7)
        weight = module.weight
        results.append(getattr(functions, name)(weight, **arguments))
        assert results[-1] is weight and weight.requires_grad and weight.grad_fn is None
    assert torch.equal(layer.weight, reference.weight.permute(2, 3, 1, 0)) and layer.weight.is_contiguous()
    assert layer.weight.abs().sum() > 0


@pytest.mark.parametrize("name", sorted({name for name, _ in CALLS} - {"dirac_"}))
def test_generators(name):
    layer, reference = NHWCConv2d(4, 8, 3), nn.Conv2d(4, 8, 3)
    for module, functions in ((layer, init), (reference, nn.init)):
        before = torch.get_rng_state()
        getattr(functions, name)(module.weight, generator=torch.Generator().manual_seed(5))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(layer.weight, reference.weight.permute(2, 3, 1, 0))


def test_signatures_are_those_of_torch():
    for name in {name for name, _ in CALLS}:
        ours, theirs = (
            [(p.name, p.default) for p in inspect.signature(getattr(module, name)).parameters.values()]
            for module in (init, nn.init)
        )
        assert ours[0][0] == "weight" and ours[1:] == theirs[1:]


def test_the_standard_deviation_is_he_s():
    """0.059 for 64 channels of 3x3; torch.nn.init would take the 3x3 for the channels, and give 0.009."""
    weight = NHWCConv2d(64, 128, 3).weight
    torch.manual_seed(0)
    assert abs(init.kaiming_normal_(weight).std().item() / math.sqrt(2 / (64 * 9)) - 1) < 0.02
    assert init.kaiming_uniform_(weight).abs().max() <= math.sqrt(6 / (64 * 9))
    with torch.device("meta"):
        assert init.xavier_normal_(NHWCConv2d(4, 8, 3).weight).is_meta


def test_bad_arguments():
    with pytest.raises(
        ValueError, match=r"weight to have 3 or 4 dimensions, but got weight of size \[4, 8\]"
    ):
        init.kaiming_normal_(torch.zeros(4, 8))
    with pytest.raises(ValueError, match="Mode fan_avg not supported"):
        init.kaiming_normal_(torch.zeros(3, 3, 4, 8), mode="fan_avg")
