"""Results that stand in the channels of what they are concatenated to, and are not copied."""

import random

import pytest
import torch
from memory import allocated
from test_program_memory import packed
from torch import nn

import nhwc_conv
from nhwc_conv.nn import program as programs
from nhwc_conv.nn.images import Concatenation, Finishing, SomeChannels
from nhwc_conv.nn.joined import Homes
from nhwc_conv.nn.pooling import AveragePool
from nhwc_conv.nn.program import Program


def homes(parts, channels, movable):
    return Homes(parts, channels, movable).of


def test_who_has_a_home():
    """Places 1 to 4 of 8, 4, 2 and 3 channels."""
    channels = [3, 8, 4, 2, 3]
    assert homes({5: (1, 2)}, [*channels, 12], {1, 2, 5}) == {1: (5, 0), 2: (5, 8), 5: (5, 0)}
    # What cannot be moved, or is twice in it, is copied; where nothing else is, it is no home.
    assert homes({5: (1, 2)}, [*channels, 12], {2, 5}) == {2: (5, 8), 5: (5, 0)}
    assert homes({5: (1, 1)}, [*channels, 16], {1, 5}) == {}
    assert homes({5: (1, 2)}, [*channels, 12], {1, 2}) == {}  # returned, say
    assert homes({5: (0, 1)}, [None, *channels[1:], None], {1, 5}) == {}
    # Concatenations within others, and beginnings of others.
    nested = homes({5: (2, 3), 6: (1, 5, 4)}, [*channels, 6, 17], {1, 2, 3, 4, 5, 6})
    assert nested == {1: (6, 0), 5: (6, 8), 4: (6, 14), 6: (6, 0), 2: (6, 8), 3: (6, 12)}
    growing = homes({5: (0, 1), 6: (0, 1, 2), 7: (0, 1, 2, 3)}, [*channels, 11, 15, 17], set(range(1, 8)))
    assert growing == {1: (7, 3), 2: (7, 11), 3: (7, 15), 5: (7, 0), 6: (7, 0), 7: (7, 0)}
    # In another order, or beside another image, they stand elsewhere.
    assert homes({5: (2, 1), 6: (1, 2)}, [*channels, 12, 12], {1, 2, 5, 6}) == {
        1: (6, 0),
        2: (6, 8),
        6: (6, 0),
    }
    assert 5 not in homes({5: (4, 2), 6: (1, 2)}, [*channels, 7, 12], {1, 2, 5, 6})


class Draft:
    """Steps at random, of images of a few sizes, most of which are concatenated, some of these again."""

    def __init__(self, seed, length):
        self.random = random.Random(seed)
        self.layers, self.steps = [], []
        self.widths = [8]
        torch.manual_seed(seed)
        while len(self.steps) < length:
            self.random.choice(
                [self.convolution] * 3 + [self.concatenation] * 3 + [self.part, self.sum, self.pool]
            )()
        self.outputs = [*self.random.sample(range(length - 1), 2), length - 1]

    def add(self, layer, places, width):
        self.layers.append(layer)
        self.steps.append(places)
        self.widths.append(width)

    def source(self):
        return self.random.randrange(max(0, len(self.widths) - 6), len(self.widths))

    def convolution(self):
        source, outputs = self.source(), self.random.choice([3, 8, 16])
        self.add(packed(self.widths[source], outputs, self.random.choice([1, 3])), (source,), outputs)

    def concatenation(self):
        places = tuple(self.source() for _ in range(self.random.choice([2, 2, 3, 7])))
        width = sum(self.widths[place] for place in places)
        if width < 300:
            self.add(Concatenation(), places, width)

    def part(self):
        source = self.source()
        begin = self.random.randrange(self.widths[source])
        self.add(SomeChannels(begin, self.widths[source], (slice(None), slice(begin, None))), (source,),
                 self.widths[source] - begin)  # fmt: skip

    def sum(self):
        source = self.source()
        others = [place for place, width in enumerate(self.widths) if width == self.widths[source]]
        self.add(Finishing("relu"), (source, self.random.choice(others)), self.widths[source])

    def pool(self):
        source = self.source()
        self.add(AveragePool((3, 3), (1, 1), (1, 1), False, True), (source,), self.widths[source])


