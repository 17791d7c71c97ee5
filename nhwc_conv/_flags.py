"""What `algorithm="auto"` may choose, for the whole process, in the manner of torch.backends.cudnn.flags."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from . import _extension

winograd = True


def set_flags(*, winograd: bool) -> dict[str, bool]:
    """Sets flags for all threads, from now on.

    Args:
        winograd: whether `algorithm="auto"` may take Winograd's algorithm; by default it may, unless the
            environment variable NHWC_CONV_WINOGRAD is 0. A backward pass does without it if its forward pass
            had to.

    Returns:
        The previous flags.
    """
    previous = {"winograd": globals()["winograd"]}
    globals()["winograd"] = bool(winograd)
    if _extension.module is not None:
        _extension.module.set_winograd(bool(winograd))
    return previous


@contextmanager
def flags(*, winograd: bool) -> Iterator[None]:
    """set_flags for the length of a `with` block; process-global, not of the calling thread alone."""
    previous = set_flags(winograd=winograd)
    try:
        yield
    finally:
        set_flags(**previous)


set_flags(winograd=os.environ.get("NHWC_CONV_WINOGRAD", "1") != "0")
