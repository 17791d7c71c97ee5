"""Whole networks by eager PyTorch, Inductor, ONNX Runtime, OpenVINO and nhwc_conv, in inference and training.

python bench/networks.py --out docs/benchmark/networks.json
python bench/networks.py --compiled --only ResNet-18 --threads 2    # compiling takes minutes
python bench/networks.py --timm ghostnet_100 regnety_008     # others, where timm is installed
python bench/networks.py --smoke            # small images, two rounds: does everything run and agree?

Every answer is verified before it is timed. Contenders take turns; ratios are of medians, to the better layout
of eager PyTorch. ONNX Runtime and OpenVINO (`pip install .[rivals]`) take part where they are installed.
"""

import argparse
import functools
import json
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import network_contenders as contenders
import torch
from timing import measure

from nhwc_conv._extension import module as extension
from verify.summary import processor

import models  # isort: skip


@dataclass(frozen=True)
class Workload:
    network: str
    batch: int
    size: int
    trains: bool = False

    @property
    def name(self):
        what = "training step" if self.trains else "inference"
        return f"{self.network}, {what}, {self.batch}x{self.size}x{self.size}"


NETWORKS = {
    "ResNet-18": models.resnet18,
    "ResNet-50": models.resnet50,
    "MobileNetV2": models.mobilenet_v2,
    "EfficientNet-B0": models.efficientnet_b0,
    "ConvNeXt-T": models.convnext,
    "U-Net": models.UNet,
    "EDSR-small": models.edsr,
}
SIZES = {"U-Net": 256, "EDSR-small": 128}
WORKLOADS = [Workload(name, 1, SIZES.get(name, 224)) for name in NETWORKS] + [
    Workload(name, batch, size, trains=True)
    for name in ("ResNet-18", "ResNet-50", "MobileNetV2", "U-Net")
    for batch, size in ((8, 64), (2, 224))
]


@functools.cache
def from_timm(name):
    """The inference of a model of timm, with random weights, at the size that it is made for."""
    import timm

    NETWORKS[name] = functools.partial(timm.create_model, name)
    return Workload(name, 1, timm.create_model(name).default_cfg["input_size"][-1])


def workloads(options):
    """By name, as the options change them."""
    changes = {"batch": options.batch, "size": options.size}
    changes = {name: value for name, value in changes.items() if value is not None}
    chosen = list(map(from_timm, options.timm)) or WORKLOADS
    changed = [replace(workload, **changes) for workload in chosen]
    return {workload.name: workload for workload in changed if options.only in workload.name}


def rows(workload, options):
    """({contender: what was found}, [who is left out, and why])."""
    dtype = getattr(torch, options.dtype)
    torch.compiler.reset()  # else all networks share one limit of recompilations, beyond which models run as they are
    makers, left_out = contenders.chosen(workload.trains, dtype, options.compiled)
    prepared, failed = contenders.prepared(
        NETWORKS[workload.network], workload.batch, workload.size, workload.trains, dtype, makers
    )
    times = measure(
        {name: function for name, (function, _) in prepared.items()}, options.rounds, options.seconds
    )
    medians = {name: statistics.median(values) for name, values in times.items()}
    baseline = min(medians[name] for name in contenders.EAGER)
    found = {}
    for name in makers:
        if name in failed:
            found[name] = {"failed": failed[name]}
        else:
            median, error = medians[name], prepared[name][1]
            ratio = baseline / median
            found[name] = {"median": median, "speed_up": ratio, "error": error, "seconds": times[name]}
    return found, left_out


def show(found):
    for name, values in found.items():
        if "failed" in values:
            print(f"  {name:34} failed: {values['failed']}")
        else:
            figures = f"{1e3 * values['median']:9.2f} ms  {values['speed_up']:5.2f}x"
            print(f"  {name:34} {figures}  off by {values['error']:.1e}", flush=True)


def draw(results, machine, path):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    bars = [
        (f"{workload}: {name}" if at == 0 else name, values["speed_up"], name in contenders.OURS)
        for workload, found in results.items()
        for at, (name, values) in enumerate(found.items())
        if "failed" not in values
    ][::-1]
    figure, axis = plt.subplots(figsize=(9, 0.2 * len(bars) + 1.2), layout="constrained")
    names, ratios, ours = zip(*bars, strict=True)
    places = range(len(bars))
    axis.barh(places, ratios, color=["tab:blue" if is_ours else "tab:gray" for is_ours in ours])
    axis.set_yticks(places, names, fontsize=7)
    axis.axvline(1, color="black", linewidth=0.8)
    for at, ratio in enumerate(ratios):
        axis.text(ratio, at, f" {ratio:.2f}", va="center", fontsize=7)
    axis.margins(x=0.12, y=0.01)
    figure.suptitle(
        f"Speed relative to the better layout of eager PyTorch; nhwc_conv's are blue\n{machine}", fontsize=9
    )
    figure.savefig(path, dpi=110)


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, help="images, instead of each workload's own number")
    parser.add_argument("--size", type=int, help="pixels along a side, instead of each workload's own number")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64", "bfloat16", "float16"])
    parser.add_argument("--compiled", action="store_true", help="with what torch.compile makes")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="per contender and round")
    parser.add_argument("--only", default="", help="part of a workload's name")
    parser.add_argument("--timm", nargs="+", default=[], help="models of timm in place of the networks here")
    parser.add_argument("--smoke", action="store_true", help="--batch 2 --size 64 --rounds 2 --seconds 0")
    parser.add_argument("--out", help="a JSON file; a picture goes beside it")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.batch, options.size, options.rounds, options.seconds = 2, 64, 2, 0
    if not workloads(options):
        parser.error(f"no workload is called {options.only!r}")
    return options


def main():
    options = parse()
    torch.set_num_threads(options.threads)
    machine = (
        f"{time.strftime('%Y-%m-%d')}, {processor()}, threads: {options.threads}, {options.dtype}, "
        f"torch {torch.__version__}, {extension.instruction_set()}"
    )
    print(machine)
    results, all_left_out = {}, {}
    for name, workload in workloads(options).items():
        print(name, flush=True)
        results[name], left_out = rows(workload, options)
        show(results[name])
        all_left_out |= dict.fromkeys(left_out)
    for text in all_left_out:
        print(f"left out: {text}")
    if options.out:
        path = Path(options.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine, "left_out": list(all_left_out), "workloads": results}
        path.write_text(json.dumps(content, indent=1) + "\n")
        draw(results, machine, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
