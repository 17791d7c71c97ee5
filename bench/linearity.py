"""Time against the batch, the image and the channels, from 1 KB to 256 MB of input, and a picture of it.

python bench/linearity.py docs/benchmark
"""

import argparse
import statistics
from pathlib import Path

import contenders
import matplotlib
import torch
from layers import Case, flops
from timing import seconds_per_call

import oracle  # isort: skip  (from tests/, which layers has put on the path)

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

LIMIT = 256 << 20  # bytes of input
VERIFIED = 4 << 20  # bytes of the result of which a float64 answer is quick to have


def case(n, size, c):
    return Case(f"{n}x{size}x{size}x{c}", (n, size, size, c), (3, 3, c, c), padding=1)


def sweeps():
    """{what grows: cases}; each begins at about 1 KB and ends at 256 MB of input, or 150 MB of weights."""
    return {
        "N (images of 8x8x16)": [case(4**e, 8, 16) for e in range(9)],
        "H*W (1 image, 16 channels)": [case(1, 2**e, 16) for e in range(2, 12)],
        "C*O (1 image of 16x16)": [case(1, 16, 2**e) for e in range(12)],
    }


def seconds(case, op, rounds):
    with contenders.grad_mode("forward"):
        function = contenders.contender(op, case, torch.float32, "forward")
        verify(op, case, function())
        calls = max(1, round(0.01 / seconds_per_call(function)))
        return statistics.median(seconds_per_call(function, calls) for _ in range(rounds))


def verify(op, case, result):
    """Raises unless the result is right, or of a large one its first and its last images, or rows of an image."""
    if result.numel() * 4 <= VERIFIED:
        contenders.verify(op, case, torch.float32, "forward", result)
        return
    result = result.permute(0, 2, 3, 1) if op in contenders.RIVALS else result
    by_winograd = contenders.runs_winograd(op, case, torch.float32, "forward")
    x, w, _ = case.tensors(torch.float32)
    n, h = result.shape[:2]
    for images, rows in ends(n, h, result[0].numel() * 4):
        above, below = int(rows.start > 0), int(rows.stop < h)  # rows of x there, instead of padding
        part = x[images, rows.start - above : rows.stop + below]
        piece = Case(case.name, tuple(part.shape), case.w, padding=(1 - above, 1 - below, 1, 1))
        want, size = oracle.forward(piece, part, w), oracle.forward(piece, part.abs(), w.abs())
        contenders.check(result[images, rows], want, size, oracle.terms(piece, want)[0], by_winograd)


def ends(n, h, image_bytes):
    """(images, rows) at the beginning and at the end of n images of h rows: VERIFIED bytes together."""
    if image_bytes <= VERIFIED // 2:
        count = VERIFIED // 2 // image_bytes
        return [(slice(0, count), slice(0, h)), (slice(n - count, n), slice(0, h))]
    count = max(VERIFIED // 2 * h // image_bytes, 1)
    return [(slice(0, 1), slice(0, count)), (slice(n - 1, n), slice(h - count, h))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", help="a folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=LIMIT, help="bytes of input")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True, layout="constrained")
    for axis, (title, cases) in zip(axes, sweeps().items(), strict=True):
        cases = [c for c in cases if 4 * c.x[0] * c.x[1] * c.x[2] * c.x[3] <= options.limit]
        work = [flops(c, "forward") for c in cases]
        for op in ("im2col", "conv2d", "F.conv2d_channels_last"):
            times = [seconds(c, op, options.rounds) for c in cases]
            axis.plot(work, times, marker="o", markersize=3, label=op)
            for c, w, t in zip(cases, work, times, strict=True):
                print(
                    f"{title:28} {op:22} {c.name:18} {t * 1e3:10.4f} ms {w / t * 1e-9:7.1f} GFLOP/s",
                    flush=True,
                )
        axis.plot(work, [w * 1e-11 for w in work], color="grey", linewidth=0.7, label="100 GFLOP/s")
        axis.set(xscale="log", yscale="log", xlabel="FLOP", title=title)
        axis.grid(which="major", alpha=0.3)
        axis.legend()
    axes[0].set_ylabel("seconds")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "linearity.png", dpi=110)


if __name__ == "__main__":
    main()
