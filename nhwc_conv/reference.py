"""The notebook's four ways to compute one convolution, in NumPy, Winograd's, and the gradients in the manner of one.

`f(Z, weights)` is the notebook's function. Z is [N, H, W, C] (or [H, W, C]), weights are [KH, KW, C/groups,
O], results are [N, OH, OW, O] in the dtype of Z. The keyword arguments of `conv_matmul`, `conv_im2col` and
the gradients are those of the ops: stride, padding (an int, (h, w) or (top, bottom, left, right)), dilation,
groups and auto_pad (0 explicit, 1 TensorFlow's SAME, 2 the same with the odd pixel in front). Bad arguments
raise RuntimeError in F.conv2d's wording.

Without the extension these functions are what the ops compute with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from numpy.typing import NDArray

from ._geometry import Geometry, check_winograd, forward_geometry, input_geometry, weight_geometry

Array: TypeAlias = "NDArray[Any]"
Ints: TypeAlias = "int | Sequence[int]"  # an int, or a tuple of one, two or, of padding, four


def conv_reference(Z: Array, weights: Array) -> Array:
    """F.conv2d on permuted copies: the answer that the others are compared with."""
    import torch

    x = torch.tensor(Z).permute(0, 3, 1, 2)
    w = torch.tensor(weights).permute(3, 2, 0, 1)
    return torch.nn.functional.conv2d(x, w).permute(0, 2, 3, 1).numpy()


def conv_naive(Z: Array, weights: Array) -> Array:
    """The definition: seven loops, one product at a time, added up in Python's double precision."""
    N, H, W, C = Z.shape
    KH, KW, _, O = weights.shape  # noqa: E741
    OH, OW = H - KH + 1, W - KW + 1
    z, k = Z.tolist(), weights.tolist()  # indexing arrays element by element would take ten times as long
    out = np.zeros((N, OH, OW, O), Z.dtype)
    for n in range(N):
        for h in range(OH):
            for w in range(OW):
                for o in range(O):
                    total = 0
                    for c in range(C):
                        for i in range(KH):
                            for j in range(KW):
                                total += z[n][h + i][w + j][c] * k[i][j][c][o]
                    out[n, h, w, o] = total
    return out


def conv_matmul(
    Z: Array,
    weights: Array,
    *,
    bias: Array | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    auto_pad: int = 0,
) -> Array:
    """A sum of shifted matrix products: for each kernel offset, out += Z[shifted by it] @ weights[it]."""
    g = _forward(Z, weights, bias, stride, padding, dilation, groups, auto_pad)
    padded = _pad(Z, g)
    out = np.zeros((g.N, g.OH, g.OW, g.O), Z.dtype)
    for i, j in np.ndindex(g.KH, g.KW):
        out += _multiply(padded[_window(g, i, j)], weights[i, j], groups)
    return _finish(out, bias, g)


