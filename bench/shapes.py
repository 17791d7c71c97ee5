"""No cliffs: 1,500 layers of real networks (shapes.csv) against the better layout of F.conv2d, the slowest first.

python bench/shapes.py --pass train --dtype float64 --part 1/5 --out train64_1.json   # to 5/5, then
python bench/shapes.py --join train64_*.json forward*.json --out docs/benchmark/shapes

One thread, contenders interleaved, our answers verified. Ratios are the time of the better F.conv2d over that of the op
conv2d: above 1 ours is faster. Rows under LIMIT are timed anew, with other memory, and the median of these counts.
`--join` puts files of one pass, dtype and instruction set together to a run and writes, of all runs, the ratios of each
row (.csv) and the sorted ratios (.png).
"""

import argparse
import csv
import json
import math
import random
import statistics
import time
from pathlib import Path

import contenders
import torch
from layers import Case
from timing import measure, seconds_per_call

import nhwc_conv
from nhwc_conv._extension import module as extension
from verify.summary import processor

LIST = Path(__file__).with_suffix(".csv")
OURS = ["conv2d", "prepacked"]
LIMIT, RERUNS = 0.9, 3
LONG = 50e-6  # seconds of ours from which a row is one of the longer ones
HOPELESS = 3  # so many times slower than the other layout, a layout of F.conv2d is timed no further
SLOWEST = 40


def shapes():
    """{case: network} of all rows of the list."""
    with LIST.open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {as_case(row): f"{row['network']} ({row['kind']})" for row in rows}