@pytest.mark.needs_extension
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_results_are_those_of_the_layers(seed, channels_last, threads, refusals):
    draft = Draft(seed, length=random.Random(seed).choice([6, 14, 30]))
    threads(1 + seed % 2)
    x = torch.randn(1 + seed % 3, 8, 9, 8)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    tensors = [x]
    with torch.inference_mode():
        results = Program(1, draft.steps, draft.outputs)(x, *draft.layers)
        copies = [result.clone() for result in results]
        Program(1, draft.steps, draft.outputs)(x, *draft.layers)
        for layer, places in zip(draft.layers, draft.steps, strict=True):
            tensors.append(layer(*(tensors[place] for place in places)))
    for result, kept, output in zip(results, copies, draft.outputs, strict=True):
        assert torch.equal(result, kept), "what was returned is nobody else's"
        torch.testing.assert_close(result, tensors[1 + output], rtol=1e-4, atol=1e-4)


@pytest.mark.needs_extension
@pytest.mark.parametrize("seed", range(20))
def test_memory_of_another_home_is_no_copy(seed, refusals):
    """A pooled image is concatenated again and again, to what may stand in the same memory one after the other."""
    draft, layers, steps = random.Random(seed), [packed(8, 16, 1)], [(0,)]
    torch.manual_seed(seed)

    def add(layer, *places):
        layers.append(layer)
        steps.append(places)
        return len(steps)

    pooled = add(AveragePool((3, 3), (1, 1), (1, 1), False, True), 1)
    last = 1
    while len(steps) < 24:
        last = add(packed(16, 16, 1), last)
        if draft.random() < 0.6:
            last = add(
                packed(32, 16, 1), add(Concatenation(), *draft.choice([(last, pooled), (pooled, last)]))
            )
    x = torch.randn(1, 8, 20, 20).to(memory_format=torch.channels_last)
    tensors = [x]
    with torch.inference_mode():
        (result,) = Program(1, steps, [len(steps) - 1])(x, *layers)
        for layer, places in zip(layers, steps, strict=True):
            tensors.append(layer(*(tensors[place] for place in places)))
    torch.testing.assert_close(result, tensors[-1], rtol=1e-4, atol=1e-4)


class Growing(nn.Module):
    """As a block of DenseNet."""

    def __init__(self, layers=2, growth=16):
        super().__init__()
        self.first = nn.Conv2d(8, 16, 1)
        self.layers = nn.ModuleList(nn.Conv2d(16 + growth * i, growth, 1) for i in range(layers))
        self.last = nn.Conv2d(16 + growth * layers, 8, 1)

    def forward(self, x):
        found = [self.first(x)]
        for layer in self.layers:
            found.append(torch.relu(layer(torch.cat(found, 1))))
        return self.last(torch.cat(found, 1))


@pytest.mark.needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nothing_is_copied(dtype, isa, refusals, monkeypatch):
    """All images of the block stand in those that are concatenated last."""
    torch.manual_seed(0)
    model = Growing().to(dtype).eval()
    x = torch.randn(1, 8, 40, 40).to(dtype).to(memory_format=torch.channels_last)
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True)
    nhwc_conv.prepack(ours)  # for this instruction set
    calls, op = [], programs.convolve_program
    monkeypatch.setattr(programs, "convolve_program", lambda *args: calls.append(args) or op(*args))
    with torch.inference_mode():
        y = ours(x)
        torch.testing.assert_close(y, model(x), rtol=1e-4, atol=1e-5)
        everything = 48 * y.nbytes / 8  # and as much for scratch at most; copies would be three times that
        assert allocated(lambda: op(*calls[-1])) - y.nbytes < 2 * everything
