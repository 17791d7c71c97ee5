"""Convolutions of a program in strips of rows: bits, formats and errors are those of one after the other."""

import itertools
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from memory import allocated

import nhwc_conv
from nhwc_conv._extension import module as extension
from nhwc_conv.nn import FusedConv2d, program
from nhwc_conv.nn.program import Program

pytestmark = pytest.mark.needs_extension


def second_level_cache():
    """As csrc/kernels/machine.cpp finds it under Linux; elsewhere a guess."""
    if shutil.which("getconf"):
        asked = subprocess.run(["getconf", "LEVEL2_CACHE_SIZE"], capture_output=True, text=True)
        if asked.stdout.strip().isdigit() and int(asked.stdout):
            return int(asked.stdout)
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (cache / "level").read_text().strip() == "2":
            return int((cache / "size").read_text().strip().removesuffix("K")) * 1024
    return 2**20


CACHE = second_level_cache()
LARGE = CACHE // 2  # bytes of images that do not stay in it
DTYPES = torch.float32, torch.float64, torch.bfloat16, torch.float16
NONE = -1


def layers(channels, *given, dtype=torch.float32):
    """Packed convolutions that follow each other: outputs, kernel size and the other arguments of each."""
    torch.manual_seed(0)
    made, c = [], channels
    for o, kernel, rest in given:
        made.append(nhwc_conv.prepack(FusedConv2d(c, o, kernel, dtype=dtype, **rest).eval()))
        c = o
    return made


def images(channels, pixel_bytes, dtype=torch.float32, height=23, batch=2):
    """So wide that `batch` images of so many bytes a pixel are a little more than half a second-level cache."""
    width = LARGE // (batch * height * pixel_bytes) + 3
    x = torch.randn(batch, channels, height, width).to(dtype)
    return x.contiguous(memory_format=torch.channels_last)


def one_by_one(x, given, steps):
    made = [x]
    for layer, (source, residual) in zip(given, steps, strict=True):
        made.append(layer(made[source], *(() if residual < 0 else (made[residual],))))
    return made[-1]


def in_a_row(given):
    return [(i, NONE) for i in range(len(given))]


def compared(x, given, steps=None, *, passes):
    """The result of a program, which took so many passes."""
    steps = steps or in_a_row(given)
    at_once = Program(1, steps, [len(given) - 1])
    with torch.inference_mode():
        expected = one_by_one(x, given, steps)
        with extension.watched_kernels() as so_far:
            (found,) = at_once(x, *given)
            assert so_far()[0] == passes
    assert torch.equal(found, expected) and found.stride() == expected.stride()
    return found


INVERTED = (
    (24, 1, dict(activation="relu6")),
    (24, 3, dict(padding=1, groups=24, activation="relu6")),
    (8, 1, {}),
)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_inverted_residual(dtype, isa, threads):
    given = layers(8, *INVERTED, dtype=dtype)
    for batch, count in itertools.product((1, 3), (1, 2, 3)):
        threads(count)
        x = images(8, 24 * dtype.itemsize, dtype, batch=batch)
        compared(x, given, [(0, NONE), (1, NONE), (2, 0)], passes=1)
        compared(x.contiguous(), given, passes=3)  # an NCHW result
        compared(x[0], given, passes=3)  # an NCHW result, by PyTorch's rule