def as_case(row):
    n, h, w, c, o, groups = (
        int(row[name]) for name in ("batch", "height", "width", "inputs", "outputs", "groups")
    )
    kernel, stride, padding, dilation = (
        pair(row[name]) for name in ("kernel", "stride", "padding", "dilation")
    )
    name = f"{n}x" * (n > 1) + f"{text((h, w))}_{c}-{o}_{kernel[0]}x{kernel[1]}"
    keeps_size = tuple((k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True))
    name += f"_s{text(stride)}" * (stride != (1, 1)) + f"_d{text(dilation)}" * (dilation != (1, 1))
    name += f"_p{text(padding)}" * (padding != keeps_size)
    if groups > 1:
        name += "_depthwise" if groups == c == o else f"_groups{groups}"
    steps = (value[0] if value[0] == value[1] else value for value in (stride, padding, dilation))
    return Case(name, (n, h, w, c), (*kernel, c // groups, o), *steps, groups)


def pair(cell):
    first, _, second = cell.partition("x")
    return int(first), int(second or first)


def text(values):
    return str(values[0]) if values[0] == values[1] else "x".join(map(str, values))


def runners(case, dtype, pass_):
    """What computes each part of a pass: files of csrc/conv."""
    steps = case.stride, case.padding, case.dilation, case.groups
    plans = (
        nhwc_conv.explain(case.x, case.w, *steps, dtype=dtype, direction=part)
        for part in contenders.results(pass_)
    )
    return [plan.get("runner", plan["algorithm"]) for plan in plans]


def seconds_of_rival(function):
    try:
        return min(seconds_per_call(function) for _ in range(2))
    except RuntimeError:  # single rows by torch 2.13: "slow_conv2d: grad_weight must be contiguous"
        return math.inf


def times(case, dtype, options, verified=False):
    """{contender: median seconds of a call}, after our answers were verified."""
    pass_ = options.pass_
    names = [name for name in OURS if name in contenders.names(case, pass_)] + contenders.RIVALS
    with contenders.grad_mode(pass_):
        functions = {name: contenders.contender(name, case, dtype, pass_) for name in names}
        for name in OURS:
            if name in functions and not verified:
                contenders.verify(name, case, dtype, pass_, functions[name]())
        rivals = {name: seconds_of_rival(functions[name]) for name in contenders.RIVALS}
        for name, value in rivals.items():
            if value > HOPELESS * min(rivals.values()):
                del functions[name]
        found = measure(functions, options.rounds, options.seconds)
    return {name: statistics.median(values) for name, values in found.items()}


def ratio(seconds, ours="conv2d"):
    return min(seconds[name] for name in contenders.RIVALS if name in seconds) / seconds[ours]


def run(cases, dtype, options):
    """A row of each case; slow ones are timed again at the end, when what disturbed them may be gone."""
    rows = []
    for case, network in cases.items():
        seconds = times(case, dtype, options)
        row = {"name": case.name, "network": network, "seconds": seconds, "ratio": ratio(seconds)}
        rows.append({**row, "runners": runners(case, dtype, options.pass_)})
    for case, row in zip(cases, rows, strict=True):
        if row["ratio"] < LIMIT:
            again = [times(case, dtype, options, verified=True) for _ in range(RERUNS)]
            row["first"], row["seconds"] = row["ratio"], sorted(again, key=ratio)[RERUNS // 2]
            row["ratio"] = ratio(row["seconds"])
    return rows


def part(cell):
    i, n = map(int, cell.split("/"))
    if not 1 <= i <= n:
        raise ValueError(cell)
    return i, n


def drawn(cases, number, seed, part):
    """`number` of the cases (0: all) by a seed, of these every n-th for the i-th part of n."""
    names = list(cases)
    if number:
        names = random.Random(seed).sample(names, min(number, len(names)))
    return {case: cases[case] for case in names[part[0] - 1 :: part[1]]}


def join(paths):
    """{what was run where: its rows}, of files of which several may be parts of one run."""
    runs = {}
    for path in paths:
        found = json.loads(Path(path).read_text())
        rows = runs.setdefault(tuple(found["head"].items()), {})
        for row in found["rows"]:
            if row["name"] in rows:
                raise ValueError(f"{path}: {row['name']} is in a file before it, too")
            rows[row["name"]] = row
    return {head: list(rows.values()) for head, rows in runs.items()}


def summary(rows, ours="conv2d"):
    """By name of a figure."""
    values = sorted(ratio(row["seconds"], ours) for row in rows)
    long = [ratio(row["seconds"], ours) for row in rows if row["seconds"][ours] >= LONG]
    return {
        "rows": len(rows),
        "mean": statistics.geometric_mean(values),
        "mean of 50 us and more": statistics.geometric_mean(long) if long else float("nan"),
        "5 % quantile": values[len(values) // 20],
        "lowest": values[0],
        f"under {LIMIT}": sum(value < LIMIT for value in values),
        "under 1": sum(value < 1 for value in values),
    }


def report(rows, slowest):
    """The slowest rows, and the figures of all, as lines of markdown."""
    lines = ["| layer | network | us | F.conv2d | ratio | runner |", "|---|---|---:|---:|---:|---|"]
    for row in sorted(rows, key=lambda row: row["ratio"])[:slowest]:
        us = row["seconds"]["conv2d"] * 1e6
        cells = row["name"], row["network"], f"{us:.1f}", f"{us * row['ratio']:.1f}", f"{row['ratio']:.2f}"
        lines.append(f"| {' | '.join(cells)} | {', '.join(row['runners'])} |")
    for ours in OURS:
        if ours in rows[0]["seconds"]:
            figures = summary(rows, ours).items()
            shown = (f"{key} {value if isinstance(value, int) else f'{value:.2f}'}" for key, value in figures)
            lines += ["", f"{ours}: {', '.join(shown)}"]
    return "\n".join(lines)


def title(head):
    about = dict(head)
    return f"{about['pass']} {about['dtype']}, {about['instruction_set']}"


def draw(runs, path):
    """Sorted ratios, a curve for each run."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    for head, rows in runs.items():
        values = sorted(row["ratio"] for row in rows)
        label = f"{title(head)}: mean {statistics.geometric_mean(values):.2f}, lowest {values[0]:.2f}"
        axis.plot([100 * (i + 0.5) / len(values) for i in range(len(values))], values, label=label)
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(yscale="log", xlabel="% of the layers, sorted by ratio", ylabel="times as fast as F.conv2d")
    ticks = [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50]
    axis.set_yticks(ticks, ticks)
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    about = dict(next(iter(runs)))
    axis.set_title(f"{about['date']}, {about['processor']}, one thread, torch {about['torch']}", fontsize=9)
    figure.savefig(path, dpi=110)


def write_ratios(runs, path):
    """A row for each layer, in the order of the list, and a column for each run."""
    found = [{row["name"]: row["ratio"] for row in rows} for rows in runs.values()]
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["layer", *map(title, runs)])
        for name in (case.name for case in shapes()):
            if any(name in run for run in found):
                table.writerow([name, *(f"{run[name]:.2f}" if name in run else "" for run in found)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    contenders.add_options(parser, rounds=3)
    parser.set_defaults(seconds=0.005)
    parser.add_argument("--number", type=int, default=0, help="of layers, drawn by --seed; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", type=part, default="1/1", help="i/n: the i-th of n parts of the layers")
    parser.add_argument("--slowest", type=int, default=SLOWEST, help="so many rows are printed")
    parser.add_argument("--join", nargs="+", metavar="FILE", help="files of --out, instead of a measurement")
    parser.add_argument("--out", type=Path, help="a JSON file; with --join, what .csv and .png go behind")
    options = parser.parse_args()
    if options.join:
        runs = join(options.join)
        for head, rows in runs.items():
            print(f"## {title(head)}\n\n{report(rows, options.slowest)}\n")
        if options.out:
            write_ratios(runs, options.out.with_suffix(".csv"))
            draw(runs, options.out.with_suffix(".png"))
        return
    torch.set_num_threads(1)
    chosen = contenders.chosen_layers(parser, options.layers, found := shapes())
    cases = drawn({case: found[case] for case in chosen}, options.number, options.seed, options.part)
    head = {
        "pass": options.pass_,
        "dtype": options.dtype,
        "instruction_set": extension.instruction_set(),
        "processor": processor(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    rows = run(cases, getattr(torch, options.dtype), options)
    print(f"## {title(head.items())}\n\n{report(rows, options.slowest)}")
    if options.out:
        options.out.write_text(json.dumps({"head": head, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
