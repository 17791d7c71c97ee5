"""The answers by the definition, a tap at a time, in Python's integers and float64: for steps of any size.

Arguments are those of the ops; what does not describe a convolution raises ValueError.
"""

from __future__ import annotations

from itertools import product

import numpy as np


class Axis:
    """One spatial axis: which output meets which input through a tap."""

    def __init__(self, size, kernel, stride, dilation, sides, auto_pad):
        if min(size, kernel, stride, dilation) < 1:
            raise ValueError("a size or a step below 1")
        extent = dilation * (kernel - 1) + 1
        if auto_pad:
            total = max((-(-size // stride) - 1) * stride + extent - size, 0)
            sides = (total // 2, total - total // 2) if auto_pad == 1 else (total - total // 2, total // 2)
        if min(sides) < 0 or size + sum(sides) < extent:
            raise ValueError("the kernel does not fit")
        self.size, self.kernel, self.stride, self.dilation, self.before = (
            size,
            kernel,
            stride,
            dilation,
            sides[0],
        )
        self.outputs = (size + sum(sides) - extent) // stride + 1

    def taps(self):
        """Those that can meet the input: of 2**40, which stride 0 makes possible, only a few."""
        first = -((self.stride * (self.outputs - 1) - self.before) // self.dilation)
        return range(max(first, 0), min((self.size - 1 + self.before) // self.dilation + 1, self.kernel))

    def pairs(self, tap):
        """(outputs, inputs) that meet at this tap: two lists of equal length."""
        shift = tap * self.dilation - self.before
        first = max(-(shift // self.stride), 0)
        last = min((self.size - 1 - shift) // self.stride, self.outputs - 1)
        outputs = list(range(first, last + 1))
        return outputs, [o * self.stride + shift for o in outputs]


def axes(size, kernel, stride, padding, dilation, auto_pad):
    """Axis of h and of w. Lists of one value mean both, two paddings mean (h, w)."""
    if len(size) != 2 or len(kernel) != 2 or auto_pad not in (0, 1, 2) or (auto_pad and any(padding)):
        raise ValueError("no such geometry")
    strides, dilations = ([*v] * 2 if len(v) == 1 else v for v in (stride, dilation))
    sides = [*padding] * 4 if len(padding) == 1 else padding
    sides = [sides[0], sides[0], sides[1], sides[1]] if len(sides) == 2 else sides
    if len(strides) != 2 or len(dilations) != 2 or len(sides) != 4:
        raise ValueError("lists of other lengths")
    return [
        Axis(size[a], kernel[a], strides[a], dilations[a], sides[2 * a : 2 * a + 2], auto_pad) for a in (0, 1)
    ]


def _batched(image):
    if image.ndim not in (3, 4):
        raise ValueError("no image")
    return image if image.ndim == 4 else image[None]


def _groups(channels, groups):
    if groups < 1 or channels % groups or channels < groups:
        raise ValueError("channels do not divide")
    return channels // groups


def _walk(h, w):
    for i, j in product(h.taps(), w.taps()):
        (oh, ih), (ow, iw) = h.pairs(i), w.pairs(j)
        if oh and ow:
            yield (i, j), np.ix_(oh, ow), np.ix_(ih, iw)


def forward(x, w, bias=None, stride=(1,), padding=(0,), dilation=(1,), groups=1, auto_pad=0):
    images = _batched(x)
    if (
        w.ndim != 4
        or images.shape[3] != w.shape[2] * groups
        or (bias is not None and bias.shape != w.shape[3:])
    ):
        raise ValueError("channels do not fit")
    h, v = axes(images.shape[1:3], w.shape[:2], stride, padding, dilation, auto_pad)
    c, o = _groups(images.shape[3], groups), _groups(w.shape[3], groups)
    y = np.zeros((len(images), h.outputs, v.outputs, w.shape[3]), w.dtype)
    for tap, out, into in _walk(h, v):
        for g in range(groups):
            part = images[(slice(None), *into)][..., g * c : (g + 1) * c] @ w[tap][:, g * o : (g + 1) * o]
            y[(slice(None), *out, slice(g * o, (g + 1) * o))] += part
    y = y if bias is None else y + bias
    return y.reshape(y.shape[4 - x.ndim :])


def input_gradient(
    grad, w, input_size, stride=(1,), padding=(0,), dilation=(1,), groups=1, auto_pad=0, algorithm=0
):
    grads = _batched(grad)
    if w.ndim != 4 or algorithm not in (0, 1, 2):
        raise ValueError("no weight or no algorithm")
    h, v = axes(input_size, w.shape[:2], stride, padding, dilation, auto_pad)
    c, o = w.shape[2], _groups(w.shape[3], groups)
    if grads.shape[1:] != (h.outputs, v.outputs, w.shape[3]):
        raise ValueError("grad does not fit")
    dx = np.zeros((len(grads), h.size, v.size, c * groups), w.dtype)
    for tap, out, into in _walk(h, v):
        for g in range(groups):
            part = grads[(slice(None), *out)][..., g * o : (g + 1) * o] @ w[tap][:, g * o : (g + 1) * o].T
            dx[(slice(None), *into, slice(g * c, (g + 1) * c))] += part
    return dx.reshape(dx.shape[4 - grad.ndim :])


def weight_gradient(
    grad, x, kernel_size, stride=(1,), padding=(0,), dilation=(1,), groups=1, auto_pad=0, algorithm=0
):
    grads, images = _batched(grad), _batched(x)
    if grad.ndim != x.ndim or algorithm not in (0, 1, 2):
        raise ValueError("ranks differ, or no algorithm")
    h, v = axes(images.shape[1:3], kernel_size, stride, padding, dilation, auto_pad)
    c, o = _groups(images.shape[3], groups), _groups(grads.shape[3], groups)
    if grads.shape[:3] != (len(images), h.outputs, v.outputs):
        raise ValueError("grad does not fit")
    dw = np.zeros((*kernel_size, c, o * groups), images.dtype)
    for tap, out, into in _walk(h, v):
        for g in range(groups):
            seen = images[(slice(None), *into)][..., g * c : (g + 1) * c].reshape(-1, c)
            dw[tap][:, g * o : (g + 1) * o] += seen.T @ grads[(slice(None), *out)][
                ..., g * o : (g + 1) * o
            ].reshape(-1, o)
    return dw
