"""Loads the C++ extension, which registers the ops and their CPU kernels; says why where it cannot.

NHWC_CONV_DISABLE_EXT=1 leaves it out on purpose. Either way the ops stay, computed by `reference`.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import torch  # the extension links against its libraries

from . import _native

version = "0.1.0"


def hidden_package() -> str:
    """Where these are sources, in which Python runs, and the package is installed elsewhere."""
    for folder in sys.path:
        other = Path(folder, "nhwc_conv", _native.PATH.name)
        if other.exists():
            return f" in {_native.PATH.parent}, which hides {other.parent}: run Python in another folder"
    return ""


disabled = os.environ.get("NHWC_CONV_DISABLE_EXT", "0") not in ("", "0")
module: _native.Native | None = None
reason = ""  # why `module` is None

if disabled:
    reason = "it is disabled by NHWC_CONV_DISABLE_EXT"
elif not _native.PATH.exists():
    reason = "it is not built" + hidden_package()
else:
    try:
        module = _native.Native()
    except OSError as error:
        reason = f"it does not load: {error}"

available = module is not None

if not available:
    warnings.warn(
        f"nhwc_conv runs without its C++ extension ({reason}); convolutions are computed by NumPy, slowly",
        RuntimeWarning,
        stacklevel=2,
    )


def show_config() -> str:
    """What this installation is and computes with, for bug reports: versions, extension, instruction sets."""
    lines = [f"nhwc_conv {version}", f"torch {torch.__version__}"]
    if module is not None:
        lines += [
            f"extension: {module.path} (build {module.build_id()})",
            f"instruction set: {module.instruction_set()}, of {', '.join(module.instruction_sets())}",
        ]
    else:
        lines += [f"extension: none, {reason}", "instruction set: that of NumPy"]
    return "\n".join(lines)