KINDS = {  # of the layer between two pointwise ones
    "tall": (24, (11, 1), dict(padding=(5, 0), groups=24)),
    "even": (24, (4, 2), dict(padding=(1, 0), groups=24)),
    "same": (24, (4, 5), dict(padding="same", groups=24)),
    "strided": (24, 5, dict(stride=(2, 3), padding=2, groups=24)),
    "jumps over rows": (24, 1, dict(stride=(5, 2))),
    "jumps over more": (24, 3, dict(stride=(7, 1), padding=1, groups=24)),
    "dilated": (24, 3, dict(padding=6, dilation=6, groups=24)),
    "as high as the image": (24, (23, 3), dict(padding=(11, 1), groups=24)),
    "no padding": (24, 7, dict(groups=24)),
    "rows that read only padding": (24, 3, dict(padding=(5, 1), groups=24)),
    "only padding at the top": (24, 2, dict(padding=(3, 1), stride=(13, 1), groups=24)),
    "strided, dense": (16, 3, dict(stride=2, padding=1, activation="silu")),
    "strided groups": (48, 3, dict(stride=(1, 2), groups=4)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_a_strip_reads(kind, dtype, isa, threads):
    o = KINDS[kind][0]
    x = images(8, 24 * dtype.itemsize, dtype)
    given = layers(8, (24, 1, dict(activation="gelu")), KINDS[kind], (12, 1, dict(bias=False)), dtype=dtype)
    for count in (1, 2, 5):
        threads(count)
        y = compared(x, given[:2], passes=1)
        compared(x, given, passes=1 if y.numel() * dtype.itemsize > LARGE else 2)
    assert y.shape[1] == o


APART = {  # what must not be in strips
    "winograd, or as its border": (24, 3, dict(padding=1)),
    "planes": (2, (3, 5), dict(padding=(1, 2))),
    "many weights": (CACHE // 4 // 4 // 24 + 16, 1, {}),
}


@pytest.mark.parametrize("kind", APART)
def test_layers_that_need_whole_images(kind):
    compared(images(8, 24 * 4), layers(8, (24, 1, {}), APART[kind]), passes=2)
    x = images(24, min(APART[kind][0], 24) * 4)
    compared(x, layers(24, APART[kind], (8, 1, {})), passes=2)


def test_images_that_stay_in_the_cache():
    x = images(8, 24 * 4)[..., :-8].contiguous(memory_format=torch.channels_last)
    compared(x, layers(8, *INVERTED), passes=3)


def test_images_that_others_read():
    """As a source, as a residual, or as results of the program."""
    x = images(8, 8 * 4)
    eights = layers(8, *[(8, 1, dict(activation="relu"))] * 4)
    compared(x, eights, passes=1)
    compared(x, eights, [(0, NONE), (1, NONE), (2, 1), (3, NONE)], passes=2)
    compared(x, eights, [(0, NONE), (1, NONE), (1, NONE), (3, 2)], passes=3)
    compared(x, eights, [(0, NONE), (1, 1), (2, NONE), (3, 0)], passes=2)
    compared(x, eights, [(0, NONE), (0, NONE), (2, 0), (3, 1)], passes=2)
    at_once = Program(1, in_a_row(eights), [1, 3])
    with torch.inference_mode():
        second, last = at_once(x, *eights)
        assert torch.equal(second, one_by_one(x, eights[:2], in_a_row(eights[:2])))
        assert torch.equal(last, one_by_one(x, eights, in_a_row(eights)))


def test_geometries_at_random(isa, threads):
    random.seed(f"chains {isa}")
    for _ in range(40):
        c, height = random.choice([4, 8, 20]), random.randint(1, 40)
        given, steps, h, at = [], [], height, c
        for _ in range(random.randint(2, 6)):
            if random.random() < 0.5 and h > 1:
                kernel, stride = random.randint(1, min(h, 6)), random.choice([1, 1, 2, 3])
                padding = random.randint(0, kernel - 1)
                size = kernel, random.randint(1, 5)
                given.append((at, size, dict(groups=at, stride=stride, padding=(padding, 2))))
                h = (h + 2 * padding - kernel) // stride + 1
            else:
                at = random.choice([8, 16, 28])
                given.append((at, 1, dict(activation=random.choice(["relu", "silu", None]))))
            steps.append((len(steps), NONE))
        threads(random.randint(1, 3))
        made = layers(c, *given)
        x = images(c, 8 * 4, height=height, batch=random.randint(1, 3))
        with torch.inference_mode():
            (found,) = Program(1, steps, [len(steps) - 1])(x, *made)
            assert torch.equal(found, one_by_one(x, made, steps)), (x.shape, given)


def test_memory(monkeypatch):
    """Of images between two convolutions there is a strip, and no more."""
    x, given = images(8, 8 * 4, batch=4), layers(8, *INVERTED)
    between, calls, op = 3 * x.nbytes, [], program.convolve_program
    monkeypatch.setattr(program, "convolve_program", lambda *args: calls.append(args) or op(*args))
    with torch.inference_mode():
        (y,) = Program(1, in_a_row(given), [2])(x, *given)
        strips = allocated(lambda: op(*calls[0])) - y.nbytes
    assert between > CACHE and strips < 0.8 * CACHE


def test_weights_in_channels_last():
    """Images are so from there on."""
    given = layers(8, *INVERTED)
    for layer in given:
        nhwc_conv.prepack(layer.to(memory_format=torch.channels_last))
    compared(images(8, 24 * 4).contiguous(), given, passes=1)


def test_calls_that_fit_no_chain():
    """Of NHWC images behind NCHW ones, which may have as many channels as rows; and wrong numbers."""
    op, one = torch.ops.nhwc_conv._convolve_program, 1 | 1 << 16 | 1 << 32 | 1 << 48
    side = int((CACHE / 4 / 24) ** 0.5) + 1
    x = torch.randn(1, 24, side, side).contiguous(memory_format=torch.channels_last)
    first, second = (torch.ops.nhwc_conv.pack_weight(torch.randn(1, 1, c, c)) for c in (24, side))
    numbers = torch.zeros(4, dtype=torch.float64)

    def run(kind, *residual):
        steps = [
            [0, NONE, NONE, 1, one, 0, 1, 0, 0, NONE, 0],
            [1 + len(residual), *(residual and [1] or [NONE]), NONE, kind],
        ]
        code = torch.tensor([*steps[0], *steps[1], one, 0, 1, 1, 0, NONE, 0])
        return op([x, *residual], [first, first if kind & 1 else second], [], code, numbers, [1])[0]

    assert torch.equal(run(1), run(1, torch.zeros_like(x)))
    between = op(
        [x], [first], [], torch.tensor([0, NONE, NONE, 1, one, 0, 1, 0, 0, NONE, 0]), numbers[:2], [0]
    )[0]
    assert torch.equal(run(0), nhwc_conv.ops.conv2d_packed(between, second, [1, 1, side, side]))
    with pytest.raises(RuntimeError, match="residual to be of size"):
        run(1, x[..., :-1])
    with pytest.raises(RuntimeError, match="activation=15"):
        run(1 | 15 << 8)


def test_errors_are_those_of_the_layers():
    x, given = images(8, 24 * 4), layers(8, *INVERTED)
    other = layers(7, (8, 1, {}))
    with torch.inference_mode(), pytest.raises(RuntimeError) as expected:
        one_by_one(x, [*given[:2], *other], in_a_row(given))
    with torch.inference_mode(), pytest.raises(RuntimeError) as found:
        Program(1, in_a_row(given), [2])(x, *given[:2], *other)
    assert str(found.value) == str(expected.value)
