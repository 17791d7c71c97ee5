"""How fast this checkout is against another one's build, layer by layer, interleaved in one run.

python bench/before_after.py --before ../before --pass train --dtype float64 --layers '3x3$'

The other checkout has its library built, too; NHWC_CONV_ISA chooses the instruction set of both. Ratios are the time of
the build before over this one's: above 1 this one is faster. What falls short of LIMIT is measured again, with the
build before against itself beside it. Exits with 1 where that confirms a row, where the geometric mean is short of
MEAN_LIMIT, or where a build fails or its answer is wrong.
"""

import argparse
import json
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

from interleaved import add_options, conditions, measure, rows, start
from layers import ROOT

from verify.builds import BuildError

LIMIT, MEAN_LIMIT = 0.96, 0.99
BEFORE, AFTER, AGAIN = "before", "after", "before again"


def is_slow(reruns):
    """Whether reruns, pairs of (ratio, ratio of the build before to itself), confirm that a row is slow.

    All ratios are short of the limit, and half of them are beyond what any two processes of one build differ by.
    """
    noise = min(min(itself, 1 / itself) for _, itself in reruns)
    ratios = [ratio for ratio, _ in reruns]
    return max(ratios) < LIMIT and statistics.median(ratios) < noise


def builds(stack, options, *keys):
    """The processes: new ones have their memory elsewhere, which alone moves single rows by several percent."""
    tree = {BEFORE: options.before, AFTER: ROOT, AGAIN: options.before}
    return {key: stack.enter_context(start(tree[key], options)) for key in keys}


def first_run(options, lot):
    keys = (BEFORE, AFTER, AGAIN) if options.noise else (BEFORE, AFTER)
    with ExitStack() as stack:
        workers = builds(stack, options, *keys)
        head = conditions(options, workers[AFTER])
        print(", ".join(f"{key} {value}" for key, value in head.items()))
        print(f"{'layer':32}{'':10}{'before':>10}{'after':>10}{'ratio':>8}" + f"{'noise':>8}" * options.noise)
        results = []
        for case, name in lot:
            seconds = measure(workers, name, case, options)
            row = {"layer": case.name, "contender": name, "seconds": seconds}
            row["ratio"] = seconds[BEFORE] / seconds[AFTER]
            results.append(row)
            times = "".join(f"{seconds[key] * 1e3:10.4f}" for key in (BEFORE, AFTER))
            noise = f"{seconds[BEFORE] / seconds[AGAIN]:8.3f}" if options.noise else ""
            mark = "  short" if row["ratio"] < LIMIT else ""
            print(f"{case.name:32}{name:10}{times}{row['ratio']:8.3f}{noise}{mark}", flush=True)
    return head, results


def run_again(options, lot):
    """By row of the lot, its pairs for `is_slow`."""
    found = [[] for _ in lot]
    for seed in range(1, options.reruns + 1):
        with ExitStack() as stack:
            workers = builds(stack, options, BEFORE, AFTER, AGAIN)
            for pairs, (case, name) in zip(found, lot, strict=True):
                seconds = measure(workers, name, case, options, seed)
                pairs.append((seconds[BEFORE] / seconds[AFTER], seconds[BEFORE] / seconds[AGAIN]))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", required=True, metavar="DIR", help="a checkout with its library built")
    add_options(parser)
    parser.add_argument("--noise", action="store_true", help="the build before against itself in every row")
    parser.add_argument("--reruns", type=int, default=3, help=f"of rows whose ratio is below {LIMIT}")
    parser.add_argument("--out", type=Path, metavar="FILE", help="results as JSON")
    options = parser.parse_args()
    if options.reruns < 1:
        parser.error(f"--reruns {options.reruns}: one at least")
    lot = list(rows(parser, options))
    try:
        head, results = first_run(options, lot)
        short = [(row, pair) for row, pair in zip(results, lot, strict=True) if row["ratio"] < LIMIT]
        again = run_again(options, [pair for _, pair in short]) if short else []
    except BuildError as error:
        sys.exit(str(error))
    mean = statistics.geometric_mean(row["ratio"] for row in results)
    print(
        f"geometric mean of {len(results)} rows: {mean:.3f}" + (mean < MEAN_LIMIT) * f", below {MEAN_LIMIT}"
    )
    slow = 0
    for (row, _), pairs in zip(short, again, strict=True):
        row["reruns"] = [{"ratio": ratio, "noise": noise} for ratio, noise in pairs]
        row["slow"] = is_slow(pairs)
        slow += row["slow"]
        shown = ", ".join(f"{ratio:.3f} (noise {noise:.3f})" for ratio, noise in pairs)
        print(f"{row['layer']} {row['contender']}: {shown}: {'SLOW' if row['slow'] else 'not confirmed'}")
    print(f"{len(short)} rows below {LIMIT}, {slow} of them confirmed")
    if options.out:
        content = {**head, "rounds": options.rounds, "mean": mean, "rows": results}
        options.out.write_text(json.dumps(content, indent=1) + "\n")
    return int(slow > 0 or mean < MEAN_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
