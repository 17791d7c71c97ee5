"""What users call: enable and disable replace functions of Keras' PyTorch backend, prepare makes a model."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import TracebackType
from typing import Any

from .._convert import ConvertReport

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
    the last axis is one pass. Layers of these and other kinds, not of their subclasses, that a model calls again are
    called without Keras' work around it where that would change nothing. All else runs as before. It holds for models
    that exist and for those to come, for fit(), predict() and export(), in eager mode and under jit_compile. A second
    call changes nothing.

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


def prepare(
    model: Any, example: Any = None, *, report: Callable[[ConvertReport], object] | None = None
) -> Any:
    """A Keras model that computes what `model` does, for inference alone and without Keras' work between layers.

    Its graph becomes one of layers of this package: BatchNormalization is folded into convolutions, activations and
    sums are done by them, and all weights are packed (as by nhwc_conv.convert(inference=True)). They are copies:
    `model` stays as it is, and what it learns later is not seen. Layers that are not known here, those in mixed
    precision among them, are called as they are and shared with `model`; convolutions in these run here where `enable`
    is on.

    Args:
        model: a built Sequential or Functional model on CPU, on the PyTorch backend. Models in it are taken as well.
        example: what the model is called with, for comparison. Without it numbers are drawn, in a batch of one; inputs
            whose sizes are not known or that are not float32 need one.
        report: called with a ConvertReport: `report=print` shows which layers were taken, and which run as they are.

    Returns:
        A keras.Model for predict(), evaluate() and calls, with the inputs and outputs of `model` and no variables. It
        cannot be trained or saved.

    Raises:
        ModuleNotFoundError, RuntimeError: as for `enable`.
        RuntimeError: its result on the example is further from the model's than rounding explains.
        TypeError: `model` is neither Sequential nor Functional, or not built.
        ValueError: it needs an example.
    """
    check_keras()
    return import_module(f"{__package__}.prepared").prepared(model, example, report)
