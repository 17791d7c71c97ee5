"""Peak memory of a training step, by dtype and by who computes the convolutions: each in a process of its own.

python bench/peak_memory.py --batch 8
"""

import argparse
import resource

import layers  # noqa: F401  (puts the package and tests/ on the path)
import torch
from network_contenders import images, network, training_step
from processes import from_own_process

import nhwc_conv
from nhwc_conv._extension import module as extension

import models  # isort: skip


def peak(converts, dtype, batch, size):
    """Bytes that a ResNet-50 and two training steps take beyond what the process had before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = network(models.resnet50, True, dtype)
    x = images(batch, size, dtype)
    step = training_step(nhwc_conv.convert(model) if converts else model, x)
    step()
    step()
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # who, dtype: in this process
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        who, dtype = options.one
        print(peak(who == "converted", getattr(torch, dtype), options.batch, options.size))
        return
    print(
        f"ResNet-50, {options.batch} images of {options.size}x{options.size}, {extension.instruction_set()}"
    )
    for who in ("converted", "original"):
        sizes = {}
        for dtype in ("float32", "bfloat16"):
            shape = "--batch", options.batch, "--size", options.size
            sizes[dtype] = from_own_process(__file__, "--one", who, dtype, *shape)
            ratio = sizes[dtype] / sizes["float32"]
            print(f"{who:10} {dtype:9} {sizes[dtype] / 2**20:7.0f} MiB  {ratio:5.2f} of float32", flush=True)


if __name__ == "__main__":
    main()
