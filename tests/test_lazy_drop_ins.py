"""Lazy drop-ins beside torch.nn's lazy layers, and those under convert."""

import copy
import pickle

import pytest
import torch
from drop_ins import check_gradients, check_raises_the_same
from torch import nn
from torch.nn.parameter import UninitializedParameter

from nhwc_conv import (
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    LazyConv1d,
    LazyConv2d,
    LazyConvTranspose1d,
    LazyConvTranspose2d,
    convert,
    prepack,
    revert,
)

# Ours, what it becomes, torch's, and the size of an image or signal.
PAIRS = [
    (LazyConv1d, Conv1d, nn.LazyConv1d, (9,)),
    (LazyConv2d, Conv2d, nn.LazyConv2d, (5, 6)),
    (LazyConvTranspose1d, ConvTranspose1d, nn.LazyConvTranspose1d, (9,)),
    (LazyConvTranspose2d, ConvTranspose2d, nn.LazyConvTranspose2d, (5, 6)),
]
pairs = pytest.mark.parametrize(
    ("lazy", "becomes", "theirs", "size"), PAIRS, ids=[row[0].__name__ for row in PAIRS]
)
ARGUMENTS = [dict(), dict(stride=2, padding=1, groups=4, bias=False), dict(dilation=2)]


def draw(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pairs
@pytest.mark.parametrize("batch", [(2,), ()], ids=["batched", "unbatched"])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_first_call(lazy, becomes, theirs, size, batch, arguments):
    layer, reference = (cls(12, 3, **arguments, dtype=torch.float64) for cls in (lazy, theirs))
    assert layer.has_uninitialized_params() and issubclass(lazy, theirs) and issubclass(lazy, becomes)
    x, outs = draw(*batch, 8, *size), []
    for module in (layer, reference):
        torch.manual_seed(5)
        outs.append(module(x))
    assert type(layer) is becomes and layer.in_channels == 8 and not hasattr(layer, "_infer_parameters_hook")
    torch.testing.assert_close(layer.state_dict(), reference.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(*outs)
    assert repr(layer) == repr(becomes(8, 12, 3, **arguments))
    check_gradients(reference, layer, x.requires_grad_())


@pairs
def test_before_the_first_call(lazy, becomes, theirs, size):
    layer, x = lazy(12, 3), draw(1, 8, *size)
    assert isinstance(layer.weight, UninitializedParameter) and isinstance(layer.bias, UninitializedParameter)
    for made in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer):
        assert made.double()(x).dtype == torch.float64 and type(made) is becomes
    full, loaded = becomes(8, 12, 3), lazy(12, 3)
    loaded.load_state_dict(full.state_dict())
    assert torch.equal(loaded.weight, full.weight)
    assert torch.equal(loaded(x.float()), full(x.float())) and type(loaded) is becomes


@pairs
def test_errors_are_torchs(lazy, becomes, theirs, size):
    for wrong in (torch.zeros(8), torch.zeros(1, 1, 1, 1, *size)):
        check_raises_the_same(lambda cls: cls(12, 3)(wrong), (theirs, lazy))  # noqa: B023
    check_raises_the_same(lambda cls: cls(12, 3, groups=3)(torch.zeros(1, 8, *size)), (theirs, lazy))


@pytest.mark.parametrize(
    ("lazy", "becomes", "size"), [(LazyConv1d, Conv1d, (9,)), (LazyConv2d, Conv2d, (5, 6))]
)
def test_algorithm(lazy, becomes, size):
    with pytest.raises(ValueError, match="algorithm='fft'"):
        lazy(12, 3, algorithm="fft")
    with pytest.raises(ValueError, match="uninitialized parameter"):
        prepack(nn.Sequential(lazy(12, 3)).eval())
    layer, x = lazy(12, 3, padding="same", algorithm="matmul"), torch.zeros(1, 8, *size)
    assert layer(x).shape == (1, 12, *size) and layer.algorithm == "matmul" and type(layer) is becomes


def test_output_size():
    up = LazyConvTranspose2d(12, 3, stride=2)
    assert up(torch.zeros(1, 8, 5, 6), (12, 14)).shape == (1, 12, 12, 14)
    up = LazyConvTranspose1d(12, 3, stride=2)
    assert up(torch.zeros(1, 8, 5), [12]).shape == (1, 12, 12)


@pairs
@pytest.mark.parametrize("inference", [False, True])
def test_convert_takes_torchs_once_they_have_a_shape(lazy, becomes, theirs, size, inference):
    model, x, reports = nn.Sequential(theirs(12, 3, dtype=torch.float64)).eval(), draw(1, 8, *size), []
    convert(model, report=reports.append)
    assert reports[0].left == {"0": "a lazy layer without a shape yet: run the model once, then convert it"}
    assert type(model[0]) is theirs
    expected = model(x)
    example = dict(example=x, inference=True) if inference else {}
    converted = convert(copy.deepcopy(model), report=reports.append, **example)
    assert list(reports[1].converted) == ["0"] and not reports[1].left
    assert any(isinstance(module, becomes) for module in converted.modules())
    torch.testing.assert_close(converted(x), expected)
    assert not any(isinstance(module, becomes) for module in revert(converted).modules())
