"""Weights from elsewhere: torch.nn.Conv2d and back; kernels of Keras and Flax, which need no transposition.

The oracles are those libraries' definitions, one product at a time. Neither library is needed.
"""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import nhwc_conv
from nhwc_conv import Conv2d, NHWCConv2d


def generator():
    return np.random.default_rng(0)


def sides(size, kernel, stride, dilation, padding):
    """(zeros before, outputs) along an axis, as TensorFlow and lax define SAME and VALID."""
    extent = dilation * (kernel - 1) + 1
    if padding.upper() == "VALID":
        return 0, -(-(size - extent + 1) // stride)
    outputs = -(-size // stride)
    return max((outputs - 1) * stride + extent - size, 0) // 2, outputs


def windows(x, kernel_size, strides, padding, dilation):
    """For each output pixel, (i, j, the pixels [KH, KW, N, C] below the kernel, zeros outside)."""
    N, H, W, C = x.shape
    axes = [sides(*axis, padding) for axis in zip((H, W), kernel_size, strides, dilation, strict=True)]
    for i, j in itertools.product(range(axes[0][1]), range(axes[1][1])):
        window = np.zeros((*kernel_size, N, C))
        for u, v in np.ndindex(*kernel_size):
            h = i * strides[0] + u * dilation[0] - axes[0][0]
            w = j * strides[1] + v * dilation[1] - axes[1][0]
            if 0 <= h < H and 0 <= w < W:
                window[u, v] = x[:, h, w]
        yield i, j, window


def collect(pixels):
    """[N, OH, OW, O] of {(i, j): [N, O]}."""
    OH, OW = (n + 1 for n in max(pixels))
    return np.stack([np.stack([pixels[i, j] for j in range(OW)], 1) for i in range(OH)], 1)


def conv(x, kernel, bias, strides, padding, dilation, groups):
    """Keras' Conv2D and Flax's Conv: kernel [KH, KW, C/groups, O], output channels of one group side by side."""
    pixels = {}
    depth, width = kernel.shape[2], kernel.shape[3] // groups
    for i, j, window in windows(x, kernel.shape[:2], strides, padding, dilation):
        parts = []
        for g in range(groups):
            image = window[..., g * depth : (g + 1) * depth]
            parts.append(np.einsum("uvnc,uvco->no", image, kernel[..., g * width : (g + 1) * width]))
        pixels[i, j] = np.concatenate(parts, 1) + bias
    return collect(pixels)


def depthwise_conv(x, kernel, bias, strides, padding, dilation):
    """Keras' DepthwiseConv2D: kernel [KH, KW, C, M]; output channel c * M + m is channel c by kernel m."""
    pixels = {}
    for i, j, window in windows(x, kernel.shape[:2], strides, padding, dilation):
        products = np.einsum("uvnc,uvcm->ncm", window, kernel)
        pixels[i, j] = products.reshape(len(products), -1) + bias
    return collect(pixels)


GEOMETRIES = [
    dict(strides=s, padding=p, dilation=d)
    for p in ("same", "valid")
    for s, d in (((1, 1), (1, 1)), ((2, 3), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 1)))
]
geometry = pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)


def ours(geometry):
    return dict(
        stride=geometry["strides"], padding=geometry["padding"].upper(), dilation=geometry["dilation"]
    )  # fmt: skip


