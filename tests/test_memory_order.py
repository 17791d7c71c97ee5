"""The order in which memory is read, and how few pixels there are, show in no bit."""

import pytest
import torch
from oracle import same_bits

import nhwc_conv

pytestmark = pytest.mark.needs_extension


@pytest.mark.parametrize("stride", [1, 2])
def test_images_from_memory_have_the_bits_of_those_in_the_caches(isa, stride):
    """Two together take over 6 MB: they are read in another order, and ahead."""
    x, w, bias = torch.randn(2, 51, 33, 516), torch.randn(3, 3, 1, 516), torch.randn(516)
    together = nhwc_conv.conv2d(x, w, bias, stride, 1, groups=516)
    alone = [nhwc_conv.conv2d(image, w, bias, stride, 1, groups=516) for image in x]
    assert same_bits(together, torch.stack(alone))


@pytest.mark.parametrize("dtype, channels", [(torch.float32, 67), (torch.float64, 34)], ids=str)
@pytest.mark.parametrize("kernel, stride", [(1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("outputs, groups", [(1, 1), (2, 1), (3, 1), (6, 2)])
def test_few_outputs_of_images_from_memory(outputs, groups, kernel, stride, dtype, channels, isa):
    """Two together take over 6 MB: their pixels are asked for ahead."""
    x = torch.randn(2, 131, 101, channels * groups, dtype=dtype)
    w, bias = torch.randn(kernel, kernel, channels, outputs, dtype=dtype), torch.randn(outputs, dtype=dtype)
    together = nhwc_conv.conv2d(x, w, bias, stride, kernel // 2, groups=groups)
    parts = [nhwc_conv.conv2d(image, w, bias, stride, kernel // 2, groups=groups) for image in x[:, :64]]
    rows = parts[0].shape[0] - 1
    assert same_bits(together[:, :rows], torch.stack(parts)[:, :rows])


@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_streamed_weights_keep_the_sign_of_zeros(isa, pixels):
    x, bias = torch.full((1, 1, pixels, 37), -0.0), torch.full((21,), -0.0)
    w = torch.rand(1, 1, 37, 21)
    assert nhwc_conv.explain(x.shape, w.shape)["runner"] == "stream"
    alone = nhwc_conv.conv2d(x, w, bias)
    assert torch.signbit(alone).all()
    assert torch.signbit(nhwc_conv.conv2d(x.expand(2, -1, -1, -1), w, bias)).all()
