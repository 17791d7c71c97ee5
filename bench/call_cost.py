"""What a call costs beside its arithmetic: a 3x3 convolution of 1x4x4x8, of which F.conv2d needs microseconds.

python bench/call_cost.py
"""

import argparse
import copy
import statistics

import layers  # noqa: F401  (puts the package on the path)
import torch
import torch.nn.functional as F
from timing import seconds_per_call

import nhwc_conv

TO_NCHW, TO_OIHW = (0, 3, 1, 2), (3, 2, 0, 1)
TO_NHWC, TO_HWIO = (0, 2, 3, 1), (2, 3, 1, 0)
FORMATS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
CHANNELS, OUTPUTS, PIXELS = 8, 16, 4
CALLS = 100


class Function:
    """A convolution as a function of an image and a weight."""

    def __init__(self, function, x, w):
        self.function, self.x, self.w = function, x.detach().clone(), w.detach().clone()

    def __call__(self):
        return self.function(self.x, self.w, None, 1, 1)


class Layer:
    """A convolution as a layer."""

    def __init__(self, layer, x):
        self.layer, self.x, self.w = layer, x.detach().clone(), layer.weight

    def __call__(self):
        return self.layer(self.x)


def forward(call):
    return lambda: (call(),)


def step(call):
    call.x.requires_grad_()
    call.w.requires_grad_()

    def run():
        call.x.grad = call.w.grad = None
        out = call()
        out.sum().backward()
        return out, call.x.grad, call.w.grad

    return run


def functions(function):
    """Ours on NHWC tensors, and F.conv2d in either of its layouts."""
    x, w = torch.randn(1, PIXELS, PIXELS, CHANNELS), torch.randn(3, 3, CHANNELS, OUTPUTS)
    images, weights = x.permute(TO_NCHW), w.permute(TO_OIHW)
    calls = {
        name: Function(F.conv2d, *(t.contiguous(memory_format=f) for t in (images, weights)))
        for name, f in FORMATS.items()
    }
    return {**calls, "ours": Function(function, x, w)}


def layers_like(make, prepack):
    """A layer of ours, and torch.nn.Conv2d in either of its layouts, of the same parameters."""
    theirs = torch.nn.Conv2d(CHANNELS, OUTPUTS, 3, padding=1, bias=False)
    images = torch.randn(1, CHANNELS, PIXELS, PIXELS)
    calls = {
        name: Layer(copy.deepcopy(theirs).to(memory_format=f), images.contiguous(memory_format=f))
        for name, f in FORMATS.items()
    }
    ours = make(copy.deepcopy(theirs))
    if prepack:
        nhwc_conv.prepack(ours.eval())
    nhwc = isinstance(ours, nhwc_conv.nn.NHWCConv2d)
    return {**calls, "ours": Layer(ours, images.permute(TO_NHWC).contiguous() if nhwc else images)}


def compare(ours, theirs):
    """Raises unless the result and, of a step, both gradients are the same; gradients are as their tensors are."""
    to_ours = (TO_NHWC, TO_NHWC, TO_HWIO)[: len(ours)]
    for a, b, order in zip(ours, theirs, to_ours, strict=True):
        torch.testing.assert_close(a, b if a.shape == b.shape else b.permute(order))


def measure(mode, make, calls, rounds):
    """Median microseconds of ours and of each rival; every answer is compared first."""
    with mode():
        runs = {name: make(call) for name, call in calls.items()}
        for name in FORMATS:
            compare(runs["ours"](), runs[name]())
        times = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                times[name].append(seconds_per_call(run, CALLS))
    return {name: 1e6 * statistics.median(t) for name, t in times.items()}


def rows():
    inference, training = (torch.inference_mode, forward), (torch.enable_grad, step)
    op, function = torch.ops.nhwc_conv.im2col, nhwc_conv.conv2d
    drop_in, nhwc = nhwc_conv.nn.Conv2d.from_torch, nhwc_conv.nn.NHWCConv2d.from_torch
    yield "torch.ops.nhwc_conv.im2col, inference_mode", *inference, functions(op)
    yield "nhwc_conv.conv2d, no_grad", torch.no_grad, forward, functions(function)
    yield "nn.Conv2d, inference_mode", *inference, layers_like(drop_in, False)
    yield "nn.Conv2d, prepacked", *inference, layers_like(drop_in, True)
    yield "nn.NHWCConv2d, inference_mode", *inference, layers_like(nhwc, False)
    yield "nn.NHWCConv2d, prepacked", *inference, layers_like(nhwc, True)
    yield "torch.ops.nhwc_conv.im2col, forward and backward", *training, functions(op)
    yield "nhwc_conv.conv2d, forward and backward", *training, functions(function)
    yield "nn.Conv2d, forward and backward", *training, layers_like(drop_in, False)
    yield "nn.NHWCConv2d, forward and backward", *training, layers_like(nhwc, False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=101)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("microseconds a call, and times those of F.conv2d, or of torch.nn.Conv2d, in either layout")
    print(f"{'':50}{'us':>6}", *(f"{name:>14}" for name in FORMATS))
    for title, mode, make, calls in rows():
        us = measure(mode, make, calls, rounds)
        cells = (f"{us['ours'] / us[name]:13.2f}x" for name in FORMATS)
        print(f"{title:50}{us['ours']:6.1f}", *cells, flush=True)


if __name__ == "__main__":
    main()
