"""Half precision beside float32: how many times as fast as the same pass of the same layer in float32, and as F.conv2d.

python bench/half.py --pass train --dtype float16 --layers 1x1
"""

import argparse
import statistics

import contenders
import torch
from timing import measure

from nhwc_conv._extension import module as extension


def medians(case, dtype, pass_, rounds, seconds):
    """Median seconds of conv2d in `dtype` and in float32, and of the better F.conv2d in `dtype`."""
    chosen = {"half": ("conv2d", dtype), "float32": ("conv2d", torch.float32)}
    chosen |= {name: (name, dtype) for name in contenders.RIVALS}
    functions = {}
    for key, (name, of) in chosen.items():
        functions[key] = contenders.contender(name, case, of, pass_)
        # F.conv2d's gradients are sums in half precision where the processor has no instructions for it: right as far
        # as those are, and beyond the bound of this package's.
        if name not in contenders.RIVALS or pass_ == "forward":
            contenders.verify(name, case, of, pass_, functions[key]())
    half, single, *rivals = map(statistics.median, measure(functions, rounds, seconds).values())
    return half, single, min(rivals)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    contenders.add_options(parser, rounds=7)
    parser.set_defaults(dtype="bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{options.pass_} {options.dtype}, 1 thread, {extension.instruction_set()}, torch {torch.__version__}"
    )
    print(f"{'layer':30} {'us':>9} {'float32':>8} {'F.conv2d':>9}")
    ratios = []
    for case in contenders.chosen_layers(parser, options.layers):
        with contenders.grad_mode(options.pass_):
            dtype = getattr(torch, options.dtype)
            half, *others = medians(case, dtype, options.pass_, options.rounds, options.seconds)
        ratios.append([other / half for other in others])
        print(f"{case.name:30} {half * 1e6:9.0f} {ratios[-1][0]:7.2f}x {ratios[-1][1]:8.2f}x", flush=True)
    by_column = list(zip(*ratios, strict=True))
    print(f"{'geometric mean':40}", *(f"{statistics.geometric_mean(column):7.2f}x" for column in by_column))
    print(f"{'lowest':40}", *(f"{min(column):7.2f}x" for column in by_column))


if __name__ == "__main__":
    main()
