"""What `benchmark` refuses before it spends any time. Messages name the argument and what it was."""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from .. import _extension
from .._convert.survey import check_model

FORMATS = (".pdf", ".png", ".svg")


def check_timed(model: torch.nn.Module) -> None:
    """TypeError unless `model` is a module, ValueError unless it is in eval mode, complete, and on CPU."""
    check_model(model)
    for path, module in model.named_modules():
        if module.training:
            where = f"{path!r} is" if path else "it is"
            raise ValueError(
                f"expected model to be in eval mode, but {where} in training mode: call model.eval() first"
            )
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"expected model to know its shapes, but {name!r} is lazy: run it once first")
        check_device("model", repr(name), tensor)


def check_example(example: Any) -> None:
    """TypeError unless there is a tensor in `example`, ValueError unless all tensors are on CPU."""
    tensors = [leaf for leaf in tree_leaves(example) if isinstance(leaf, Tensor)]
    if not tensors:
        raise TypeError(
            "expected example to be a tensor, or a tuple of positional or a dict of keyword arguments "
            f"with a tensor in it, but got example={example!r}"
        )
    for tensor in tensors:
        check_device("example", f"a tensor of shape {list(tensor.shape)}", tensor)


def check_device(argument: str, name: str, tensor: Tensor) -> None:
    if tensor.device.type != "cpu":
        raise ValueError(f"expected {argument} to be on CPU, but {name} is on {tensor.device}")


def check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"expected {name} to be True or False, but got {name}={value!r}")


def check_layers(layers: object) -> None:
    check_flag("layers", layers)
    if layers and _extension.module is None:
        reason = _extension.reason
        raise RuntimeError(f"layers=True tells what the C++ extension does, but there is none: {reason}")


def check_rounds(rounds: object) -> None:
    if not isinstance(rounds, int) or isinstance(rounds, bool):
        raise TypeError(f"expected rounds to be an int, but got rounds={rounds!r}")
    if rounds < 1:
        raise ValueError(f"expected rounds to be at least 1, but got rounds={rounds}")


def check_seconds(seconds: object) -> None:
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        raise TypeError(f"expected seconds to be a number, but got seconds={seconds!r}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"expected seconds to be finite and not negative, but got seconds={seconds}")


def check_picture(picture: object) -> None:
    """Raises unless a picture can be written there later."""
    if picture is None:
        return
    if not isinstance(picture, (str, os.PathLike)):
        raise TypeError(f"expected picture to be the path of a file, but got picture={picture!r}")
    path = Path(picture)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"expected picture to end in {', '.join(FORMATS)}, but got picture={str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"expected the folder of picture to exist, but got picture={str(path)!r}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            f"picture={str(path)!r} needs matplotlib, which is not installed: install it, or leave it out"
        )


def check_report(report: Callable[..., object] | None) -> None:
    if report is not None and not callable(report):
        raise TypeError(f"expected report to be a function or None, but got report={report!r}")
