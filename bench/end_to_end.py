"""Whole networks, eager, against the channels_last original: interleaved rounds, ratios of medians.

python bench/end_to_end.py --out docs/benchmark/end_to_end.json
python bench/end_to_end.py --smoke            # small images, two rounds: does everything run and agree?
"""

import argparse
import copy
import json
import statistics
import time
from pathlib import Path

import layers  # noqa: F401  (puts the package and tests/ on the path)
import torch
from timing import measure
from torch import nn

import nhwc_conv
from nhwc_conv._convert.check import Reference
from nhwc_conv._extension import module as extension
from verify.summary import processor

import models  # isort: skip

# name: network, batch, whether it trains
WORKLOADS = {
    "ResNet-18, inference": (models.resnet18, 1, False),
    "ResNet-18, training step, batch 8": (models.resnet18, 8, True),
    "ResNet-50, inference": (models.resnet50, 1, False),
    "MobileNetV2, inference": (models.mobilenet_v2, 1, False),
}
SAFETY = 8


def network(build, trains, dtype):
    """The channels_last original: random weights, statistics as after some training."""
    torch.manual_seed(0)
    model = models.as_trained(build())
    return model.train(trains).to(dtype, memory_format=torch.channels_last)


def contenders(build, batch, trains, size, dtype):
    """{name: a function without arguments that runs once and returns its results}, verified against the first."""
    x = torch.randn(batch, 3, size, size).to(dtype, memory_format=torch.channels_last)
    original = network(build, trains, dtype)
    if trains:
        converted = nhwc_conv.convert(copy.deepcopy(original))
        verify_training(build, x)
        functions = {"original": training_step(original, x), "converted": training_step(converted, x)}
    else:
        packed = nhwc_conv.prepack(nhwc_conv.convert(copy.deepcopy(original)))
        folded = nhwc_conv.convert(original, inference=True, example=x, strict=True)
        compared = Reference(original, x).check(packed)
        print(f"  prepacked: off by {compared[0]:.2g}, may be by {compared[1]:.2g}")
        named = {"original": original, "prepacked": packed, "folded": folded}
        functions = {name: torch.inference_mode()(lambda m=m: m(x)) for name, m in named.items()}
    return functions


def training_step(model, x):
    """Forward, loss, backward and a step of SGD with momentum."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    labels = torch.arange(len(x)) % 10

    def run():
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimiser.step()

    return run


def verify_training(build, x):
    """Raises unless all gradients of the converted network are as near to float64's as the original's, times SAFETY.

    Smooth functions stand in for ReLU and max pooling: where rounding moves a value across a kink, gradients jump.
    """
    labels = torch.arange(len(x)) % 10
    model = network(build, True, x.dtype)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(parent, name, nn.SiLU())
            elif isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))

    def gradients(model, x):
        loss = nn.functional.cross_entropy(model(x), labels)
        return [g.double() for g in torch.autograd.grad(loss, list(model.parameters()))]

    exact = gradients(copy.deepcopy(model).double(), x.double())

    def error(model):
        found = gradients(model, x)
        return max(((a - b).norm() / b.norm()).item() for a, b in zip(found, exact, strict=True))

    theirs, ours = error(model), error(nhwc_conv.convert(copy.deepcopy(model)))
    print(f"  gradients: original off by {theirs:.2g}, converted by {ours:.2g}, relative to their norm")
    if not ours <= SAFETY * theirs:
        raise SystemExit("the converted network's gradients are off by more than rounding")


def draw(results, machine, path):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    rows = [
        (f"{workload}\n{name}", values["speed_up"])
        for workload, by_name in results.items()
        for name, values in by_name.items()
        if name != "original"
    ][::-1]
    figure, axis = plt.subplots(figsize=(7, 0.6 * len(rows) + 1.2), layout="constrained")
    names, ratios = zip(*rows, strict=True)
    axis.barh(names, ratios, color=["tab:blue" if r >= 1 else "tab:red" for r in ratios])
    axis.axvline(1, color="black", linewidth=0.8)
    for at, ratio in enumerate(ratios):
        axis.text(ratio, at, f" {ratio:.2f}", va="center", fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.margins(x=0.12)
    figure.suptitle(f"Speed relative to the channels_last original, eager\n{machine}", fontsize=9)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64", "bfloat16", "float16"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="per contender and round")
    parser.add_argument("--size", type=int, default=224, help="of the image")
    parser.add_argument("--only", default="", help="part of a workload's name")
    parser.add_argument("--smoke", action="store_true", help="--size 64 --rounds 2 --seconds 0")
    parser.add_argument("--out", help="a JSON file; a picture goes beside it")
    options = parser.parse_args()
    if options.smoke:
        options.size, options.rounds, options.seconds = 64, 2, 0
    torch.set_num_threads(options.threads)
    machine = (
        f"{time.strftime('%Y-%m-%d')}, {processor()}, threads: {options.threads}, "
        f"{options.size}x{options.size}, {options.dtype}, torch {torch.__version__}, {extension.instruction_set()}"
    )
    print(machine)
    results = {}
    for workload, (build, batch, trains) in WORKLOADS.items():
        if options.only not in workload:
            continue
        print(workload)
        dtype = getattr(torch, options.dtype)
        functions = contenders(build, batch, trains, options.size, dtype)
        times = measure(functions, options.rounds, options.seconds)
        medians = {name: statistics.median(values) for name, values in times.items()}
        results[workload] = {
            name: {"median": median, "speed_up": medians["original"] / median, "seconds": times[name]}
            for name, median in medians.items()
        }
        for name, median in medians.items():
            print(f"  {name:10} {1e3 * median:9.2f} ms  {medians['original'] / median:5.2f}x", flush=True)
    if not results:
        parser.error(f"no workload is called {options.only!r}")
    if options.out:
        path = Path(options.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine, "workloads": results}, indent=1) + "\n")
        draw(results, machine, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
