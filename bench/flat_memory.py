"""Memory that a 3x3 layer keeps after images of many sizes, by who computes it: each in a process of its own.

python bench/flat_memory.py
"""

import argparse
import ctypes
import gc
import itertools

import layers  # noqa: F401  (puts the package and tests/ on the path)
import torch
import torch.nn.functional as F
from processes import from_own_process

import nhwc_conv
from nhwc_conv._extension import module as extension
from verify.resources import resident

SMALLEST, HEIGHTS = 16, 20  # of images; there are as many widths as the number of sizes asks
NAMES = {
    "ours": "nhwc_conv.conv2d",
    "channels_last": "F.conv2d, channels_last",
    "contiguous_format": "F.conv2d, NCHW",
}


def layer(who, channels):
    """The layer's call on one image of a height and a width, its weight, and how it makes the image."""
    if who == "ours":
        weight = torch.randn(3, 3, channels, channels)
        return nhwc_conv.conv2d, weight, lambda h, w: torch.ones(1, h, w, channels)
    layout = getattr(torch, who)
    weight = torch.randn(channels, channels, 3, 3).contiguous(memory_format=layout)
    return F.conv2d, weight, lambda h, w: torch.ones(1, channels, h, w).contiguous(memory_format=layout)


def kept():
    """Bytes in memory, without those that the allocator holds free, or Python has yet to find unused."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident()


def growth(who, training, sizes, channels):
    """Bytes that the sizes leave behind, after the largest has run."""
    torch.set_num_threads(1)
    conv2d, weight, image = layer(who, channels)
    heights = range(SMALLEST, SMALLEST + HEIGHTS)
    widths = range(SMALLEST, SMALLEST + -(-sizes // HEIGHTS))

    def run(h, w):
        x, parameter = image(h, w).requires_grad_(training), weight.clone().requires_grad_(training)
        y = conv2d(x, parameter, padding=1)
        if training:
            y.sum().backward()

    run(heights[-1], widths[-1])
    before = kept()
    for h, w in itertools.islice(itertools.product(heights, widths), sizes):
        run(h, w)
    return kept() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, default=600)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # who, pass: in this process
    options = parser.parse_args()
    if options.one:
        who, step = options.one
        print(growth(who, step == "training", options.sizes, options.channels))
        return
    print(
        f"3x3, {options.channels} channels, images of {options.sizes} sizes, torch {torch.__version__}, "
        f"{extension.instruction_set()}"
    )
    for who, name in NAMES.items():
        for step in ("forward", "training"):
            sizes = "--sizes", options.sizes, "--channels", options.channels
            mib = from_own_process(__file__, "--one", who, step, *sizes) / 2**20
            print(f"{name:24} {step:9} {mib:7.1f} MiB", flush=True)


if __name__ == "__main__":
    main()
