"""What a second thread gains: one of our ops and F.conv2d on one and on two threads, interleaved in one process.

python bench/scaling.py --pass train --op matmul --layers '1x1$'
"""

import argparse
import statistics

import contenders
import torch
from timing import seconds_per_call


def measure(names, case, dtype, pass_, rounds, seconds):
    """Median seconds by (contender, threads)."""
    functions = {name: contenders.contender(name, case, dtype, pass_) for name in names}
    calls = {}
    for name, function in functions.items():
        for threads in (1, 2):
            torch.set_num_threads(threads)
            contenders.verify(name, case, dtype, pass_, function())
            calls[name, threads] = max(1, round(seconds / seconds_per_call(function, 2)))
    times = {key: [] for key in calls}
    for _ in range(rounds):
        for (name, threads), count in calls.items():
            torch.set_num_threads(threads)
            functions[name]()  # data goes to the caches of the threads that will use it
            times[name, threads].append(seconds_per_call(functions[name], count))
    return {key: statistics.median(t) for key, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    contenders.add_options(parser, rounds=7)
    parser.add_argument("--op", choices=contenders.OPS, default="conv2d")
    options = parser.parse_args()
    names = [options.op, *contenders.RIVALS]
    print(
        f"{options.pass_} {options.dtype}: one thread's time over two threads'; on two, ratio to the better F.conv2d"
    )
    print(f"{'layer':30} {'ms on one':>10} {options.op:>9} {'NCHW':>7} {'ch.last':>8} {'on two':>7}")
    for case in contenders.chosen_layers(parser, options.layers):
        if options.op not in contenders.names(case, options.pass_):
            continue
        with contenders.grad_mode(options.pass_):
            t = measure(
                names, case, getattr(torch, options.dtype), options.pass_, options.rounds, options.seconds
            )
        ours, nchw, channels_last = (t[name, 1] / t[name, 2] for name in names)
        ratio = min(t[name, 2] for name in contenders.RIVALS) / t[options.op, 2]
        one = 1e3 * t[options.op, 1]
        print(
            f"{case.name:30} {one:10.3f} {ours:9.2f} {nchw:7.2f} {channels_last:8.2f} {ratio:6.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
