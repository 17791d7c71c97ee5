"""Rounding errors of every algorithm against float64, as the table in docs/accuracy.md.

python bench/accuracy.py --shapes 1000 > docs/accuracy.md
"""

import argparse
import random

import torch
from layers import Case

import nhwc_conv  # noqa: F401  (defines the ops)

import oracle  # isort: skip  (from tests/, which layers has put on the path)

ops = torch.ops.nhwc_conv
CHANNELS = (8, 16, 32, 64, 128, 256, 512)


def rms(error, values):
    return float((error.square().mean() / values.square().mean()).sqrt())


def rms_errors(C, dtype):
    """rms error over rms of the result: direct and Winograd, of the result and of the weight gradient."""
    case = Case(f"rms_{C}", (2, 28, 28, C), (3, 3, C, 32), padding=1)
    x, w, _ = case.tensors(dtype)
    grad = case.grad_like(oracle.forward(case, x, w).to(dtype))
    out, (_, dw) = oracle.forward(case, x, w), oracle.gradients(case, x, w, None, grad)
    results = [(op(x, w, padding=1), out) for op in (ops.im2col, ops.winograd)]
    results += [(ops.conv2d_weight(grad, x, (3, 3), padding=1, algorithm=a), dw) for a in (1, 2)]
    return [rms(actual.double() - exact, exact) for actual, exact in results]


def random_case(rng, index):
    C, O = rng.choice((1, 3, 8, 17, 32, 64, 100, 256)), rng.choice((1, 4, 16, 33))  # noqa: E741
    sides = tuple(rng.randrange(3) for _ in range(4))
    return Case(
        f"worst_{index}", (1, rng.randrange(3, 24), rng.randrange(3, 24), C), (3, 3, C, O), padding=sides
    )


def worst(shapes, dtype):
    """{algorithm: (largest |error| in u * the image's largest sum |x||w|, where)} over random shapes."""
    rng = random.Random(0)
    found = {}
    unit = torch.finfo(dtype).eps / 2
    for index in range(shapes):
        case = random_case(rng, index)
        x, w, _ = case.tensors(dtype)
        out, size = oracle.forward(case, x, w), oracle.forward(case, x.abs(), w.abs()).max()
        for name in ("im2col", "matmul", "winograd"):
            actual = getattr(ops, name)(x, w, **case.geometry)
            error = float((actual.double() - out).abs().max() / size / unit)
            found[name] = max(
                found.get(name, (0, "")), (error, f"x {case.x}, w {case.w}, padding {case.padding}")
            )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=int, default=1000)
    options = parser.parse_args()
    print("# Rounding errors\n\nMade by `python bench/accuracy.py`; standard normal data.\n")
    print("## rms error, over the rms of the result, of 2x28x28 images, C -> 32, 3x3\n")
    print("| dtype | C | direct | winograd | direct, weight gradient | winograd, weight gradient |")
    print("|---|---:|---:|---:|---:|---:|")
    for dtype, channels in ((torch.float32, CHANNELS), (torch.float64, (8, 64, 512))):
        for C in channels:
            row = " | ".join(f"{value:.1e}" for value in rms_errors(C, dtype))
            print(f"| {str(dtype)[6:]} | {C} | {row} |", flush=True)
    print(f"\n## Largest error over {options.shapes} random shapes\n")
    print(
        "In units of u * the largest sum of |x||w| in the image, u = 2^-24 (float32) or 2^-53 (float64). The float64"
    )
    print("reference rounds too: its own error is part of the lower half of the table.\n")
    print("| dtype | algorithm | error | shape |\n|---|---|---:|---|")
    for dtype in (torch.float32, torch.float64):
        for name, (error, where) in worst(options.shapes, dtype).items():
            print(f"| {str(dtype)[6:]} | {name} | {error:.2f} | {where} |", flush=True)


if __name__ == "__main__":
    main()
