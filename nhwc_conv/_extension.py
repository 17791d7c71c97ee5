"""Loads the C++ extension, whose import registers the CPU kernels of the ops; says why where it cannot.

NHWC_CONV_DISABLE_EXT=1 leaves it out on purpose. Either way the ops stay, computed by `reference`.
"""

from __future__ import annotations

import os
import warnings

import torch  # noqa: F401  (the extension links against its libraries)

version = "0.1.0"

disabled = os.environ.get("NHWC_CONV_DISABLE_EXT", "0") not in ("", "0")
module = None
reason = ""  # why `module` is None

if disabled:
    reason = "it is disabled by NHWC_CONV_DISABLE_EXT"
else:
    try:
        # Not `from . import`: that would report a library which fails to load as a name that is missing.
        import nhwc_conv._C as module
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "nhwc_conv._C"
        reason = "it is not built" if absent else f"it does not load: {error}"

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
    if available:
        lines += [
            f"extension: {module.__file__} (build {module.build_id()})",
            f"instruction set: {module.instruction_set()}, of {', '.join(module.instruction_sets())}",
        ]
    else:
        lines += [f"extension: none, {reason}", "instruction set: that of NumPy"]
    return "\n".join(lines)
