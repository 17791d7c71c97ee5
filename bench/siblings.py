"""1-D and transposed layers of real networks against the better of torch.nn's layouts, one thread, in turn.

python bench/siblings.py --pass train --layers 'hifigan|dcgan'

Ours are the drop-in, of contiguous signals or of images in channels_last, and the layer of NHWC or NWC tensors, both
prepacked for the forward pass where their class can be. Theirs is the layer of torch.nn on contiguous tensors and, in
channels_last, on images; signals go there as images of one row. Ratios are the median time of the better of theirs
over that of ours: above 1 ours is faster. Every result is verified before it is timed.
"""

import argparse
import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import prod

import contenders
import torch
import torch.nn.functional as F
from layers import ROOT  # noqa: F401  # it puts the package and the tests on the path
from timing import measure
from torch import Tensor, nn

import nhwc_conv
from nhwc_conv._extension import module as extension
from nhwc_conv._ops.weight_order import TORCHS

import oracle  # isort: skip  (from tests/)

OURS = ["drop-in", "nhwc"]
PASSES = ["forward", "train"]


@dataclass(frozen=True)
class Layer:
    """A layer of a network: its class and arguments, and the batch and the size of the images or signals."""

    network: str
    cls: str
    channels: tuple[int, int]
    kernel: int
    x: tuple[int, ...]
    steps: dict = field(default_factory=dict)

    @property
    def name(self):
        size = "x".join(map(str, self.x[1:]))
        batch = f"{self.x[0]}x" if self.x[0] > 1 else ""
        steps = {"stride": "_s", "dilation": "_d", "groups": "_groups"}
        steps = [short + str(self.steps[name]) for name, short in steps.items() if name in self.steps]
        channels = "-".join(map(str, self.channels))
        return "".join([f"{self.network} {batch}{size}_{channels}_{self.kernel}", *steps])

    def make(self):
        torch.manual_seed(0)
        return getattr(nn, self.cls)(*self.channels, self.kernel, **self.steps)


def rows_of(cls, axes):
    """What makes rows of the table, of a class of layers."""

    def row(network, c, o, kernel, *, size, batch=1, **steps):
        return Layer(network, cls, (c, o), kernel, (batch, *(size,) * axes), steps)

    return row


conv1d, up1d, up2d = rows_of("Conv1d", 1), rows_of("ConvTranspose1d", 1), rows_of("ConvTranspose2d", 2)
LAYERS = [
    conv1d("wavenet", 64, 128, 2, size=16_000),
    conv1d("wavenet", 64, 128, 2, size=16_000, dilation=512),
    conv1d("wavenet", 64, 256, 1, size=16_000),
    conv1d("conv-tasnet", 1, 512, 16, size=32_000, stride=8, bias=False),
    conv1d("conv-tasnet", 512, 128, 1, size=3_999),
    conv1d("conv-tasnet", 512, 512, 3, size=3_999, padding=1, groups=512),
    conv1d("conv-tasnet", 512, 512, 3, size=3_999, padding=128, dilation=128, groups=512),
    conv1d("wav2vec2", 1, 512, 10, size=16_000, stride=5, bias=False),
    conv1d("wav2vec2", 512, 512, 3, size=3_199, stride=2, bias=False),
    conv1d("wav2vec2", 512, 512, 2, size=199, stride=2, bias=False),
    conv1d("hubert", 768, 768, 128, size=49, padding=64, groups=16),
    conv1d("tcn", 25, 25, 7, batch=32, size=784, padding=6),
    conv1d("tcn", 25, 25, 7, batch=32, size=784, padding=768, dilation=128),
    conv1d("encodec", 1, 32, 7, size=24_000, padding=3),
    conv1d("encodec", 64, 128, 8, size=12_000, stride=4),
    up1d("hifigan", 512, 256, 16, size=64, stride=8, padding=4),
    up1d("hifigan", 256, 128, 16, size=512, stride=8, padding=4),
    up1d("hifigan", 128, 64, 4, size=4_096, stride=2, padding=1),
    up1d("hifigan", 64, 32, 4, size=8_192, stride=2, padding=1),
    up1d("encodec", 512, 256, 16, size=75, stride=8),
    up1d("encodec", 256, 128, 10, size=600, stride=5),
    up1d("encodec", 64, 32, 4, size=12_000, stride=2),
    up1d("conv-tasnet", 512, 1, 16, size=3_999, stride=8, bias=False),
    up2d("dcgan", 100, 512, 4, batch=16, size=1, bias=False),
    up2d("dcgan", 512, 256, 4, batch=16, size=4, stride=2, padding=1, bias=False),
    up2d("dcgan", 128, 64, 4, batch=16, size=16, stride=2, padding=1, bias=False),
    up2d("dcgan", 64, 3, 4, batch=16, size=32, stride=2, padding=1, bias=False),
    up2d("unet", 1024, 512, 2, size=28, stride=2),
    up2d("unet", 256, 128, 2, size=104, stride=2),
    up2d("fcn", 21, 21, 4, size=16, stride=2, bias=False),
    up2d("fcn", 21, 21, 16, size=34, stride=8, bias=False),
    up2d("fsrcnn", 56, 1, 9, size=85, stride=3, padding=4, output_padding=2),
    up2d("lapsrn", 64, 64, 4, size=64, stride=2, padding=1),
    up2d("diffusion", 512, 512, 4, size=8, stride=2, padding=1),
    up2d("diffusion", 128, 128, 4, size=32, stride=2, padding=1),
]


