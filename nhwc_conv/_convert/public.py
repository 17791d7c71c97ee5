"""convert: a model with its convolutions computed by nhwc_conv, for training or for inference alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils._pytree import tree_leaves

from .._prepack import prepack
from .check import compare
from .classes import CONVOLUTION, why_left
from .graph import simplify
from .layers import replace_convolutions
from .report import ConvertReport


def convert(
    model: torch.nn.Module,
    *,
    subclasses: bool | type | tuple[type, ...] = False,
    inference: bool = False,
    example: torch.Tensor | tuple | None = None,
    report: Callable[[ConvertReport], object] | None = None,
) -> torch.nn.Module:
    """Replaces every torch.nn.Conv2d in `model`, in place, by an nhwc_conv.Conv2d over the same parameters.

    Parameters, buffers, hooks and their handles, parametrisations (weight_norm, spectral_norm), names in the
    state_dict, the training flag, device and dtype stay; a layer that stands in several places stays one layer. A layer
    on which `compile()` was called runs eagerly afterwards.

    With `inference`, `model` stays as it is, and another one is returned that computes the same, faster, as long as
    nothing is trained: BatchNorm folded into the convolution before it and ReLU done by the convolution, wherever
    torch.fx shows that nothing else sees what is between them; all weights packed (see `prepack`). Where torch.fx can
    trace `model`, the result is a torch.fx.GraphModule; otherwise a copy in which the parts that it can trace are such.
    Tensors that are not folded are shared with `model`, and so are modules without a convolution. Modules with hooks
    keep them, and are not folded.

    Args:
        model: any module; for `inference` in eval mode.
        subclasses: which subclasses of torch.nn.Conv2d are taken too: none (they may do something else), all, or a
            class or a tuple of classes. Such a layer stays an instance of its class, whose `super().forward` and
            `self._conv_forward` then lead here; one that computes its convolution itself is left.
        inference: see above.
        example: what `model` is called with, a tensor or a tuple of arguments; needed for `inference`, whose
            result is compared with the original's on it. The tolerance is computed: how far results move when
            every weight is off by the rounding error of a sum of its length.
        report: called with the ConvertReport: `report=print` shows what was converted, and what was left and why.

    Returns:
        `model`, or its replacement where it is a convolution itself; for `inference` another model.

    Raises:
        ValueError: `inference` without `example`, or with a part of `model` in training mode.
        RuntimeError: the result of `inference` is further from the original's than rounding explains.
    """
    found = survey(model, subclasses, {} if inference else held_aside(model))
    if inference:
        original, model = model, for_inference(model, example, subclasses, found)
        found.deviation, found.tolerance = compare(original, model, example)
    else:
        model = replace_convolutions(model, subclasses)
    if report is not None:
        report(found)
    return model


def for_inference(model, example, subclasses, found):
    if example is None:
        raise ValueError("inference=True compares its result with the original's: give it an example")
    for path, module in model.named_modules():
        if module.training:
            where = f"{path!r} is" if path else "it is"
            raise ValueError(f"inference=True needs a model in eval mode, but {where} in training mode")
    simplified = simplify(model, example, found)
    return prepack(replace_convolutions(simplified, subclasses, copies=True).eval())


def survey(model, subclasses, aside) -> ConvertReport:
    """Which convolutions will be converted, and why the others will not."""
    found = ConvertReport()
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, CONVOLUTION):
            why = why_left(module, subclasses)
            if why is None:
                found.converted[path] = "; ".join(filter(None, (note(module), aside.get(module))))
            else:
                found.left[path] = why
    return found


def held_aside(model) -> dict[torch.nn.Module, str]:
    """Modules that a list, tuple or dict holds too, where nothing can replace them, and what is to be said of that."""
    return {
        leaf: f"{path + '.' if path else ''}{name} goes on holding the old layer"
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if name != "_modules" and isinstance(value, list | tuple | dict)
        for leaf in tree_leaves(value)
        if isinstance(leaf, torch.nn.Module)
    }


def note(module) -> str:
    """What is to be said of a convolution that is converted."""
    tensor = next(module.parameters(), None)
    if tensor is None or (tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)):
        return ""
    return (
        f"{str(tensor.dtype).removeprefix('torch.')} on {tensor.device.type} is computed by aten convolution"
    )
