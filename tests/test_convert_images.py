"""Concatenations, slices and sums of images in programs, between convolutions."""

import operator

import pytest
import torch
import torch.nn.functional as F
from test_programs import one_by_one, spied
from torch import nn

import nhwc_conv
from nhwc_conv._convert.memory import channels_last as channels_last_images
from nhwc_conv._convert.memory import in_memory_like
from nhwc_conv.nn.images import (
    ChannelShuffle,
    Concatenation,
    Finishing,
    Product,
    Resizing,
    SomeChannels,
)  # fmt: skip
from nhwc_conv.nn.pooling import AveragePool
from nhwc_conv.nn.program import Program

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
LAYERS = ChannelShuffle, Concatenation, Finishing, Product, Resizing, AveragePool
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


class Network(nn.Module):
    """Five convolutions of an image, whose results `meet` makes into images of `channels`, and one behind them."""

    def __init__(self, meet, channels):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.branches = nn.ModuleList(nn.Conv2d(6, c, 3, padding=1) for c in (4, 5, 4, 1, 20))
        self.last, self.meet = nn.Conv2d(channels, 5, 3), meet

    def forward(self, x):
        x = F.relu(self.first(x))
        return self.last(self.meet(*(F.silu(branch(x)) for branch in self.branches)))


def in_place(a, b):
    a += b
    return a


def twice(x):
    return torch.cat([F.relu(x), x], 1)


ONE_PROGRAM = {
    "two": (lambda a, b, *_: torch.cat([a, b], 1), 9),
    "five": (lambda *parts: torch.cat(parts, dim=1), 34),
    "nested": (lambda a, b, c, d, e: torch.cat([torch.cat([e, a], 1), torch.concat([b, c, d], 1)], 1), 34),
    "itself": (lambda a, *_: torch.cat([a, a], 1), 8),
    "sum of sums": (lambda a, b, c, *_: in_place(torch.cat([a, b], 1), torch.cat([b, c], 1)), 9),
    "relu": (lambda a, b, *_: F.relu(torch.cat([a, b], 1)), 9),
    "relu of a sum": (lambda *parts: F.relu(in_place(*(torch.cat(parts[i : i + 2], 1) for i in (0, 1)))), 9),
    "relu6 in place": (lambda *parts: F.relu6(parts[4][:, 3:9], True), 6),
    "clamp": (lambda *parts: torch.cat(parts[1:], 1).clamp_(-0.1, 0.2), 30),
    "clamped twice": (lambda *parts: torch.cat(parts, 1).clamp(-0.1, 0.2).clamp(-0.2, 0.1), 34),
    "a sum as it was": (lambda a, b, c, *_: twice(torch.cat([a, b], 1) + torch.cat([b, c], 1)), 18),
    "read as it was": (lambda a, b, *_: torch.cat([F.relu(torch.cat([a, b], 1)), a], 1), 13),
    "slice": (lambda *parts: parts[4][:, 3:9], 6),
    "slices": (lambda a, b, c, d, e: torch.cat([e[:, :-4, :, :][:, 2:30], a, e[:, 16:]], 1), 22),
    "all of it": (lambda a, b, *_: torch.cat([a, b], 1)[:, :20, :, :], 9),
    "split": (lambda *parts: torch.cat([torch.split(parts[4], [3, 7, 10], 1)[i] for i in (2, 0, 1)], 1), 20),
    "equal parts": (lambda *parts: torch.cat([parts[4].split(8, dim=1)[i] for i in (1, 2)], 1), 12),
    "chunks": (lambda *parts: torch.chunk(parts[4], 2, 1)[0] + parts[4].chunk(2, 1)[1], 10),
    "ten": (lambda *parts: torch.cat([*parts, *(part * part for part in parts[::-1])], 1), 68),
    "products": (lambda a, b, c, d, e: torch.cat([a * c, torch.mul(e, d), d.mul(e), a * F.relu6(c)], 1), 48),
    "product of a part": (lambda *parts: parts[4][:, 2:11] * torch.cat(parts[:2], 1), 9),
    "shuffle": (lambda *parts: torch.channel_shuffle(torch.cat(parts, 1), 2)[:, 7:20], 13),
    "another shuffle": (lambda *parts: nn.functional.channel_shuffle(parts[4], 5).chunk(2, 1)[1], 10),
    "by another's size": (lambda a, b, *_: F.interpolate(F.avg_pool2d(a, 2), size=b.shape[2:]) * a, 4),
    "by two sizes": (
        lambda a, b, *_: F.interpolate(a[:, :2], (b.size(2), b.size(-1)), mode="nearest-exact"),
        2,
    ),
    "by a shape": (lambda a, *_: F.interpolate(F.avg_pool2d(a, 3, 1), a.shape[-2:], None, "bilinear"), 4),
    "to a size": (lambda a, *_: F.interpolate(a, (9, 11), mode="bilinear", align_corners=True), 4),
    "twice as large": (
        lambda a, *_: F.interpolate(a, scale_factor=2) + F.interpolate(a, scale_factor=(2.0, 2)),
        4,
    ),
    "larger": (lambda a, *_: F.interpolate(a, scale_factor=(1.7, 2.3), mode="bilinear"), 4),
    "averages": (
        lambda a, b, *_: F.avg_pool2d(a, 3, 1, 1) * F.avg_pool2d(a, (3, 5), 1, (1, 2), False, False),
        4,
    ),
    "averages rounded up": (lambda a, *_: F.avg_pool2d(a, 2, ceil_mode=True), 4),
    "halves in place": (lambda *parts: in_place(parts[4][:, :10], parts[4][:, 10:]), 10),
}


