"""`python -m nhwc_conv`: what this installation computes, how fast, and that a network learns with it.

Exits with 1 where a result is off or the network learns too little.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from . import _doctor, show_config
from ._demo import digits, table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nhwc_conv", description=__doc__.splitlines()[0])
    parser.add_argument("--no-training", action="store_true", help="only the table")
    parser.add_argument(
        "--doctor", action="store_true", help="what was found on this machine, one layer timed, and advice"
    )
    options = parser.parse_args(arguments)
    if options.doctor:
        text, is_right = _doctor.run()
        print(text)
        return 0 if is_right else 1
    print(show_config())
    print(f"threads: {torch.get_num_threads()}")
    missed = [text for dtype in ("float64", "float32") for text in table.run(dtype)]
    if not options.no_training:
        missed += digits.run()
    for text in missed:
        print(f"MISSED: {text}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
