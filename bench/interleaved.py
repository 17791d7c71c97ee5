"""Layers timed on several builds by turns, each in a process of its own: what before_after.py and tune.py share."""

import random
import statistics

import contenders
import torch
from timing import seconds_per_call

from verify.builds import Worker
from verify.summary import processor


class Timed:
    """One contender of one layer at a time, in the process of a build."""

    def __init__(self, pass_, dtype, threads):
        self.pass_, self.dtype, self.function = pass_, getattr(torch, dtype), None
        torch.set_num_threads(threads)

    def prepare(self, name, case):
        """Verifies the answer of a contender; returns about how many seconds a call takes."""
        with contenders.grad_mode(self.pass_):
            self.function = contenders.contender(name, case, self.dtype, self.pass_)
            contenders.verify(name, case, self.dtype, self.pass_, self.function())
            return seconds_per_call(self.function, 2)

    def seconds(self, calls):
        with contenders.grad_mode(self.pass_):
            self.function()  # the other builds have had the caches
            return seconds_per_call(self.function, calls)


def start(tree, options):
    """The process of a build; `options` are those of `add_options`."""
    return Worker(tree, ("interleaved", "Timed"), options.pass_, options.dtype, options.threads)


def measure(workers, name, case, options, seed=0):
    """Median seconds of a call of a contender, for each of the workers (by any key)."""
    task = f"{case.name}, {name}"
    one_call = [worker.ask(task, "prepare", name, case) for worker in workers.values()]
    calls = max(1, round(options.seconds / min(one_call)))
    order, times, rng = list(workers), {key: [] for key in workers}, random.Random(seed)
    for _ in range(options.rounds):
        rng.shuffle(order)
        for key in order:
            times[key].append(workers[key].ask(task, "seconds", calls))
    return {key: statistics.median(values) for key, values in times.items()}


def rows(parser, options):
    """(case, contender) of everything that is timed: conv2d, and on packed weights where they are for the pass."""
    for case in contenders.chosen_layers(parser, options.layers):
        for name in ("conv2d", "prepacked"):
            if name in contenders.names(case, options.pass_):
                yield case, name


def add_options(parser):
    contenders.add_options(parser, rounds=9)
    parser.add_argument("--threads", type=int, default=1)


def conditions(options, worker):
    """What was timed where, for the head of a table."""
    about = worker.about
    return {
        "pass": options.pass_,
        "dtype": options.dtype,
        "threads": options.threads,
        "instruction_set": about["instruction_set"],
        "processor": processor(),
        "torch": about["torch"],
    }