def conv_im2col(
    Z: Array,
    weights: Array,
    *,
    bias: Array | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    auto_pad: int = 0,
) -> Array:
    """One matrix product: the windows of Z, viewed by as_strided, copied into rows, times the weights."""
    g = _forward(Z, weights, bias, stride, padding, dilation, groups, auto_pad)
    padded = _pad(Z, g)
    # A step past the image is never taken; its length in bytes could overflow.
    (sh, sw), (dh, dw) = (
        [min(step, size) for step, size in zip(steps, padded.shape[1:3], strict=True)]
        for steps in (g.stride, g.dilation)
    )
    Ns, Hs, Ws, Cs = padded.strides
    depth = g.C // groups
    windows = as_strided(
        padded,
        shape=(groups, g.N, g.OH, g.OW, g.KH, g.KW, depth),
        strides=(depth * Cs, Ns, sh * Hs, sw * Ws, dh * Hs, dw * Ws, Cs),
        writeable=False,
    )
    rows = windows.reshape(groups, g.N * g.OH * g.OW, g.KH * g.KW * depth)
    if groups == 1:
        out = rows[0] @ weights.reshape(-1, g.O)
    else:
        columns = weights.reshape(g.KH * g.KW * depth, groups, g.O // groups).swapaxes(0, 1)
        out = (rows @ columns).swapaxes(0, 1)
    return _finish(np.ascontiguousarray(out, Z.dtype).reshape(g.N, g.OH, g.OW, g.O), bias, g)


# Where F(4x4, 3x3) interpolates, with infinity; chosen in csrc/kernels/winograd_body.h.
WINOGRAD_POINTS = (0, 5 / 8, -5 / 8, 3 / 2, -3 / 2)


def winograd_matrices(points: Sequence[float] = WINOGRAD_POINTS) -> tuple[Array, Array, Array]:
    """B^T, G and A^T of a one-dimensional y = A^T ((G g) * (B^T d)), len(points) - 1 outputs of three taps.

    A polynomial product, evaluated at the points and at infinity, and interpolated (Toom and Cook); transposed,
    it is a correlation (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016).
    """
    p = np.array(points)
    others = [np.delete(p, j) for j in range(len(p))]
    scale = np.array([np.prod(p[j] - others[j]) for j in range(len(p))])
    B = [np.append(np.poly(roots)[::-1], 0) for roots in others] + [np.poly(p)[::-1]]
    G = np.vstack([np.vander(p, 3, increasing=True) / scale[:, None], [0, 0, 1]])
    A = np.vstack([np.vander(p, len(p) - 1, increasing=True), np.eye(len(p) - 1)[-1]])
    return np.array(B), G, A.T


def conv_winograd(
    Z: Array,
    weights: Array,
    *,
    bias: Array | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    auto_pad: int = 0,
) -> Array:
    """Tiles of 4x4 outputs by Winograd's F(4x4, 3x3): 36 products of transformed tiles and weights."""
    g = check_winograd(_forward(Z, weights, bias, stride, padding, dilation, groups, auto_pad))
    B, G, A = (matrix.astype(Z.dtype) for matrix in winograd_matrices())
    down, across = -(-g.OH // 4), -(-g.OW // 4)
    padded = _pad(Z, g)
    missing = 4 * down + 2 - padded.shape[1], 4 * across + 2 - padded.shape[2]
    padded = np.pad(padded, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))
    tiles = sliding_window_view(padded, (6, 6), (1, 2))[:, ::4, ::4]  # [N, down, across, C, 6, 6]
    V = (B @ tiles @ B.T).reshape(g.N, down, across, groups, g.C // groups, 36)
    U = (G @ weights.transpose(2, 3, 0, 1) @ G.T).reshape(g.C // groups, groups, g.O // groups, 36)
    M = np.einsum("nyxgcp,cgop->nyxgop", V, U, optimize=True).reshape(g.N, down, across, g.O, 6, 6)
    out = (A @ M @ A.T).transpose(0, 1, 4, 2, 5, 3).reshape(g.N, 4 * down, 4 * across, g.O)
    return _finish(np.ascontiguousarray(out[:, : g.OH, : g.OW]), bias, g)


def conv_input_gradient(
    grad: Array,
    weights: Array,
    input_size: Sequence[int],
    *,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    auto_pad: int = 0,
) -> Array:
    """The gradient of Z ([N, *input_size, C]): `conv_matmul` backwards, each product with weights[it].T."""
    steps = _as_list(stride), _as_list(padding), _as_list(dilation)
    g = input_geometry(grad.shape, weights.shape, input_size, *steps, groups, auto_pad, 0)
    grad = grad.reshape(g.N, g.OH, g.OW, g.O)
    top, bottom, left, right = g.padding
    padded = np.zeros((g.N, top + g.H + bottom, left + g.W + right, g.C), grad.dtype)
    for i, j in np.ndindex(g.KH, g.KW):
        padded[_window(g, i, j)] += _multiply(grad, _transpose(weights[i, j], groups), groups)
    return np.ascontiguousarray(padded[:, top : top + g.H, left : left + g.W]).reshape(g.x_shape)


def conv_weight_gradient(
    grad: Array,
    Z: Array,
    kernel_size: Sequence[int],
    *,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    auto_pad: int = 0,
) -> Array:
    """The gradient of the weights ([*kernel_size, C/groups, O]): per offset, Z[shifted by it].T @ grad."""
    steps = _as_list(stride), _as_list(padding), _as_list(dilation)
    g = weight_geometry(grad.shape, Z.shape, kernel_size, *steps, groups, auto_pad, 0)
    padded = _pad(Z, g)
    columns = grad.reshape(g.N * g.OH * g.OW, groups, g.O // groups).swapaxes(0, 1)
    out = np.empty((g.KH, g.KW, g.C // groups, groups, g.O // groups), Z.dtype)
    for i, j in np.ndindex(g.KH, g.KW):
        rows = padded[_window(g, i, j)].reshape(g.N * g.OH * g.OW, groups, g.C // groups).transpose(1, 2, 0)
        out[i, j] = (rows @ columns).swapaxes(0, 1)
    return out.reshape(g.w_shape)


def _forward(
    Z: Array,
    weights: Array,
    bias: Array | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    auto_pad: int,
) -> Geometry:
    bias_shape = None if bias is None else bias.shape
    steps = _as_list(stride), _as_list(padding), _as_list(dilation)
    return forward_geometry(Z.shape, weights.shape, bias_shape, *steps, groups, auto_pad)


def _as_list(value: Ints) -> Sequence[int]:
    return (value,) if isinstance(value, int) else value


def _pad(Z: Array, g: Geometry) -> Array:
    """The batch of images with its zeros around it; Z itself where there are none."""
    top, bottom, left, right = g.padding
    Z = Z.reshape(g.N, g.H, g.W, g.C)
    return np.pad(Z, ((0, 0), (top, bottom), (left, right), (0, 0))) if any(g.padding) else Z


def _window(g: Geometry, i: int, j: int) -> tuple[slice, slice, slice]:
    """The pixels of the padded image that offset (i, j) of the kernel meets, as an index."""
    (sh, sw), (dh, dw) = g.stride, g.dilation
    rows = slice(i * dh, i * dh + (g.OH - 1) * sh + 1, sh)
    columns = slice(j * dw, j * dw + (g.OW - 1) * sw + 1, sw)
    return slice(None), rows, columns


def _multiply(a: Array, b: Array, groups: int) -> Array:
    """[N, H, W, C] times [C/groups, O] group by group: [N, H, W, O], without a loop over the groups."""
    if groups == 1:
        return a @ b
    depth, width = b.shape[0], b.shape[1] // groups
    b = b.reshape(depth, groups, width).swapaxes(0, 1)
    a = a.reshape(*a.shape[:3], groups, depth)
    # Products of depth one are no work for matmul.
    out = a * b[:, 0] if depth == 1 else (a.swapaxes(2, 3) @ b).swapaxes(2, 3)
    return out.reshape(*out.shape[:3], groups * width)


def _transpose(b: Array, groups: int) -> Array:
    """[C/groups, O] to [O/groups, C], each group's matrix transposed."""
    depth, O = b.shape  # noqa: E741
    return b.reshape(depth, groups, O // groups).transpose(2, 1, 0).reshape(O // groups, groups * depth)


def _finish(out: Array, bias: Array | None, g: Geometry) -> Array:
    if bias is not None:
        out += bias
    return out.reshape(g.out_shape)
