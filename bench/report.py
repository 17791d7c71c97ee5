"""pytest-benchmark's JSON as a table and two pictures.

python -m pytest bench/bench_layers.py --benchmark-json=bench.json
python bench/report.py bench.json docs/benchmark
"""

import argparse
import json
import math
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import contenders
import matplotlib
import torch
from layers import LAYERS

from nhwc_conv._extension import module as extension

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

OURS = contenders.OPS


@dataclass(frozen=True)
class Measured:
    """What the JSON holds; nothing of it is asked of the process that draws."""

    table: dict  # {(dtype, pass): {layer: {contender: median seconds}}}
    flops: dict  # {(layer, pass): FLOP}
    machine: str
    instruction_set: str


def read(path):
    data = json.loads(Path(path).read_text())
    table, flops = defaultdict(lambda: defaultdict(dict)), {}
    for row in data["benchmarks"]:
        layer, dtype, pass_ = row["group"].rsplit("-", 2)
        table[dtype, pass_][layer][row["extra_info"]["contender"]] = row["stats"]["median"]
        flops[layer, pass_] = row["extra_info"]["flops"]

    def of_all_rows(name):
        values = {str(row["extra_info"].get(name, "unknown")) for row in data["benchmarks"]}
        return ", ".join(sorted(values))

    cpu = data["machine_info"]["cpu"].get("brand_raw", "unknown CPU")
    instruction_set = of_all_rows("instruction_set")
    date, threads, torch_version = data["datetime"][:10], of_all_rows("threads"), of_all_rows("torch")
    machine = f"{date}, {cpu}, threads: {threads}, torch {torch_version}, {instruction_set}"
    return Measured(table, flops, machine, instruction_set)


def speed_up(times):
    """conv2d, which chooses its algorithm, over the better layout of F.conv2d."""
    return min(times[name] for name in contenders.RIVALS) / times["conv2d"]


def markdown(measured):
    lines = [f"Measured {measured.machine}; GFLOP/s by the formula.", ""]
    for (dtype, pass_), layers in measured.table.items():
        columns = OURS + contenders.RIVALS
        lines += [f"### {dtype}, {pass_}", "", f"| layer | {' | '.join(columns)} | speed-up |"]
        lines += ["|---|" + "---:|" * (len(columns) + 1)]
        for case in LAYERS:
            times = layers.get(case.name)
            if not times:
                continue
            work = measured.flops[case.name, pass_] * 1e-9
            rates = [f"{work / times[c]:.1f}" if c in times else "" for c in columns]
            lines.append(f"| {case.name} | {' | '.join(rates)} | {speed_up(times):.2f} |")
        mean = statistics.geometric_mean(map(speed_up, layers.values()))
        lines += [f"| geometric mean | {'| ' * len(columns)}| {mean:.2f} |", ""]
    return "\n".join(lines)


def draw_speed_up(measured, path):
    table = measured.table
    figure, axes = plt.subplots(
        1, len(table), figsize=(4.2 * len(table), 9), sharey=True, layout="constrained"
    )
    for axis, ((dtype, pass_), layers) in zip(
        list(axes) if len(table) > 1 else [axes], table.items(), strict=True
    ):
        names = [case.name for case in LAYERS if case.name in layers][::-1]
        values = [speed_up(layers[name]) for name in names]
        axis.barh(names, values, color=["tab:blue" if v >= 1 else "tab:red" for v in values])
        axis.axvline(1, color="black", linewidth=0.8)
        for at, value in enumerate(values):
            axis.text(value, at, f" {value:.2f}", va="center", fontsize=7)
        axis.set_title(f"{dtype}, {pass_}", fontsize=10)
        axis.tick_params(axis="y", labelsize=7)
        axis.margins(x=0.15)
    figure.suptitle(
        f"Speed of conv2d relative to the better layout of F.conv2d\n{measured.machine}", fontsize=9
    )
    figure.savefig(path, dpi=110)


def bandwidth():
    """Bytes per second of one thread's copy of 256 MB, read and written."""
    source, target = torch.ones(1 << 25), torch.empty(1 << 25)
    best = math.inf
    for _ in range(8):
        start = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best


def draw_roofline(measured, path):
    """Peak and bandwidth are measured here: on the machine, and with the instruction set, of the JSON."""
    torch.set_num_threads(1)
    extension.set_instruction_set(measured.instruction_set)
    moved_per_second = bandwidth()
    figure, axis = plt.subplots(figsize=(7, 5), layout="constrained")
    for dtype, colour in (("float32", "tab:blue"), ("float64", "tab:orange")):
        layers = measured.table.get((dtype, "forward"))
        if not layers:
            continue
        size = torch.empty((), dtype=getattr(torch, dtype)).element_size()
        peak = extension.fma_peak(dtype, 0.5)
        points = []
        for case in LAYERS:
            times = layers.get(case.name)
            if times:
                work = measured.flops[case.name, "forward"]
                result = work / (2 * math.prod(case.w[:3]))
                moved = size * (math.prod(case.x) + math.prod(case.w) + result)
                best = min(times[name] for name in ("im2col", "matmul"))
                points.append((work / moved, work / best * 1e-9))
        intensities = [2.0**e for e in range(-1, 11)]
        roof = [min(peak, i * moved_per_second * 1e-9) for i in intensities]
        axis.plot(intensities, roof, color=colour, label=f"{dtype}: peak {peak:.0f} GFLOP/s")
        axis.scatter(*zip(*points, strict=True), color=colour, s=18)
    axis.set(xscale="log", yscale="log", xlabel="FLOP per byte of x, w and result", ylabel="GFLOP/s")
    axis.set_title(
        f"Forward, direct; copy {moved_per_second * 1e-9:.0f} GB/s\n{measured.machine}", fontsize=9
    )
    axis.grid(which="both", alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("json")
    parser.add_argument("out", help="a folder")
    args = parser.parse_args()
    measured = read(args.json)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(markdown(measured) + "\n")
    draw_speed_up(measured, out / "speed_up.png")
    if any(pass_ == "forward" for _, pass_ in measured.table):
        draw_roofline(measured, out / "roofline.png")


if __name__ == "__main__":
    main()
