"""`python -m nhwc_conv`: what this installation computes, how fast, and that a network learns with it.

Exits with 1 where a result is off or the network learns too little.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from . import show_config
from ._demo import digits, table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nhwc_conv", description=__doc__.splitlines()[0])
    parser.add_argument("--no-training", action="store_true", help="only the table")
    options = parser.parse_args(arguments)
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