def made(name, images=(2, 3, 7, 9), dtype=torch.float32):
    torch.manual_seed(0)
    model, x = Network(*ONE_PROGRAM[name]).to(dtype).eval(), torch.randn(images).to(dtype)
    return model, nhwc_conv.convert(model, inference=True, example=x, strict=True), x


@pytest.mark.needs_extension
@pytest.mark.parametrize("name", ONE_PROGRAM)
@pytest.mark.parametrize("channels_last", [False, True])
def test_one_program(name, channels_last, threads, refusals, monkeypatch):
    model, ours, x = made(name)
    calls = spied(monkeypatch)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    for count, mode in ((1, torch.inference_mode), (3, torch.no_grad)):
        threads(count)
        with mode():
            out = ours(x)
        torch.testing.assert_close(out, model(x), rtol=1e-4, atol=1e-5)
        assert torch.equal(out, one_by_one(ours, x)), "the layers do the same"
    assert len(calls) == 2 and sum(isinstance(m, Program) for m in ours.modules()) == 1
    functions = {node.target for node in ours.graph.nodes if node.op == "call_function"}
    assert functions <= {operator.getitem, channels_last_images, in_memory_like}


@pytest.mark.needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["nested", "slices", "sum of sums", "ten", "product of a part"])
@pytest.mark.parametrize("size", [(1, 3, 1, 1), (3, 3, 4, 1), (0, 3, 5, 5)])
def test_sizes_and_types(name, dtype, size, isa):
    _, ours, x = made(name, (2, 3, 9, 9), dtype)
    x = F.pad(torch.randn(size).to(dtype), (1, 1, 1, 1))
    with torch.no_grad():
        out = ours(x)
    assert torch.equal(out, one_by_one(ours, x))


@pytest.mark.needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("first_last", [False, True])
@pytest.mark.parametrize("second_last", [False, True])
def test_images_in_any_memory(dtype, first_last, second_last, refusals):
    formats = {False: torch.contiguous_format, True: torch.channels_last}
    x, y = torch.randn(2, 2, 4, 5, 6).to(dtype)
    x, y = x.to(memory_format=formats[first_last]), y.to(memory_format=formats[second_last])
    part, relu = SomeChannels(1, 3, (slice(None), slice(1, 3))), Finishing("relu")
    with torch.no_grad():
        joined, some = Program(2, [(0, 1), (2,)], [0, 1])(x, y, Concatenation(), part)
        added, other, clamped = Program(2, [(0, 1), (2, 0), (1,)], [0, 1, 2])(x, y, Finishing(), relu, relu)
    assert torch.equal(joined, torch.cat([x, y], 1)) and torch.equal(some, joined[:, 1:3])
    assert torch.equal(added, x + y) and torch.equal(clamped, y.relu())
    with torch.no_grad():
        products = Program(2, [(0, 1), (2, 1), (0,), (1,), (4, 5), (4, 0)], [0, 1, 4])
        with pytest.raises(RuntimeError):  # of two and of four channels
            products(x, y, Product(), Product(), part, part, Product(), Product())
        products = Program(2, [(0, 1), (2, 1), (0,), (1,), (4, 5)], [0, 1, 4])
        once, twice, some = products(x, y, Product(), Product(), part, part, Product())
    assert torch.equal(once, x * y) and torch.equal(twice, x * y * y) and torch.equal(some, (x * y)[:, 1:3])
    assert torch.equal(other, (added + x).relu()) and added.is_contiguous(memory_format=formats[first_last])


