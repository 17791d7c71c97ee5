"""Layers of signals from elsewhere: torch.nn's and back; kernels of Keras and Flax.

The oracles are those of images, of one row.
"""

import itertools

import numpy as np
import pytest
import test_exchange
import test_exchange_transposed
import torch
from test_exchange import close, generator
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import nhwc_conv
from nhwc_conv import NHWCConv2d, NHWCConvTranspose2d, NWCConv1d, NWCConvTranspose1d

STEPS = [(1, 1), (2, 1), (3, 1), (1, 2), (3, 2)]
steps = pytest.mark.parametrize(("stride", "dilation"), STEPS, ids=str)
kernels = pytest.mark.parametrize("K", [1, 2, 3, 5])


def of_one_row(oracle, x, kernel, bias, *geometry, **options):
    """An oracle of images on signals; strides, dilations and the like are pairs."""
    return oracle(x[:, None], kernel[None], bias, *geometry, **options)[:, 0]


@steps
@kernels
@pytest.mark.parametrize("padding", ["SAME", "valid", "causal"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_kernels(stride, dilation, K, padding, groups):
    rng = generator()
    x, bias, kernel = rng.normal(size=(2, 13, 4)), rng.normal(size=8), rng.normal(size=(K, 4 // groups, 8))
    arguments = dict(stride=stride, padding=padding, dilation=dilation)
    layer = NWCConv1d.from_kernel(kernel, bias, groups=groups, **arguments)
    assert np.array_equal(layer.weight.detach(), kernel) and layer.weight.dtype == torch.float64
    given, rule = x, padding
    if padding == "causal":
        given, rule = np.pad(x, ((0, 0), (dilation * (K - 1), 0), (0, 0))), "valid"
    geometry = (1, stride), rule, (1, dilation), groups
    close(layer, x, of_one_row(test_exchange.conv, given, kernel, bias, *geometry))


@steps
@pytest.mark.parametrize("padding", ["same", "VALID", "Causal"])
@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_kernels(stride, dilation, padding, multiplier):
    rng = generator()
    x, bias = rng.normal(size=(2, 13, 5)), rng.normal(size=5 * multiplier)
    kernel = rng.normal(size=(4, 5, multiplier))
    arguments = dict(stride=stride, padding=padding, dilation=dilation)
    layer = NWCConv1d.from_depthwise_kernel(kernel, bias, **arguments)
    assert np.array_equal(layer.weight.detach().reshape(kernel.shape), kernel) and layer.groups == 5
    given, rule = x, padding
    if padding == "Causal":
        given, rule = np.pad(x, ((0, 0), (dilation * 3, 0), (0, 0))), "valid"
    geometry = (1, stride), rule, (1, dilation)
    close(layer, x, of_one_row(test_exchange.depthwise_conv, given, kernel, bias, *geometry))


def transposed_arrays(K, transpose_kernel=True):
    rng = generator()
    channels = (6, 4) if transpose_kernel else (4, 6)
    return rng.normal(size=(2, 7, 4)), rng.normal(size=(K, *channels)), rng.normal(size=6)


@steps
@kernels
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("output_padding", [None, 0, 1])
def test_transposed_kernels_of_keras(stride, dilation, K, padding, output_padding):
    if output_padding and output_padding >= max(stride, dilation):
        return  # which neither has
    x, kernel, bias = transposed_arrays(K)
    arguments = dict(padding=padding.upper(), output_padding=output_padding, dilation=dilation)
    layer = NWCConvTranspose1d.from_kernel(kernel, bias, stride=stride, **arguments)
    assert np.array_equal(layer.weight.detach(), kernel)
    geometry = (1, stride), padding, (1, dilation), (None, output_padding)
    close(layer, x, of_one_row(test_exchange_transposed.keras, x, kernel, bias, *geometry))


@steps
@kernels
@pytest.mark.parametrize("padding", ["SAME", "VALID", (2, 1)])
@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_transposed_kernels_of_flax(stride, dilation, K, padding, transpose_kernel):
    x, kernel, bias = transposed_arrays(K, transpose_kernel)
    extent, ours, theirs = dilation * (K - 1) + 1, padding, padding
    if not isinstance(padding, str):  # zeros around the input
        ours, theirs = tuple(extent - 1 - n for n in padding), ((0, 0), padding)
        if min(ours) < 0:
            return  # no such transposed convolution
    arguments = dict(padding=ours, dilation=dilation, transpose_kernel=transpose_kernel)
    layer = NWCConvTranspose1d.from_kernel(kernel, bias, stride=stride, **arguments)
    geometry = (1, stride), theirs, (1, dilation), transpose_kernel
    close(layer, x, of_one_row(test_exchange_transposed.flax, x, kernel, bias, *geometry))


ARGUMENTS = [
    (nn.Conv1d, dict()),
    (nn.Conv1d, dict(stride=2, padding=1, groups=2, bias=False)),
    (nn.Conv1d, dict(padding="same", dilation=2, padding_mode="circular")),
    (nn.ConvTranspose1d, dict()),
    (nn.ConvTranspose1d, dict(stride=3, padding=1, output_padding=2, groups=4, bias=False)),
    (nn.ConvTranspose1d, dict(stride=2, dilation=3, output_padding=1)),
]
OURS = {nn.Conv1d: NWCConv1d, nn.ConvTranspose1d: NWCConvTranspose1d}


@pytest.mark.parametrize(("cls", "arguments"), ARGUMENTS, ids=str)
def test_torch_there_and_back(cls, arguments):
    theirs = cls(4, 8, 3, **arguments, dtype=torch.float64).eval()
    theirs.weight.requires_grad_(False)
    layer = OURS[cls].from_torch(theirs)
    x = torch.randn(2, 4, 11, dtype=torch.float64)
    torch.testing.assert_close(layer(x.mT).mT, theirs(x))
    back = layer.to_torch()
    assert type(back) is cls and repr(back) == repr(theirs)
    torch.testing.assert_close(back.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    for other in (layer, back):
        assert not other.training and not other.weight.requires_grad and other.weight.is_contiguous()
        assert other.weight.data_ptr() != theirs.weight.data_ptr()


@pytest.mark.parametrize("cls", OURS)
def test_other_layers_of_torch(cls):
    ours = OURS[cls]
    drop_in = getattr(nhwc_conv, cls.__name__)
    assert ours.from_torch(drop_in(3, 4, 1)).weight.shape == ours(3, 4, 1).weight.shape
    normed = weight_norm(cls(4, 4, 3))
    assert torch.equal(ours.from_torch(normed).weight, normed.weight.permute(2, 1, 0))
    others = nn.Conv2d(3, 4, 3), getattr(nn, f"Lazy{cls.__name__}")(4, 3), ours(3, 4, 3)
    for wrong in others:
        with pytest.raises(ValueError, match=f"expected a torch.nn.{cls.__name__} .* {type(wrong).__name__}"):
            ours.from_torch(wrong)
    assert NWCConv1d.from_torch(nn.Conv1d(3, 4, 1), algorithm="im2col").algorithm == "im2col"


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("padding", ["same", "same_lower", "valid", 1, (1, 0), (0, 1), (2, 1)], ids=str)
@pytest.mark.parametrize(
    ("ours", "of_images"), [(NWCConv1d, NHWCConv2d), (NWCConvTranspose1d, NHWCConvTranspose2d)]
)
def test_paddings_that_torch_has(ours, of_images, padding):
    """Those that it has for images of one row, for which test_exchange and test_exchange_transposed try them all."""
    found = set()
    sides = padding if isinstance(padding, str) else (0, 0, *np.broadcast_to(padding, 2))
    for K, stride, dilation in itertools.product((2, 3, 5), (1, 2, 4), (1, 2)):
        layer = ours(2, 3, K, stride, padding, dilation=dilation)
        image = of_images(2, 3, (1, K), (1, stride), sides, dilation=(1, dilation))
        try:
            expected = image.to_torch()
        except ValueError:
            with pytest.raises(ValueError, match=f"torch.nn.{ours.__name__.removeprefix('NWC')} "):
                layer.to_torch()
            found.add("refused")
            continue
        found.add("made")
        x = torch.randn(1, 2, 9)
        theirs = layer.to_torch()
        torch.testing.assert_close(theirs(x).mT, layer(x.mT))
        for name in ("padding", "output_padding"):
            value = getattr(expected, name, None)
            assert getattr(theirs, name, None) == (value if value is None or value == "same" else value[1:])
    assert "made" in found or padding in ((1, 0), (0, 1), (2, 1))
    assert "refused" in found or padding in ("valid", 1) or (ours, padding) in USUAL


# What a transposed layer of torch.nn takes off more at the beginning, it appends.
USUAL = [(NWCConvTranspose1d, (1, 0)), (NWCConvTranspose1d, (2, 1))]


def test_refused():
    with pytest.raises(ValueError, match="torch.nn.Conv1d has no activation, but activation='relu'"):
        NWCConv1d(2, 3, 3, activation="relu").to_torch()
    kernel = np.zeros((3, 4, 6))
    for ours in OURS.values():
        for arguments, text in (
            ((kernel[None],), "expected kernel to have 3 dimensions, but got shape [1, 3, 4, 6]"),
            ((kernel, np.zeros(5)), "elements, but got shape [5]"),
            ((kernel.astype(int),), "floating point dtype"),
        ):
            with pytest.raises(ValueError) as error:
                ours.from_kernel(*arguments)
            assert text in str(error.value)
        with pytest.raises(ValueError, match="Invalid padding string: padding='full'"):
            ours.from_kernel(kernel, padding="full")
        with pytest.raises(RuntimeError, match="stride"):
            ours.from_kernel(kernel, stride=(1, 2))
    with pytest.raises(ValueError, match="Invalid padding string: padding='causal'"):
        NWCConvTranspose1d.from_kernel(kernel, padding="causal")
    with pytest.raises(ValueError, match="out_channels must be divisible by groups"):
        NWCConv1d.from_kernel(kernel, groups=4)
