"""The NumPy algorithms: the notebook's norms, the full geometry, and the gradients."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nhwc_conv import reference
from nhwc_conv.reference import (
    conv_im2col,
    conv_input_gradient,
    conv_matmul,
    conv_naive,
    conv_weight_gradient,
)

GEOMETRIES = [
    dict(),
    dict(stride=2),
    dict(stride=(3, 2), padding=1),
    dict(padding=(1, 0, 2, 3)),
    dict(padding=(2, 1), dilation=(1, 2)),
    dict(dilation=2, stride=2, padding=3),
    dict(groups=2, padding=1),
    dict(groups=4, stride=2),
    dict(groups=4, padding=(0, 1, 1, 0), dilation=(2, 1)),
]
geometries = pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)


def data(shape, seed, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def by_torch(Z, W, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """F.conv2d on an image that is padded first."""
    sides = (padding,) * 4 if isinstance(padding, int) else padding
    top, bottom, left, right = sides if len(sides) == 4 else (sides[0], sides[0], sides[1], sides[1])
    image = F.pad(Z.permute(0, 3, 1, 2), (left, right, top, bottom))
    return F.conv2d(image, W.permute(3, 2, 0, 1), bias, stride, 0, dilation, groups).permute(0, 2, 3, 1)


@pytest.fixture(scope="module")
def notebook():
    generator = np.random.default_rng(0)
    Z, W = generator.random((10, 32, 32, 8)), generator.random((3, 3, 8, 16))
    return Z, W, reference.conv_reference(Z, W)


@pytest.mark.parametrize("name", ["conv_naive", "conv_matmul", "conv_im2col"])
def test_norm_on_the_notebooks_data(notebook, name):
    Z, W, answer = notebook
    out = getattr(reference, name)(Z, W)
    assert out.shape == answer.shape == (10, 30, 30, 16) and out.dtype == np.float64
    assert np.linalg.norm(out - answer) < 4e-12  # the notebook saw 2.0e-12, 1.8e-12 and 0


def test_naive_adds_in_the_notebooks_order():
    Z, W = data((2, 5, 4, 3), 1), data((2, 2, 3, 4), 2)
    out = np.zeros((2, 4, 3, 4))
    for batch, c_in, c_out, h, w, i, j in np.ndindex(2, 3, 4, 4, 3, 2, 2):
        out[batch, h, w, c_out] += Z[batch, h + i, w + j, c_in] * W[i, j, c_in, c_out]
    assert np.array_equal(conv_naive(Z, W), out)


@pytest.mark.parametrize("function", [conv_naive, conv_matmul, conv_im2col])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_result_has_the_inputs_dtype(function, dtype):
    out = function(data((1, 4, 4, 2), 0, dtype), data((3, 3, 2, 3), 1, dtype))
    assert out.dtype == dtype and out.shape == (1, 2, 2, 3) and out.flags.c_contiguous


@geometries
@pytest.mark.parametrize("function", [conv_matmul, conv_im2col])
def test_full_geometry(function, geometry):
    groups = geometry.get("groups", 1)
    Z, W, bias = data((2, 9, 8, 4), 3), data((3, 2, 4 // groups, 8), 4), data(8, 5)
    answer = by_torch(*map(torch.from_numpy, (Z, W, bias)), **geometry).numpy()
    out = function(Z, W, bias=bias, **geometry)
    np.testing.assert_allclose(out, answer, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(
        function(Z[0], W, bias=bias, **geometry), function(Z[:1], W, bias=bias, **geometry)[0]
    )


@geometries
def test_gradients(geometry):
    groups = geometry.get("groups", 1)
    Z, W = data((2, 9, 8, 4), 6), data((3, 2, 4 // groups, 8), 7)
    z, w = torch.from_numpy(Z).requires_grad_(), torch.from_numpy(W).requires_grad_()
    out = by_torch(z, w, **geometry)
    grad = data(tuple(out.shape), 8)
    dz, dw = torch.autograd.grad(out, (z, w), torch.from_numpy(grad))
    np.testing.assert_allclose(conv_input_gradient(grad, W, (9, 8), **geometry), dz, rtol=0, atol=1e-12)
    np.testing.assert_allclose(conv_weight_gradient(grad, Z, (3, 2), **geometry), dw, rtol=0, atol=1e-12)


@pytest.mark.parametrize("auto_pad", [1, 2])
def test_auto_pad_is_a_padding(auto_pad):
    Z, W = data((1, 7, 8, 2), 9), data((4, 3, 2, 3), 10)
    sides = (1, 2, 0, 1) if auto_pad == 1 else (2, 1, 1, 0)  # 4 outputs of 7 and of 8 pixels at stride 2
    for function in (conv_matmul, conv_im2col):
        expected = function(Z, W, stride=2, padding=sides)
        assert expected.shape[1:3] == (4, 4)
        np.testing.assert_array_equal(function(Z, W, stride=2, auto_pad=auto_pad), expected)


def test_views_of_arrays_are_read_rightly():
    Z, W = data((2, 4, 12, 9), 11).transpose(0, 2, 3, 1)[:, ::2, ::-1], data((3, 2, 4, 3), 12)[:, ::-1]
    expected = conv_matmul(Z.copy(), W.copy())
    for function in (conv_matmul, conv_im2col, conv_naive):
        np.testing.assert_allclose(function(Z, W), expected, rtol=0, atol=1e-13)


def test_empty_batch_and_bad_arguments():
    assert conv_im2col(np.zeros((0, 5, 5, 2)), np.zeros((3, 3, 2, 4))).shape == (0, 3, 3, 4)
    with pytest.raises(RuntimeError, match="to have 2 channels, but got 3 channels"):
        conv_matmul(np.zeros((1, 5, 5, 3)), np.zeros((3, 3, 2, 4)))


def test_im2col_does_not_write_into_its_view():
    Z, W = data((1, 6, 6, 2), 13), data((3, 3, 2, 2), 14)
    before = Z.copy()
    conv_im2col(Z, W, bias=np.ones(2))
    assert np.array_equal(Z, before) and math.isfinite(Z.sum())