def test_parts_of_an_image_that_one_channel_is_repeated_for(refusals):
    torch.manual_seed(0)
    model = Network(lambda a, b, c, d, e: (d * e)[:, :6], 6).eval()
    x = torch.randn(2, 3, 7, 9)
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x))


class Long(nn.Module):
    """Parts of images that are read long after the images, in a program that uses memory again."""

    def __init__(self, returned):
        super().__init__()
        self.convs, self.returned = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(14)), returned

    def forward(self, x):
        convs = iter(self.convs)
        whole = torch.cat([next(convs)(x), next(convs)(x)], 1)
        some, others = whole[:, :8], whole[:, 8:]
        x = next(convs)(others)
        for conv in convs:
            x = F.relu(conv(x))
        return x + some, *(dict(some=some, whole=whole)[name] for name in self.returned)


@pytest.mark.parametrize("returned", [(), ("some",), ("whole",), ("whole", "some")])
def test_memory_is_not_used_again_while_a_part_is_read(returned, refusals):
    torch.manual_seed(0)
    model, x = Long(returned).double().eval(), torch.randn(1, 8, 20, 20).double()
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True)
    with torch.no_grad():
        outs = [ours(x) for _ in range(2)]
        for out in outs:
            torch.testing.assert_close(out, model(x), rtol=1e-10, atol=1e-10)


class Left(nn.Module):
    """What is left to PyTorch."""

    def __init__(self, do):
        super().__init__()
        self.a, self.b, self.do = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 1), do

    def forward(self, x):
        return self.do(self.a(x), self.b(x))


def reads_what_was_written(a, b):
    later = a
    a += b
    return later * 2


def reads_what_was_clamped(a, b):
    return F.relu_(a) + b + a.sin()


def reads_the_whole(a, b):
    part = a[:, :3]
    part += b[:, 3:]
    return a * 2


@pytest.mark.parametrize(
    "do",
    [
        lambda a, b: torch.cat([a, b], 2),
        lambda a, b: torch.cat([a, b]),
        lambda a, b: torch.cat([a, b.sin()], 1),
        lambda a, b: a[:, ::2],
        lambda a, b: a[:, :, 1:],
        lambda a, b: a[:, 3],
        lambda a, b: a[..., 1:4],
        lambda a, b: torch.split(a, 2, 2)[0],
        reads_what_was_written,
        reads_what_was_clamped,
        lambda a, b: F.gelu(torch.tanh(a)),
        lambda a, b: F.interpolate(a.sin(), b.shape[2:]),
        lambda a, b: F.interpolate(a, (b.shape[3], b.shape[2])),
        lambda a, b: F.interpolate(a, (a.shape[2], b.shape[3])),
        lambda a, b: F.interpolate(a, b.shape[3]),
        lambda a, b: F.interpolate(a, scale_factor=1.5, recompute_scale_factor=True),
        lambda a, b: F.interpolate(a, scale_factor=1.5, mode="bilinear", antialias=True),
        lambda a, b: F.interpolate(a, scale_factor=1.5, mode="bicubic"),
        lambda a, b: torch.channel_shuffle(a.sin(), 2),
        lambda a, b: F.avg_pool2d(a, 2, divisor_override=3),
        lambda a, b: F.avg_pool2d(a, b.shape[2] // 2),
        lambda a, b: a * b.sin(),
        reads_the_whole,
    ],
)
def test_what_is_left(do, refusals):
    torch.manual_seed(0)
    model, x = Left(do).double().eval(), torch.randn(2, 3, 6, 5).double()
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True)
    assert not [m for m in ours.modules() if isinstance(m, LAYERS)]
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x), rtol=1e-10, atol=1e-10)


def test_images_without_a_batch_are_refused_as_before():
    _, ours, x = made("split")
    with pytest.raises(IndexError, match="too many indices"):
        ours(x[0])
