"""convert: a model with its convolutions computed by nhwc_conv, for training or for inference alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

import torch
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.utils._pytree import tree_leaves

from .._prepack import prepack
from ..nn.twin import shallow_copy
from .calls import Calls
from .check import Deviation, Reference
from .classes import Subclasses
from .layers import replace_convolutions
from .measure import advice, seconds
from .report import ConvertReport
from .simplify import Simplifier, report_unseen
from .survey import check_model, held_aside, survey

CHANNELS_LAST = (
    "the example is in NCHW memory, which some layers copy: model.to(memory_format=torch.channels_last) before "
    "convert, and the same for images"
)

# Of conversion for inference: what is less in the next, whether graphs are read, and whether images may lie otherwise.
FORMS = (
    ("images stay in NCHW memory", True, True),
    ("nothing is folded or fused", True, False),
    ("nothing is converted", False, False),
)

M = TypeVar("M", bound=torch.nn.Module)


@overload
def convert(
    model: M,
    *,
    subclasses: bool | type | tuple[type, ...] = False,
    inference: Literal[False] = False,
    example: torch.Tensor | tuple[Any, ...] | dict[str, Any] | None = None,
    strict: bool = False,
    report: Callable[[ConvertReport], object] | None = None,
) -> M: ...


@overload
def convert(
    model: torch.nn.Module,
    *,
    subclasses: bool | type | tuple[type, ...] = False,
    inference: bool,
    example: torch.Tensor | tuple[Any, ...] | dict[str, Any] | None = None,
    strict: bool = False,
    report: Callable[[ConvertReport], object] | None = None,
) -> torch.nn.Module: ...


def convert(
    model: torch.nn.Module,
    *,
    subclasses: bool | type | tuple[type, ...] = False,
    inference: bool = False,
    example: torch.Tensor | tuple[Any, ...] | dict[str, Any] | None = None,
    strict: bool = False,
    report: Callable[[ConvertReport], object] | None = None,
) -> torch.nn.Module:
    """Replaces every torch.nn.Conv2d in `model`, in place, by an nhwc_conv.Conv2d over the same parameters.

    And every torch.nn.Conv1d, ConvTranspose1d and ConvTranspose2d by the drop-in of that name.

    Parameters, buffers, hooks and their handles, parametrisations (weight_norm, spectral_norm), names in the
    state_dict, the training flag, device and dtype stay; a layer that stands in several places stays one layer. A layer
    on which `compile()` was called runs eagerly afterwards.

    With `inference`, `model` stays as it is, and another one is returned that computes the same, faster, as long as
    nothing is trained: BatchNorm folded into the convolution before it (into several, if they are concatenated in
    between, or into one behind it that pads with no zeros) and activations and sums done by the convolution, wherever
    torch.fx shows that nothing else sees what is between them; Identity and Dropout gone, F.conv1d and F.conv2d of
    parameters done by a layer; all weights packed (see `prepack`). Where torch.fx can trace `model`, the result is a
    torch.fx.GraphModule, whose other methods and attributes are those of `model` and run there; otherwise a copy in
    which the parts that it can trace are such. What was traced is run beside the original on `example` and has to
    call the same functions of torch, those that read sizes included; a part that does not, or that branches on values
    or sizes, stays as it is and stands in the report. Tensors that are not folded are shared with `model`, and so are
    modules without a convolution or nn.Linear. Modules with hooks keep them, and are not folded.

    Args:
        model: any module; for `inference` in eval mode.
        subclasses: which subclasses of torch.nn.Conv2d are taken too: none (they may do something else), all, or a
            class or a tuple of classes. Such a layer stays an instance of its class, whose `super().forward` and
            `self._conv_forward` then lead here. One that calls F.conv2d itself is taken where its class is given (True
            leaves it): its own forward runs, with that call computed here; where the forward is `conv2d_same(...)` of
            its own weight, bias and steps alone, and that function pads by TensorFlow's rule, the kernel pads. With
            `inference`, those that are seen to compute a convolution and nothing else are taken without.
        inference: see above.
        example: what `model` is called with: a tensor, a tuple of positional or a dict of keyword arguments; needed for
            `inference`, whose result is compared with the original's on it. The tolerance is computed: how far results
            move when every weight is off by the rounding error of a sum of its length. Without `inference`, copies of
            the model are timed on it, and the report tells which memory format is fastest.
        strict: whether `inference` raises where its result is off, instead of converting less.
        report: called with the ConvertReport: `report=print` shows what was converted, and what was left and why.

    Returns:
        `model`, or its replacement where it is a convolution itself; for `inference` another model. Where its result is
        further from the original's than rounding explains, one with nothing folded or fused, or, if that does not help,
        one with nothing converted; the report says so.

    Raises:
        TypeError: `model` is no module, or one whose code is fixed: a ScriptModule, or what torch.compile returns.
        ValueError: `inference` without `example`, with one that gives nothing to compare, or with a part of `model` in
            training mode.
        RuntimeError: with `strict`, the result of `inference` is off.
    """
    check_model(model)
    if inference:
        converted, found = for_inference(model, example, subclasses, strict)
    else:
        found = survey(model, subclasses, held_aside(model))
        if example is not None:
            measure(model, subclasses, example, found)
        converted = replace_convolutions(model, subclasses)
    if report is not None:
        report(found)
    return converted


def measure(model: torch.nn.Module, subclasses: Subclasses, example: Any, found: ConvertReport) -> None:
    try:
        found.seconds = seconds(model, lambda copied: replace_convolutions(copied, subclasses), example)
    except Exception as error:  # of the model's own code, or of copying it
        found.advice.append(f"a copy of the model could not be timed on the example: {described(error)}")
    else:
        found.advice += advice(found.seconds)


def for_inference(
    model: torch.nn.Module, example: Any, subclasses: Subclasses, strict: bool
) -> tuple[torch.nn.Module, ConvertReport]:
    """The model that computes what `model` does, as far converted as its results allow, and the report."""
    if example is None:
        raise ValueError("inference=True compares its result with the original's: give it an example")
    for path, module in model.named_modules():
        if module.training:
            where = f"{path!r} is" if path else "it is"
            raise ValueError(f"inference=True needs a model in eval mode, but {where} in training mode")
    reference = Reference(model, example)
    problems: dict[str, str] = {}
    for less, reads_graphs, memory in FORMS:
        found = survey(model, subclasses, {})
        try:
            calls = Calls(model, example) if reads_graphs else None
            converted = prepack(Simplifier(calls, subclasses, found, memory)(model).eval())
            found.deviation, found.tolerance = reference.check(converted)
        except Exception as error:  # of the model's own code, too
            if strict and not (memory and found.memory):
                raise
            problems[less] = described(error)
        else:
            break
    else:
        converted = shallow_copy(model, type_before_parametrizations(model))
        found.left.update(dict.fromkeys(found.converted, "the converted model computes something else"))
        found.converted.clear()
    report_unseen(model, converted, found)
    if problems:
        less, why = list(problems.items())[-1]
        found.fallback = f"{less}, since {why}"
    if not found.memory and any(is_nchw(t) for t in tree_leaves(example)):
        found.advice.append(CHANNELS_LAST)
    return converted, found


def is_nchw(t: object) -> bool:
    return (
        isinstance(t, torch.Tensor)
        and t.dim() == 4
        and not t.is_contiguous(memory_format=torch.channels_last)
    )


def described(error: Exception) -> str:
    """Its first line, and what it is unless it is ours."""
    text = f"{error}".partition("\n")[0]
    return text if isinstance(error, Deviation) else f"{type(error).__name__}: {text}"