class OfOneRow(nn.Module):
    """A layer of torch.nn on signals as images of one row."""

    def __init__(self, layer):
        super().__init__()
        self.weight = nn.Parameter(in_channels_last(layer.weight.detach().unsqueeze(2)))
        self.bias = layer.bias
        steps = (1, *layer.stride), (0, *layer.padding)
        if isinstance(layer, nn.ConvTranspose1d):
            self.function = F.conv_transpose2d
            self.steps = *steps, (0, *layer.output_padding), layer.groups, (1, *layer.dilation)
        else:
            self.function, self.steps = F.conv2d, (*steps, (1, *layer.dilation), layer.groups)

    def forward(self, x):
        return self.function(x, self.weight, self.bias, *self.steps)


def in_channels_last(t):
    return t.contiguous(memory_format=torch.channels_last)


def same(t):
    return t


@dataclass
class Form:
    """A contender: its layer, how it gets images, and how its images and weights become those of torch.nn's layer."""

    layer: nn.Module
    take: Callable
    give: Callable = same
    give_weight: Callable = same


def forms(theirs):
    """Of torch.nn's layer, by name; each has parameters of its own memory format."""
    name, signals = type(theirs).__name__, theirs.weight.dim() == 3
    ours = getattr(nhwc_conv, name), getattr(nhwc_conv, ("NWC" if signals else "NHWC") + name)
    drop_in, nhwc = (cls.from_torch(theirs) for cls in ours)

    def give_weight(t):
        return t.permute(TORCHS[t.dim()])

    found = {
        "drop-in": Form(drop_in, same),
        "nhwc": Form(nhwc, lambda t: t.movedim(1, -1).contiguous(), lambda t: t.movedim(-1, 1), give_weight),
        "contiguous": Form(theirs, same),
    }
    if signals:

        def take(t):
            return in_channels_last(t.unsqueeze(2))

        def give(t):
            return t.squeeze(2)

        found["channels_last"] = Form(OfOneRow(theirs), take, give, give)
    else:
        copied = copy.deepcopy(theirs).to(memory_format=torch.channels_last)
        found["channels_last"] = Form(copied, in_channels_last)
        found["drop-in"] = Form(ours[0].from_torch(copied), in_channels_last)
    return found


def runner(form, x, grad, pass_):
    """A function without arguments that returns the result, of a training step with the gradients."""
    layer, x = form.layer, form.take(x)
    if pass_ == "forward":
        nhwc_conv.prepack(layer.eval())
        return lambda: layer(x)
    x, grad = x.detach().requires_grad_(), form.take(grad)
    leaves = [x, *layer.parameters()]

    def step():
        out = layer(x)
        return out.detach(), *torch.autograd.grad(out, leaves, grad)

    return step


def answers(theirs, x, grad, pass_):
    """(value, magnitude, number of terms) of the result, and of the gradients of x, weight and bias, if any."""
    found = []
    for change in (Tensor.double, lambda t: t.double().abs()):
        layer = copy.deepcopy(theirs)._apply(change)
        found.append(results(runner(Form(layer, change), x, grad, pass_)()))
    out, taps = found[0][0], prod(theirs.kernel_size)
    batch = out.shape[0]
    pixels = batch * prod(out.shape[2:])
    products = batch * prod(x.shape[2:]) if theirs.transposed else pixels
    channels = theirs.in_channels // theirs.groups, theirs.out_channels // theirs.groups
    terms = taps * channels[0] + 1, taps * channels[1], products, pixels
    return list(zip(*found, terms[: len(found[0])], strict=True))


def results(returned):
    return returned if isinstance(returned, tuple) else (returned,)


def verify(form, returned, expected):
    """Raises unless all is within the rounding error of its sums."""
    found, back = results(returned), (form.give, form.give, form.give_weight, same)
    for got, give, answer in zip(found, back[: len(found)], expected, strict=True):
        oracle.assert_close(give(got), *answer)


def seconds(row, dtype, pass_, rounds, turn):
    """Median seconds of every contender."""
    theirs = row.make().to(dtype)
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator, dtype=dtype)
    x = draw(row.x[0], theirs.in_channels, *row.x[1:])
    with torch.no_grad():
        grad = draw(theirs(x).shape)
    expected = answers(theirs, x, grad, pass_)
    functions = {}
    with contenders.grad_mode(pass_):
        for name, form in forms(theirs).items():
            functions[name] = runner(form, x, grad, pass_)
            verify(form, functions[name](), expected)
        return {name: statistics.median(times) for name, times in measure(functions, rounds, turn).items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    contenders.add_options(parser, rounds=7)
    options = parser.parse_args()
    if options.pass_ not in PASSES:
        parser.error(f"--pass is one of {', '.join(PASSES)}")
    torch.set_num_threads(1)
    print(
        f"{options.pass_} {options.dtype}, 1 thread, {extension.instruction_set()}, torch {torch.__version__}: "
        f"milliseconds, and ratio to the better of torch.nn's"
    )
    print(f"{'layer':46}", *(f"{name:>18}" for name in OURS), f"{'contiguous':>11} {'ch.last':>8}")
    ratios = {name: [] for name in OURS}
    for row in contenders.chosen_layers(parser, options.layers, LAYERS):
        found = seconds(row, getattr(torch, options.dtype), options.pass_, options.rounds, options.seconds)
        *ours, contiguous, channels_last = (1e3 * value for value in found.values())
        cells = []
        for name, milliseconds in zip(OURS, ours, strict=True):
            ratios[name].append(min(contiguous, channels_last) / milliseconds)
            cells.append(f"{milliseconds:11.3f} {ratios[name][-1]:5.2f}x")
        print(f"{row.name:46}", *cells, f"{contiguous:11.3f} {channels_last:8.3f}", flush=True)
    for name, of in (("geometric mean", statistics.geometric_mean), ("lowest", min)):
        print(f"{name:46}", *(f"{of(values):17.2f}x" for values in ratios.values()))


if __name__ == "__main__":
    main()