def close(layer, x, expected):
    torch.testing.assert_close(layer(torch.tensor(x)).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@geometry
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel_size", [(3, 3), (2, 4)])
def test_keras_and_flax_kernels(geometry, groups, kernel_size):
    rng = generator()
    x, bias = rng.normal(size=(2, 9, 8, 4)), rng.normal(size=8)
    kernel = rng.normal(size=(*kernel_size, 4 // groups, 8))
    layer = NHWCConv2d.from_kernel(kernel, bias, groups=groups, **ours(geometry))
    assert np.array_equal(layer.weight.detach(), kernel) and layer.weight.dtype == torch.float64
    close(layer, x, conv(x, kernel, bias, groups=groups, **geometry))


@geometry
@pytest.mark.parametrize("multiplier", [1, 3])
def test_keras_depthwise_kernels(geometry, multiplier):
    rng = generator()
    x, bias = rng.normal(size=(2, 9, 8, 5)), rng.normal(size=5 * multiplier)
    kernel = rng.normal(size=(3, 2, 5, multiplier))
    layer = NHWCConv2d.from_depthwise_kernel(kernel, bias, **ours(geometry))
    assert np.array_equal(layer.weight.detach().reshape(kernel.shape), kernel) and layer.groups == 5
    close(layer, x, depthwise_conv(x, kernel, bias, **geometry))


def test_flax_padding_pairs():
    """((top, bottom), (left, right)) of Flax is (top, bottom, left, right) here."""
    rng = generator()
    pairs = ((1, 0), (2, 3))
    x, kernel = rng.normal(size=(1, 5, 6, 3)), rng.normal(size=(3, 3, 3, 4))
    layer = NHWCConv2d.from_kernel(kernel, padding=sum(pairs, ()))
    padded = np.pad(x, ((0, 0), *pairs, (0, 0)))
    close(layer, x, conv(padded, kernel, 0, (1, 1), "valid", (1, 1), 1))
    assert layer.bias is None


def test_arrays_are_copied_and_of_any_kind():
    kernel = generator().normal(size=(3, 3, 4, 8)).astype(np.float32)
    kernel.setflags(write=False)  # as arrays of JAX are
    for given in (kernel, torch.tensor(kernel), nn.Parameter(torch.tensor(kernel))):
        layer = NHWCConv2d.from_kernel(given, np.zeros(8), algorithm="matmul", padding_mode="circular")
        assert isinstance(layer.weight, nn.Parameter) and layer.weight.requires_grad
        assert layer.algorithm == "matmul" and layer.padding_mode == "circular" and layer.training
        assert layer.weight.dtype == layer.bias.dtype == torch.float32 and layer.weight.is_contiguous()
        with torch.no_grad():
            layer.weight.zero_()
        assert np.array_equal(given.detach() if isinstance(given, torch.Tensor) else given, kernel)
    transposed = torch.tensor(kernel).mT
    assert NHWCConv2d.from_kernel(transposed).weight.is_contiguous()


ARGUMENTS = [
    dict(),
    dict(stride=2, padding=1, bias=False),
    dict(padding=(2, 1), dilation=(1, 2)),
    dict(groups=2, padding="same", kernel_size=(2, 4)),
    dict(groups=4, padding="valid"),
    dict(padding=1, padding_mode="reflect"),
    dict(padding="same", padding_mode="circular"),
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_torch_there_and_back(arguments):
    torch.manual_seed(0)
    arguments = dict(kernel_size=3, dtype=torch.float64) | arguments
    theirs = nn.Conv2d(4, 8, **arguments).eval()
    theirs.weight.requires_grad_(False)
    layer = NHWCConv2d.from_torch(theirs, algorithm="im2col")
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), theirs(x))
    assert layer.algorithm == "im2col" and not layer.training and layer.weight.is_contiguous()
    back = layer.to_torch()
    assert type(back) is nn.Conv2d and repr(back) == repr(theirs).replace(", padding=valid", "")
    assert not back.training and back.weight.is_contiguous()
    torch.testing.assert_close(back.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    for other in (layer, back):
        assert not other.weight.requires_grad
        assert (other.bias is None) == (theirs.bias is None)
        assert other.bias is None or other.bias.requires_grad
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
    assert all(parameter.abs().sum() > 0 for parameter in theirs.parameters())  # those were copies


def test_other_layers_of_torch():
    layer = NHWCConv2d.from_torch(Conv2d(3, 4, 1, dtype=torch.bfloat16))
    assert layer.weight.dtype == torch.bfloat16 and layer.weight.shape == (1, 1, 3, 4)
    normed = weight_norm(nn.Conv2d(4, 4, 3))
    assert torch.equal(NHWCConv2d.from_torch(normed).weight, normed.weight.permute(2, 3, 1, 0))
    for wrong in (nn.Conv1d(3, 4, 3), nn.LazyConv2d(4, 3), nn.ConvTranspose2d(3, 4, 3), NHWCConv2d(3, 4, 3)):
        with pytest.raises(ValueError, match=f"expected a torch.nn.Conv2d .* {type(wrong).__name__}"):
            NHWCConv2d.from_torch(wrong)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_paddings_that_torch_has():
    x = torch.randn(1, 7, 8, 4)
    for arguments in (
        dict(kernel_size=(3, 5), padding="same_lower"), dict(kernel_size=(2, 3), padding="same"),
        dict(kernel_size=2, dilation=2, padding="same_lower"), dict(kernel_size=3, padding=(1, 1, 2, 2), stride=2),
    ):  # fmt: skip
        layer = NHWCConv2d(4, 5, **arguments)
        theirs = layer.to_torch()(x.permute(0, 3, 1, 2))
        torch.testing.assert_close(layer(x).permute(0, 3, 1, 2), theirs)
    for arguments, text in (
        (
            dict(kernel_size=3, padding="same", stride=2),
            "no padding='same' for kernel_size=(3, 3), stride=(2, 2)",
        ),
        (dict(kernel_size=(3, 2), padding="same_lower"), "no padding='same_lower'"),
        (dict(kernel_size=3, padding=(1, 0, 1, 1)), "alike, but padding=(1, 0, 1, 1)"),
    ):
        with pytest.raises(ValueError) as error:
            NHWCConv2d(4, 5, **arguments).to_torch()
        assert text in str(error.value)


def test_bad_arrays():
    kernel = np.zeros((3, 3, 4, 6))
    for arguments, text in (
        ((kernel[0],), "expected kernel to have 4 dimensions, but got shape [3, 4, 6]"),
        ((kernel, np.zeros((6, 1))), "expected bias to have 1 dimensions, but got shape [6, 1]"),
        ((kernel, np.zeros(4)), "expected a bias of 6 elements, but got shape [4]"),
    ):
        with pytest.raises(ValueError) as error:
            NHWCConv2d.from_kernel(*arguments)
        assert text in str(error.value)
    with pytest.raises(ValueError, match="out_channels must be divisible by groups"):
        NHWCConv2d.from_kernel(kernel, groups=4)
    with pytest.raises(ValueError, match="Invalid padding string"):
        NHWCConv2d.from_depthwise_kernel(kernel, padding="causal")


def test_prepacked_layers_from_elsewhere():
    layer = NHWCConv2d.from_kernel(generator().normal(size=(3, 3, 4, 8)), padding="same").eval()
    x = torch.randn(1, 6, 6, 4, dtype=torch.float64)
    expected = layer(x)
    with torch.no_grad():
        torch.testing.assert_close(nhwc_conv.prepack(layer)(x), expected)
