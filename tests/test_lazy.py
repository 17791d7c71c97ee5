"""Lazy layers of channels-last tensors against torch.nn's: the same values from the same seed, then ordinary layers.

Lazy drop-ins are in test_lazy_drop_ins.py.
"""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

import nhwc_conv
from nhwc_conv import (
    LazyNHWCConv2d,
    LazyNHWCConvTranspose2d,
    LazyNWCConv1d,
    LazyNWCConvTranspose1d,
    NHWCConv2d,
    NHWCConvTranspose2d,
    NWCConv1d,
    NWCConvTranspose1d,
)

# Ours, what it becomes, torch's, and the size of an image or signal.
PAIRS = [
    (LazyNHWCConv2d, NHWCConv2d, nn.LazyConv2d, (6, 7)),
    (LazyNHWCConvTranspose2d, NHWCConvTranspose2d, nn.LazyConvTranspose2d, (6, 7)),
    (LazyNWCConv1d, NWCConv1d, nn.LazyConv1d, (7,)),
    (LazyNWCConvTranspose1d, NWCConvTranspose1d, nn.LazyConvTranspose1d, (7,)),
]
pairs = pytest.mark.parametrize(
    ("lazy", "becomes", "theirs", "size"), PAIRS, ids=[row[0].__name__ for row in PAIRS]
)


@pairs
@pytest.mark.parametrize("batch", [(2,), ()], ids=["batched", "unbatched"])
@pytest.mark.parametrize("arguments", [dict(), dict(stride=2, padding=1, groups=4, bias=False)], ids=str)
def test_first_call(lazy, becomes, theirs, size, batch, arguments):
    kernel = (3, 2)[: len(size)]
    layer, reference = lazy(12, kernel, **arguments), theirs(12, kernel, **arguments)
    assert layer.has_uninitialized_params() and isinstance(layer, becomes)
    x, first = torch.randn(*batch, *size, 8), -1 - len(size)
    torch.manual_seed(5)
    out = layer(x)
    torch.manual_seed(5)
    expected = reference(x.movedim(-1, first))
    assert type(layer) is becomes and layer.in_channels == 8 and not hasattr(layer, "_infer_parameters_hook")
    weight = reference.weight.permute(*range(2, 2 + len(size)), 1, 0)
    assert torch.equal(layer.weight, weight) and layer.weight.is_contiguous()
    assert (layer.bias is None) == (reference.bias is None)
    assert layer.bias is None or torch.equal(layer.bias, reference.bias)
    torch.testing.assert_close(out, expected.movedim(first, -1))
    out.sum().backward()
    assert layer.weight.grad is not None
    full = becomes(8, 12, kernel, **arguments)
    assert repr(layer) == repr(full) and list(layer.state_dict()) == list(full.state_dict())


@pairs
def test_before_the_first_call(lazy, becomes, theirs, size):
    layer = lazy(12, 3, dtype=torch.float32)
    assert isinstance(layer.weight, UninitializedParameter) and isinstance(layer.bias, UninitializedParameter)
    layer.double()
    x = torch.randn(1, *size, 8).double()
    for m in (copy.deepcopy(layer), layer):
        assert m(x).dtype == torch.float64 and type(m) is becomes
    pickled = pickle.loads(pickle.dumps(lazy(12, 3)))
    assert pickled(x.float()).dtype == torch.float32 and type(pickled) is becomes
    full = becomes(8, 12, 3)
    loaded = lazy(12, 3)
    loaded.load_state_dict(full.state_dict())
    assert torch.equal(loaded.weight, full.weight)
    torch.testing.assert_close(loaded(x.float()), full(x.float()))


@pytest.mark.parametrize("lazy", [LazyNHWCConv2d, LazyNWCConv1d])
def test_packing_needs_a_shape(lazy):
    with pytest.raises(ValueError, match="uninitialized parameter"):
        nhwc_conv.prepack(nn.Sequential(lazy(12, 3)).eval())


@pairs
def test_bad_arguments(lazy, becomes, theirs, size):
    least = len(size) + 1
    text = f"Expected {least}D .unbatched. or {least + 1}D .batched. input to {lazy.__name__}, but got x of"
    for x in (torch.randn(size), torch.randn(1, 1, 1, *size)):
        with pytest.raises(RuntimeError, match=text):
            lazy(12, 3)(x)
    with pytest.raises(ValueError, match="in_channels must be divisible by groups"):
        lazy(12, 3, groups=3)(torch.randn(1, *size, 8))
    with pytest.raises(ValueError, match="out_channels must be divisible by groups, but got out_channels=12"):
        lazy(12, 3, groups=5)


@pytest.mark.parametrize("lazy", [LazyNHWCConv2d, LazyNWCConv1d])
def test_algorithm_and_activation(lazy):
    with pytest.raises(ValueError, match="algorithm='fft'"):
        lazy(12, 3, algorithm="fft")
    layer = lazy(12, 3, padding="same_lower", algorithm="matmul", activation="relu", activation_first=True)
    x = torch.randn(*(7,) * len(layer.kernel_size), 8)
    assert (layer(x) >= 0).all() and layer.algorithm == "matmul" and layer.activation_first
    assert layer(x).shape == (*x.shape[:-1], 12)
