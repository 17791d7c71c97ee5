"""Lazy layers against torch.nn's: the same values from the same seed, and then ordinary layers."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

import nhwc_conv
from nhwc_conv import (
    Conv2d,
    LazyConv2d,
    LazyNHWCConv2d,
    LazyNHWCConvTranspose2d,
    NHWCConv2d,
    NHWCConvTranspose2d,
)

PAIRS = [
    (LazyConv2d, Conv2d, nn.LazyConv2d),
    (LazyNHWCConv2d, NHWCConv2d, nn.LazyConv2d),
    (LazyNHWCConvTranspose2d, NHWCConvTranspose2d, nn.LazyConvTranspose2d),
]
pairs = pytest.mark.parametrize(("lazy", "becomes", "theirs"), PAIRS, ids=lambda cls: cls.__name__)


def image(lazy, *batch):
    x = torch.randn(*batch, 6, 7, 8)
    return x.movedim(-1, -3) if lazy is LazyConv2d else x


@pairs
@pytest.mark.parametrize("batch", [(2,), ()], ids=["batched", "unbatched"])
@pytest.mark.parametrize("arguments", [dict(), dict(stride=2, padding=1, groups=4, bias=False)], ids=str)
def test_first_call(lazy, becomes, theirs, batch, arguments):
    layer, reference = lazy(12, (3, 2), **arguments), theirs(12, (3, 2), **arguments)
    assert layer.has_uninitialized_params() and isinstance(layer, becomes)
    x = image(lazy, *batch)
    outs = []
    for m in (layer, reference):
        torch.manual_seed(5)
        nchw = x if lazy is LazyConv2d or m is layer else x.movedim(-1, -3)
        outs.append(m(nchw))
    assert type(layer) is becomes and layer.in_channels == 8 and not hasattr(layer, "_infer_parameters_hook")
    permuted = (0, 1, 2, 3) if lazy is LazyConv2d else (2, 3, 1, 0)
    assert torch.equal(layer.weight, reference.weight.permute(permuted)) and layer.weight.is_contiguous()
    assert (layer.bias is None) == (reference.bias is None)
    assert layer.bias is None or torch.equal(layer.bias, reference.bias)
    torch.testing.assert_close(outs[0], outs[1] if lazy is LazyConv2d else outs[1].movedim(-3, -1))
    outs[0].sum().backward()
    assert layer.weight.grad is not None
    full = becomes(8, 12, (3, 2), **arguments)
    assert repr(layer) == repr(full) and list(layer.state_dict()) == list(full.state_dict())


@pairs
def test_before_the_first_call(lazy, becomes, theirs):
    layer = lazy(12, 3, dtype=torch.float32)
    assert isinstance(layer.weight, UninitializedParameter) and isinstance(layer.bias, UninitializedParameter)
    layer.double()
    x = image(lazy, 1).double()
    for m in (copy.deepcopy(layer), layer):
        assert m(x).dtype == torch.float64 and type(m) is becomes
    pickled = pickle.loads(pickle.dumps(lazy(12, 3)))
    assert pickled(x.float()).dtype == torch.float32 and type(pickled) is becomes
    full = becomes(8, 12, 3)
    loaded = lazy(12, 3)
    loaded.load_state_dict(full.state_dict())
    assert torch.equal(loaded.weight, full.weight)
    torch.testing.assert_close(loaded(x.float()), full(x.float()))
    if lazy is LazyNHWCConvTranspose2d:
        return  # has no packed form
    with pytest.raises(ValueError, match="uninitialized parameter"):
        nhwc_conv.prepack(nn.Sequential(lazy(12, 3)).eval())


@pairs
def test_bad_arguments(lazy, becomes, theirs):
    with pytest.raises(
        RuntimeError, match=r"Expected 3D .unbatched. or 4D .batched. input to Lazy\w+, but got"
    ):
        lazy(12, 3)(torch.randn(5, 8))
    with pytest.raises(ValueError, match="in_channels must be divisible by groups"):
        lazy(12, 3, groups=3)(image(lazy, 1))
    if lazy is not LazyConv2d:  # torch.nn.LazyConv2d sees that later
        with pytest.raises(
            ValueError, match="out_channels must be divisible by groups, but got out_channels=12"
        ):
            lazy(12, 3, groups=5)
    if lazy is not LazyNHWCConvTranspose2d:
        with pytest.raises(ValueError, match="algorithm='fft'"):
            lazy(12, 3, algorithm="fft")
        layer = lazy(12, 3, algorithm="matmul")
        layer(image(lazy, 1))
        assert layer.algorithm == "matmul" and type(layer) is becomes


def test_the_lazy_drop_in_is_torchs():
    assert issubclass(LazyConv2d, nn.LazyConv2d)
