"""Random convolutions: sizes with tails, strides, dilations, padding on four sides, groups; images and signals."""

from __future__ import annotations

import random
from collections.abc import Iterator

import oracle
from cases import CASES, Case

CHANNELS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33]
OUTPUTS = [1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 24, 31, 32, 33, 40, 47, 64, 65, 80]
MOST_PRODUCTS = 400_000  # of one image
# A small case for each runner of csrc/conv, and for each way in which it reads its input.
RUNNERS = {
    "one_pixel", "groups2", "dilation2", "planes_pad_over_kernel", "depthwise_c2", "single_pixels_stride3",
    "many_weights_two_pixels",
}  # fmt: skip
LAYER_CHANNELS = [3, 8, 16, 20, 32, 48, 64, 96, 128, 192, 256, 384, 512]
LAYER_SIZES = [4, 7, 8, 13, 14, 16, 20, 28, 32]
MOST_LAYER_PRODUCTS = 8_000_000
MOST_SIGNAL_PRODUCTS = 1_000_000
LONGEST, LARGEST_KERNEL, WIDEST_DILATION = 160_000, 1024, 512


def _draw(r: random.Random, name: str) -> Case | None:
    groups = r.choice([1, 1, 1, 1, 2, 3, 5, 17, 40])
    c, o = r.choice(CHANNELS), r.choice(OUTPUTS)
    if groups >= 17 and r.random() < 0.7:
        c, o = r.choice([1, 1, 2]), r.choice([1, 1, 2, 3])
    kernel = [r.choice([1, 2, 3, 3, 3, 4, 5, 7]) for _ in range(2)]
    stride = tuple(r.choice([1, 1, 1, 2, 3, 5]) for _ in range(2))
    dilation = tuple(r.choice([1, 1, 1, 2, 3]) for _ in range(2))
    padding = tuple(r.choice([0, 0, 1, 1, 2, 3, 7]) for _ in range(4))
    h, w = r.randint(1, 24), r.randint(1, 40)
    padded = h + padding[0] + padding[1], w + padding[2] + padding[3]
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if extent[0] > padded[0] or extent[1] > padded[1]:
        return None
    outputs = [(p - e) // s + 1 for p, e, s in zip(padded, extent, stride, strict=True)]
    if outputs[0] * outputs[1] * kernel[0] * kernel[1] * c * o * groups > MOST_PRODUCTS:
        return None
    return Case(
        name, (r.choice([1, 1, 2, 3]), h, w, c * groups), (*kernel, c, o * groups),
        stride=stride, padding=padding, dilation=dilation, groups=groups, bias=r.random() < 0.5,
    )  # fmt: skip


def _draw_layer(r: random.Random, name: str) -> Case | None:
    kernel = r.choice([1, 1, 3, 3, 3, 3, 5, 7])
    stride, dilation = r.choice([1, 1, 1, 2]), r.choice([1, 1, 1, 2])
    c, o, groups = r.choice(LAYER_CHANNELS), r.choice(LAYER_CHANNELS), r.choice([1, 1, 1, 1, 2, 8, 32, 0])
    if groups == 0:  # depthwise
        groups, o = c, c * r.choice([1, 1, 1, 2])
    if c % groups or o % groups:
        return None
    h, w = r.choice(LAYER_SIZES), r.choice(LAYER_SIZES)
    if h * w * kernel * kernel * (c // groups) * o > MOST_LAYER_PRODUCTS:
        return None
    return Case(
        name, (r.choice([1, 1, 2, 5]), h, w, c), (kernel, kernel, c // groups, o),
        stride=stride, padding=dilation * (kernel // 2), dilation=dilation, groups=groups, bias=r.random() < 0.5,
    )  # fmt: skip


def _draw_signal(r: random.Random, name: str) -> Case | None:
    def up_to(most):
        return r.choice([1, most, *(round(most ** r.random()) for _ in range(12))])

    groups = r.choice([1, 1, 1, 1, 2, 3, 5, 17, 40])
    c, o = r.choice(CHANNELS), r.choice(OUTPUTS)
    if r.random() < 0.4:  # a waveform, or depthwise
        c, o = 1, r.choice([1, 1, 2, 3])
    length, kernel, dilation = map(up_to, (LONGEST, LARGEST_KERNEL, WIDEST_DILATION))
    stride = r.choice([1, up_to(16)])
    extent = dilation * (kernel - 1) + 1
    sides = r.choice([(0, 0), (1, 1), (2, 0), (extent // 2, extent // 2), (extent - 1, 0)])
    outputs = (length + sum(sides) - extent) // stride + 1
    if (
        not 0 < outputs * kernel * c * o * groups <= MOST_SIGNAL_PRODUCTS
        or length * c * groups > MOST_SIGNAL_PRODUCTS
    ):
        return None
    return Case(
        name, (r.choice([1, 1, 2, 3]), 1, length, c * groups), (1, kernel, c, o * groups),
        stride=(1, stride), padding=(0, 0, *sides), dilation=(1, dilation), groups=groups, bias=r.random() < 0.5,
    )  # fmt: skip


def _distinct(draw, name: str, count: int, seed: int) -> Iterator[Case]:
    r, seen = random.Random(seed), set()
    while len(seen) < count:
        case = draw(r, f"{name}_{seed}_{len(seen)}")
        key = case and (case.x, case.w, case.stride, case.padding, case.dilation, case.groups)
        if case and key not in seen:
            seen.add(key)
            yield case


def random_cases(count: int, seed: int) -> Iterator[Case]:
    """`count` convolutions, no two of the same geometry; always the same ones for a seed."""
    return _distinct(_draw, "random", count, seed)


def random_layers(count: int, seed: int) -> Iterator[Case]:
    """The same of a network's kind, with more channels: square kernels and the padding that keeps the size."""
    return _distinct(_draw_layer, "layer", count, seed)


def random_signals(count: int, seed: int) -> Iterator[Case]:
    """The same in one dimension, as images of one row: long ones, long kernels, wide dilations."""
    return _distinct(_draw_signal, "signal", count, seed)


def table_cases() -> list[Case]:
    """Those of tests/cases.py with at least one image, batched."""
    return [case for case in CASES if case.x[0] > 0]


def quick_cases() -> list[Case]:
    """One of the table for each runner, and 40 random ones."""
    return [*(case for case in table_cases() if case.name in RUNNERS), *random_cases(40, seed=1)]


def line(case: Case) -> str:
    """A convolution as the native driver reads it: see native/problem.h."""
    n, h, w, c = case.x if len(case.x) == 4 else (1, *case.x)
    numbers = [
        n, h, w, c, case.w[0], case.w[1], case.w[3], *oracle.pair(case.stride), *oracle.four_sides(case),
        *oracle.pair(case.dilation), case.groups, int(case.bias),
    ]  # fmt: skip
    return " ".join([case.name, *map(str, numbers)])
