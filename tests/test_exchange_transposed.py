"""NHWCConvTranspose2d from elsewhere: torch.nn.ConvTranspose2d and back, kernels of Keras and Flax.

The oracles are those libraries' definitions, one product at a time. Neither library is needed.
"""

import itertools

import numpy as np
import pytest
import torch
from test_exchange import close, generator
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from nhwc_conv import ConvTranspose2d, NHWCConvTranspose2d


def keras_sizes(size, extent, stride, padding, output_padding):
    """(rows of the result, rows left out before the first) of Conv2DTranspose along an axis.

    It is the gradient of a convolution of the result, which pads by TensorFlow's rule; its rows are counted so that
    each input has a stride of them, or as output_padding says.
    """
    if output_padding is None:
        outputs = size * stride + (max(extent - stride, 0) if padding == "valid" else 0)
    else:
        pad = {"valid": 0, "same": extent // 2}[padding]
        outputs = (size - 1) * stride + extent - 2 * pad + output_padding
    if padding == "valid":
        return outputs, 0
    return outputs, max((size - 1) * stride + extent - outputs, 0) // 2


def keras(x, kernel, bias, strides, padding, dilation=(1, 1), output_padding=(None, None)):
    """Conv2DTranspose: each pixel adds its kernel [KH, KW, O, C] to the result."""
    N, H, W, _ = x.shape
    KH, KW, O, _ = kernel.shape  # noqa: E741
    axes = [
        keras_sizes(size, d * (k - 1) + 1, s, padding, more)
        for size, k, s, d, more in zip((H, W), (KH, KW), strides, dilation, output_padding, strict=True)
    ]
    out = np.zeros((N, axes[0][0], axes[1][0], O)) + bias
    for i, j, u, v in itertools.product(range(H), range(W), range(KH), range(KW)):
        h = i * strides[0] + u * dilation[0] - axes[0][1]
        w = j * strides[1] + v * dilation[1] - axes[1][1]
        if 0 <= h < out.shape[1] and 0 <= w < out.shape[2]:
            out[:, h, w] += x[:, i, j] @ kernel[u, v].T
    return out


def flax_pads(extent, stride, padding):
    """Zeros before and after the dilated input, by lax.conv_transpose's rules."""
    if padding == "VALID":
        total = extent + stride - 2 + max(extent - stride, 0)
        before = extent - 1
    else:
        total = extent + stride - 2
        before = extent - 1 if stride > extent - 1 else -(-total // 2)
    return before, total - before


def flax(x, kernel, bias, strides, padding, dilation=(1, 1), transpose_kernel=False):
    """ConvTranspose: a convolution of stride 1 over the input with stride - 1 zeros between pixels."""
    if transpose_kernel:
        kernel = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    N, H, W, C = x.shape
    extents = [d * (k - 1) + 1 for k, d in zip(kernel.shape, dilation, strict=False)]
    if isinstance(padding, str):
        padding = [flax_pads(*axis, padding) for axis in zip(extents, strides, strict=True)]
    (top, bottom), (left, right) = padding
    rows, columns = (H - 1) * strides[0] + 1, (W - 1) * strides[1] + 1
    image = np.zeros((N, top + rows + bottom, left + columns + right, C))
    image[:, top : top + rows : strides[0], left : left + columns : strides[1]] = x
    OH, OW = (n - e + 1 for n, e in zip(image.shape[1:3], extents, strict=True))
    out = np.zeros((N, OH, OW, kernel.shape[3])) + bias
    for u, v in np.ndindex(*kernel.shape[:2]):
        h, w = u * dilation[0], v * dilation[1]
        out += image[:, h : h + OH, w : w + OW] @ kernel[u, v]
    return out


GEOMETRIES = [
    ((1, 1), (1, 1)), ((2, 2), (1, 1)), ((2, 3), (1, 1)), ((4, 5), (1, 1)), ((1, 1), (2, 3)), ((3, 2), (2, 2)),
]  # fmt: skip
geometry = pytest.mark.parametrize(("strides", "dilation"), GEOMETRIES, ids=str)
kernels = pytest.mark.parametrize("kernel_size", [(1, 2), (3, 3), (2, 4), (5, 3)], ids=str)


def arrays(kernel_size, transposed=True):
    """An image, a kernel and a bias of 4 channels in and 6 out; every entry differs."""
    rng = generator()
    channels = (6, 4) if transposed else (4, 6)
    return rng.normal(size=(2, 4, 5, 4)), rng.normal(size=(*kernel_size, *channels)), rng.normal(size=6)


@geometry
@kernels
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_keras_kernels(strides, dilation, kernel_size, padding):
    x, kernel, bias = arrays(kernel_size)
    steps = dict(stride=strides, padding=padding.upper(), dilation=dilation)
    layer = NHWCConvTranspose2d.from_kernel(kernel, bias, **steps)
    assert np.array_equal(layer.weight.detach(), kernel)
    close(layer, x, keras(x, kernel, bias, strides, padding, dilation))


@kernels
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_output_padding_of_keras(kernel_size, padding):
    x, kernel, bias = arrays(kernel_size)
    for output_padding in itertools.product(range(3), range(4)):
        steps = dict(padding=padding, output_padding=output_padding)
        layer = NHWCConvTranspose2d.from_kernel(kernel, bias, stride=(3, 4), **steps)
        close(layer, x, keras(x, kernel, bias, (3, 4), **steps))


@geometry
@kernels
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_flax_kernels(strides, dilation, kernel_size, padding, transpose_kernel):
    x, kernel, bias = arrays(kernel_size, transpose_kernel)
    steps = dict(padding=padding, dilation=dilation, transpose_kernel=transpose_kernel)
    layer = NHWCConvTranspose2d.from_kernel(kernel, bias, stride=strides, **steps)
    close(layer, x, flax(x, kernel, bias, strides, **steps))


def test_flax_padding_pairs():
    x, kernel, _ = arrays((3, 4), transposed=False)
    pairs = ((1, 2), (6, 3))  # of extents 3 and 7
    padding = 3 - 1 - 1, 3 - 1 - 2, 7 - 1 - 6, 7 - 1 - 3
    steps = dict(dilation=(1, 2), transpose_kernel=False)
    layer = NHWCConvTranspose2d.from_kernel(kernel, stride=2, padding=padding, **steps)
    close(layer, x, flax(x, kernel, 0, (2, 2), pairs, **steps))
    assert layer.bias is None


def test_arrays_are_copied():
    _, kernel, bias = arrays((3, 3))
    for given, options in ((kernel, {}), (kernel.transpose(0, 1, 3, 2), dict(transpose_kernel=False))):
        layer = NHWCConvTranspose2d.from_kernel(torch.tensor(given), bias.astype("f4"), **options)
        assert layer.weight.is_contiguous() and layer.bias.dtype == torch.float64
        before = kernel.copy()
        with torch.no_grad():
            layer.weight.zero_()
        assert np.array_equal(kernel, before)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (dict(kernel=np.zeros((3, 3, 4))), "expected kernel to have 4 dimensions"),
        (dict(kernel=np.zeros((3, 3, 6, 4), int)), "floating point dtype"),
        (dict(bias=np.zeros(4)), "expected a bias of 6 elements, but got shape [4]"),
        (dict(bias=np.zeros(6), transpose_kernel=False), "expected a bias of 4 elements, but got shape [6]"),
        (dict(padding="causal"), "Invalid padding string: padding='causal'"),
        (dict(padding="same_lower", output_padding=1), "output_padding=(1, 1)"),
        (dict(padding="same", output_padding=(1, 2, 3)), "output_padding=(1, 2, 3)"),
    ],
    ids=str,
)
def test_bad_arguments(arguments, text):
    with pytest.raises(ValueError) as error:
        NHWCConvTranspose2d.from_kernel(**dict(kernel=np.zeros((3, 3, 6, 4))) | arguments)
    assert text in str(error.value)


