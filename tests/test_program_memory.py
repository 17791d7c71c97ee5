"""The memory that results of a program's steps leave, and that later ones use."""

import random

import pytest
import torch
from memory import allocated

import nhwc_conv
from nhwc_conv.nn import FusedConv2d
from nhwc_conv.nn import program as programs
from nhwc_conv.nn.images import Product
from nhwc_conv.nn.pooling import ChannelMeans
from nhwc_conv.nn.program import Program

pytestmark = pytest.mark.needs_extension


def packed(channels, outputs, kernel, groups=1):
    layer = FusedConv2d(
        channels, outputs, kernel, padding=kernel // 2, groups=groups, activation="relu"
    ).eval()
    nhwc_conv.prepack(layer.requires_grad_(False))
    return layer


class Draft:
    """Steps at random, each of which reads results of any before it."""

    def __init__(self, seed: int, length: int, channels: int) -> None:
        self.random = random.Random(seed)
        self.layers: list[torch.nn.Module] = []
        self.steps: list[tuple[int, int]] = []
        self.widths, self.images = [channels], [0]  # channels of each place; the places of images
        torch.manual_seed(seed)
        while len(self.steps) < length:
            self.random.choice([self.convolution, self.convolution, self.sum, self.excitation])()
        inner = range(len(self.steps) - 1)
        self.outputs = [*self.random.sample(inner, 2), len(self.steps) - 1]

    def add(self, layer, source, residual, width):
        self.layers.append(layer)
        self.steps.append((source, residual))
        self.widths.append(width)
        return len(self.widths) - 1

    def source(self):
        return self.random.choice(self.images[-3:])

    def convolution(self):
        source = self.source()
        width, outputs = self.widths[source], self.random.choice([8, 16, 48])
        kernel = self.random.choice([1, 3])
        depthwise = packed(width, width, 3, width) if kernel == 3 and self.random.random() < 0.5 else None
        self.images.append(
            self.add(depthwise or packed(width, outputs, kernel), source, -1, width if depthwise else outputs)
        )

    def sum(self):
        source, residual = self.source(), self.source()
        width = self.widths[residual]
        self.images.append(self.add(packed(self.widths[source], width, 1), source, residual, width))

    def excitation(self):
        source = self.source()
        means = self.add(ChannelMeans(), source, -1, self.widths[source])
        self.images.append(self.add(Product(), source, means, self.widths[source]))


@pytest.mark.parametrize("size", [4, 33, 120])
@pytest.mark.parametrize("seed", range(8))
def test_results_are_those_in_memory_of_their_own(seed, size):
    draft = Draft(seed, length=14, channels=8)
    x = torch.randn(1, 8, size, size).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        results = Program(1, draft.steps, draft.outputs)(x, *draft.layers)
        copies = [result.clone() for result in results]
        everything = Program(1, draft.steps, range(len(draft.steps)))(x, *draft.layers)
    for result, copy, output in zip(results, copies, draft.outputs, strict=True):
        assert torch.equal(result, copy), "what was returned is nobody else's"
        assert torch.equal(result, everything[output]) and result.stride() == everything[output].stride()
        assert result.untyped_storage().nbytes() == result.nbytes


def taken(monkeypatch, layers, x):
    """What a program of these layers, one after the other, allocates, its result included; and the result."""
    calls, op = [], programs.convolve_program
    monkeypatch.setattr(programs, "convolve_program", lambda *args: calls.append(args) or op(*args))
    steps = [(i, -1) for i in range(len(layers))]
    with torch.inference_mode():
        (y,) = Program(1, steps, [len(layers) - 1])(x, *layers)
        return allocated(lambda: op(*calls[-1])), y


@pytest.mark.parametrize("size", [20, 60])
def test_what_a_chain_of_layers_takes(size, monkeypatch):
    """Memory for eight results, or a megabyte."""
    x = torch.randn(1, 16, size, size).to(memory_format=torch.channels_last)
    memory, y = taken(monkeypatch, [packed(16, 16, 1) for _ in range(12)], x)
    assert memory - y.nbytes <= max(8 * y.nbytes, 1 << 20)


def test_few_steps_take_what_they_need(monkeypatch):
    x = torch.randn(1, 16, 20, 20).to(memory_format=torch.channels_last)
    memory, y = taken(monkeypatch, [packed(16, 16, 1) for _ in range(3)], x)
    assert memory <= 4 * y.nbytes
