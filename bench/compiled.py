"""What torch.compile makes of a network: eager and compiled, converted and not, interleaved in one process.

python bench/compiled.py                      # ResNet-18, one image of 224 pixels
python bench/compiled.py --network mobilenet_v2 --rounds 21 --threads 2
"""

import argparse
import copy
import statistics

import layers  # noqa: F401  (puts the package and tests/ on the path)
import torch
from timing import seconds_per_call

import nhwc_conv
from nhwc_conv._convert.check import Reference
from nhwc_conv._extension import module as extension

import models  # isort: skip


def contenders(build, size):
    """{name: a function without arguments}, each result compared with the channels_last original's first."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, size, size).contiguous(memory_format=torch.channels_last)
    original = models.as_trained(build()).eval().to(memory_format=torch.channels_last)
    folded = nhwc_conv.convert(original, inference=True, example=x, strict=True)
    found = {
        "folded": folded,
        "folded, compiled": torch.compile(copy.deepcopy(folded)),
        "original": original,
        "original, compiled": torch.compile(copy.deepcopy(original)),
        "original, backend nhwc_conv": torch.compile(
            copy.deepcopy(original), backend=nhwc_conv.compile_backend
        ),
    }
    nhwc_conv.prepack(found["folded, compiled"])  # a copy is not packed
    reference = Reference(original, x)
    for model in found.values():
        reference.check(model)
    return {name: (lambda m=model: m(x)) for name, model in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=["resnet18", "resnet50", "mobilenet_v2"], default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    functions = contenders(getattr(models, options.network), options.size)
    times = {name: [] for name in functions}
    with torch.inference_mode():
        for function in functions.values():
            function()  # compiles anew under inference_mode
        for _ in range(options.rounds):
            for name, function in functions.items():
                times[name].append(seconds_per_call(function, 3))
    print(
        f"{options.network}, {options.threads} thread(s), {extension.instruction_set()}, torch {torch.__version__}"
    )
    first = statistics.median(times["folded"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:28} {1e3 * median:8.2f} ms  {first / median:5.2f} of folded, eager")


if __name__ == "__main__":
    main()
