"""What a call costs beside its arithmetic: a 3x3 convolution of 1x4x4x8, of which F.conv2d needs microseconds.

python bench/call_cost.py
"""

import argparse
import statistics

import layers  # noqa: F401  (puts the package on the path)
import torch
import torch.nn.functional as F
from timing import seconds_per_call

import nhwc_conv

TO_NCHW, TO_OIHW = (0, 3, 1, 2), (3, 2, 0, 1)
TO_NHWC, TO_HWIO = (0, 2, 3, 1), (2, 3, 1, 0)
CALLS = 100


def rivals(x, w):
    """F.conv2d of tensors in either of its layouts, and of the same NHWC tensors as ours, seen as NCHW."""
    x_view, w_view = x.permute(TO_NCHW), w.permute(TO_OIHW)
    return {
        "NCHW": (F.conv2d, x_view.contiguous(), w_view.contiguous()),
        "channels_last": (
            F.conv2d,
            x_view.contiguous(memory_format=torch.channels_last),
            w_view.contiguous(memory_format=torch.channels_last),
        ),
        "NHWC, permuted": (lambda x, w, *rest: F.conv2d(x.permute(TO_NCHW), w.permute(TO_OIHW), *rest), x, w),
    }


def forward(function, x, w):
    return lambda: (function(x, w, None, 1, 1),)


def step(function, x, w):
    x, w = (t.detach().clone().requires_grad_() for t in (x, w))

    def run():
        x.grad = w.grad = None
        out = function(x, w, None, 1, 1)
        out.sum().backward()
        return out, x.grad, w.grad

    return run


def compare(ours, theirs):
    """Raises unless the result and, of a step, both gradients are the same; gradients are as their tensors are."""
    to_ours = (TO_NHWC, TO_NHWC, TO_HWIO)[: len(ours)]
    for a, b, order in zip(ours, theirs, to_ours, strict=True):
        torch.testing.assert_close(a, b if a.shape == b.shape else b.permute(order))


def measure(mode, make, function, x, w, rounds):
    """Median microseconds of ours and of each rival; every answer is compared first."""
    with mode():
        runs = {name: make(f, a, b) for name, (f, a, b) in rivals(x, w).items()}
        runs["ours"] = make(function, x, w)
        for name, run in runs.items():
            if name != "ours":
                compare(runs["ours"](), run())
        times = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                times[name].append(seconds_per_call(run, CALLS))
    return {name: 1e6 * statistics.median(t) for name, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=101)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    x, w = torch.randn(1, 4, 4, 8), torch.randn(3, 3, 8, 16)
    rows = {
        "torch.ops.nhwc_conv.im2col, inference_mode": (
            torch.inference_mode,
            forward,
            torch.ops.nhwc_conv.im2col,
        ),
        "nhwc_conv.conv2d, no_grad": (torch.no_grad, forward, nhwc_conv.conv2d),
        "nhwc_conv.conv2d, forward and backward": (torch.enable_grad, step, nhwc_conv.conv2d),
    }
    names = list(rivals(x, w))
    print("microseconds a call, and times those of F.conv2d of tensors that are")
    print(f"{'':44}{'us':>6}", *(f"{name:>15}" for name in names))
    for title, (mode, make, function) in rows.items():
        us = measure(mode, make, function, x, w, rounds)
        cells = (f"{us['ours'] / us[name]:14.2f}x" for name in names)
        print(f"{title:44}{us['ours']:6.1f}", *cells, flush=True)


if __name__ == "__main__":
    main()
