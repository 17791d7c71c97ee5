"""All contenders of a layer in one process, interleaved, so that a drifting clock hits all alike.

python bench/compare.py --pass train --dtype float64 --threads 2 --layers '3x3$'
"""

import argparse
import statistics

import contenders
import torch
from layers import flops
from timing import seconds_per_call

from nhwc_conv._extension import module as extension


def measure(case, dtype, pass_, rounds, seconds):
    """Median GFLOP/s of every contender, and of the FMA units in the same rounds."""
    functions = {}
    for name in contenders.names(case, pass_):
        if name in contenders.NUMPY:
            continue
        functions[name] = contenders.contender(name, case, dtype, pass_)
        contenders.verify(name, case, dtype, pass_, functions[name]())
    calls = {n: max(1, round(seconds / seconds_per_call(f, 2))) for n, f in functions.items()}
    times = {name: [] for name in functions}
    peaks = []
    for _ in range(rounds):
        peaks.append(extension.fma_peak(str(dtype).removeprefix("torch."), seconds))
        for name, function in functions.items():
            times[name].append(seconds_per_call(function, calls[name]))
    work = flops(case, pass_) / 1e9
    return {name: work / statistics.median(t) for name, t in times.items()}, statistics.median(peaks)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    contenders.add_options(parser, rounds=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)

    print(
        f"{options.pass_} {options.dtype}, {options.threads} thread(s), {extension.instruction_set()}, "
        f"torch {torch.__version__}: GFLOP/s, ratio to the better F.conv2d, % of the FMA peak"
    )
    columns = [f"{name:>20}" for name in contenders.OPS] + [f"{'NCHW':>7}", f"{'ch.last':>8}", f"{'peak':>7}"]
    print(f"{'layer':30}", *columns)
    ratios = {name: [] for name in contenders.OPS}
    for case in contenders.chosen_layers(parser, options.layers):
        with contenders.grad_mode(options.pass_):
            gflops, peak = measure(case, dtype, options.pass_, options.rounds, options.seconds)
        best_rival = max(gflops[name] for name in contenders.RIVALS)
        cells = []
        for name in contenders.OPS:
            if name not in gflops:
                cells.append(" " * 20)
                continue
            ratios[name].append(gflops[name] / best_rival)
            share = 100 * gflops[name] / (peak * options.threads)
            cells.append(f"{gflops[name]:7.1f} {ratios[name][-1]:5.2f}x {share:4.0f}%")
        nchw, channels_last = (gflops[name] for name in contenders.RIVALS)
        print(f"{case.name:30}", *cells, f"{nchw:7.1f} {channels_last:8.1f} {peak:7.1f}", flush=True)
    means = [f"{statistics.geometric_mean(v):13.2f}x     " if v else " " * 19 for v in ratios.values()]
    print(f"{'geometric mean':30}", *means)


if __name__ == "__main__":
    main()
