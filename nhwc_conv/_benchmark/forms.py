"""The forms in which a model is timed, each made of its own copy, so that none sees what another did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from .._compile import compile_backend
from .._convert import ConvertReport, convert
from .._convert.measure import in_channels_last
from .report import ORIGINALS

# Of a copy and the example, both in the form's memory format: what is called, and what is to be said of it.
Maker: TypeAlias = "Callable[[nn.Module, Any], tuple[Callable[..., Any], str]]"


@dataclass(frozen=True)
class Form:
    make: Maker
    memory_format: Callable[[torch.Tensor], torch.Tensor]


def contiguous(t: torch.Tensor) -> torch.Tensor:
    return t.contiguous() if t.layout == torch.strided else t  # sparse tensors refuse


def as_it_is(model: nn.Module, example: Any) -> tuple[nn.Module, str]:
    return model, ""


def converted(model: nn.Module, example: Any) -> tuple[nn.Module, str]:
    return convert(model), ""


def for_inference(model: nn.Module, example: Any) -> tuple[nn.Module, str]:
    reports: list[ConvertReport] = []
    fast = convert(model, inference=True, example=example, report=reports.append)
    return fast, reports[0].fallback


def by_inductor(model: nn.Module, example: Any) -> tuple[Callable[..., Any], str]:
    # Not dynamic: a second benchmark of the same class would be compiled for any size, which is slower code.
    return torch.compile(model, dynamic=False), ""


def by_backend(model: nn.Module, example: Any) -> tuple[Callable[..., Any], str]:
    return torch.compile(model, dynamic=False, backend=compile_backend), ""


def for_inference_by_inductor(model: nn.Module, example: Any) -> tuple[Callable[..., Any], str]:
    fast, note = for_inference(model, example)
    return torch.compile(fast, dynamic=False), note


FOR_INFERENCE = "converted for inference"
EAGER = {
    ORIGINALS[0]: Form(as_it_is, contiguous),
    ORIGINALS[1]: Form(as_it_is, in_channels_last),
    "converted": Form(converted, in_channels_last),
    FOR_INFERENCE: Form(for_inference, in_channels_last),
}
COMPILED = {
    "original, Inductor": Form(by_inductor, in_channels_last),
    "original, backend nhwc_conv": Form(by_backend, in_channels_last),
    f"{FOR_INFERENCE}, Inductor": Form(for_inference_by_inductor, in_channels_last),
}


def in_format(form: Form, model: nn.Module, example: Any) -> tuple[nn.Module, Any]:
    """`model`, changed, and `example`, both in the memory format of a form."""
    # Not model.to(memory_format=...), which refuses models with 3-d convolutions.
    model._apply(form.memory_format)
    return model, tree_map_only(torch.Tensor, form.memory_format, example)
