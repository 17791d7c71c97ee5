"""enable and disable: what Keras' PyTorch backend calls, replaced and put back."""

from __future__ import annotations

from importlib import import_module
from types import TracebackType
from typing import Any

# Each has been read: what is replaced has these names, arguments and meaning there.
KNOWN = ("3.15.1",)

_replaced: list[tuple[Any, str, Any]] = []  # owner, name, what was there


class Enabled:
    """What `enable` returns: at the end of its `with` block everything is as it was before the call."""

    def __init__(self, before: bool) -> None:
        self._before = before

    def __enter__(self) -> Enabled:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._before:
            disable()


def enable() -> Enabled:
    """Lets Keras on PyTorch compute its convolutions here, in this process, until `disable`.

    That is every 1-D and 2-D conv, depthwise_conv, separable_conv and conv_transpose in channels_last on CPU, of
    float32, float64, bfloat16 and float16, of layers as of keras.ops: kernels as they are, padding inside the kernel,
    any strides, dilation_rate and groups. 2-D pooling of such images no longer copies them, and batch normalisation of
    the last axis is torch's. All else runs as before. It holds for models that exist and for those to come, for fit(),
    predict() and export(), in eager mode and under jit_compile. A second call changes nothing.

    Returns:
        A context manager: `with nhwc_conv.keras.enable():` undoes it at the end of the block, unless it was so before.

    Raises:
        ModuleNotFoundError: there is no Keras.
        RuntimeError: Keras runs on another backend, or is of a version that is not known here; nothing was changed.
    """
    before = bool(_replaced)
    if not before:
        check_keras()
        for owner, name, replacement in import_module(f"{__package__}.replacements").TABLE:
            original = getattr(owner, name)
            _replaced.append((owner, name, original))
            setattr(owner, name, replacement(original))
    return Enabled(before)


def disable() -> None:
    """Undoes `enable`; does nothing where it is not on."""
    while _replaced:
        setattr(*_replaced.pop())


def check_keras() -> None:
    import keras

    if keras.backend.backend() != "torch":
        raise RuntimeError(
            f"nhwc_conv.keras is for Keras on PyTorch, but its backend is {keras.backend.backend()!r}: set "
            "KERAS_BACKEND=torch before Keras is imported; nothing was changed"
        )
    if keras.__version__ not in KNOWN:
        raise RuntimeError(
            f"nhwc_conv.keras knows Keras {' and '.join(KNOWN)}, but this is {keras.__version__}; nothing was changed"
        )