ARGUMENTS = [
    dict(),
    dict(stride=2, padding=1, output_padding=1, bias=False),
    dict(stride=(2, 3), padding=(0, 1), groups=2),
    dict(dilation=(2, 3), output_padding=(1, 2), groups=4),
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_torch_there_and_back(arguments):
    theirs = nn.ConvTranspose2d(4, 8, (3, 2), **arguments, dtype=torch.float64).eval()
    theirs.weight.requires_grad_(False)
    layer = NHWCConvTranspose2d.from_torch(theirs)
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), theirs(x))
    back = layer.to_torch()
    assert type(back) is nn.ConvTranspose2d and repr(back) == repr(theirs)
    torch.testing.assert_close(back.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    for other in (layer, back):
        assert not other.training and not other.weight.requires_grad and other.weight.is_contiguous()
        assert other.weight.data_ptr() != theirs.weight.data_ptr()


def test_other_layers_of_torch():
    assert NHWCConvTranspose2d.from_torch(ConvTranspose2d(3, 4, 1)).weight.shape == (1, 1, 4, 3)
    normed = weight_norm(nn.ConvTranspose2d(4, 4, 3))
    assert torch.equal(NHWCConvTranspose2d.from_torch(normed).weight, normed.weight.permute(2, 3, 1, 0))
    for wrong in (nn.Conv2d(3, 4, 3), nn.LazyConvTranspose2d(4, 3), NHWCConvTranspose2d(3, 4, 3)):
        with pytest.raises(
            ValueError, match=f"expected a torch.nn.ConvTranspose2d .* {type(wrong).__name__}"
        ):
            NHWCConvTranspose2d.from_torch(wrong)


PADDINGS = ["same", "same_lower", "valid", (1, 0, 2, 1), (0, 1, 0, 0), (2, 0, 1, 1), (0, 0, 0, 2)]


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_paddings_that_torch_has(padding):
    """Equal where torch has any padding and output_padding of that result, and an error where it has none."""
    x, refused = torch.randn(1, 4, 5, 2, dtype=torch.float64), 0
    for kernel, stride, dilation in itertools.product((2, 3, 5), (1, 2, 4), (1, 2)):
        layer = NHWCConvTranspose2d(2, 3, kernel, stride, padding, dilation=dilation, dtype=torch.float64)
        candidates = [
            nn.ConvTranspose2d(2, 3, kernel, stride, sides, more, dilation=dilation).double()
            for sides in itertools.product(range(5), range(5))
            for more in itertools.product(range(max(stride, dilation)), repeat=2)
            if 3 * stride + dilation * (kernel - 1) + 1 > 2 * max(sides)
        ]
        expected = layer(x).permute(0, 3, 1, 2)
        exists = False
        for theirs in candidates:
            with torch.no_grad():
                theirs.weight.copy_(layer.weight.permute(3, 2, 0, 1))
                theirs.bias.copy_(layer.bias)
            out = theirs(x.permute(0, 3, 1, 2))
            exists = exists or out.shape == expected.shape and torch.allclose(out, expected)
        if exists:
            torch.testing.assert_close(layer.to_torch()(x.permute(0, 3, 1, 2)), expected)
        else:
            refused += 1
            with pytest.raises(
                ValueError, match=r"torch.nn.ConvTranspose2d has no padding=.*output_padding="
            ):
                layer.to_torch()
    assert refused == 0 if padding == "valid" else refused > 0
