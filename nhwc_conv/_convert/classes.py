"""Which class stands in for the class of a convolution, and why some convolutions are left alone."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import torch
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import type_before_parametrizations

from ..nn import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from .own import convolves_itself, forward_of, pads_same

Subclasses: TypeAlias = "bool | type | tuple[type, ...]"
CONVOLUTION = torch.nn.modules.conv._ConvNd
DROP_INS: dict[type, type[torch.nn.Module]] = {
    torch.nn.Conv1d: Conv1d,
    torch.nn.Conv2d: Conv2d,
    torch.nn.ConvTranspose1d: ConvTranspose1d,
    torch.nn.ConvTranspose2d: ConvTranspose2d,
}


def why_left(module: torch.nn.Module, subclasses: Subclasses) -> str | None:
    """Why `convert` leaves a convolution as it is, or None where it takes it."""
    cls: Any = type_before_parametrizations(module)
    if isinstance(module, tuple(DROP_INS.values())):
        return "nhwc_conv computes it already"
    base = next((base for base in DROP_INS if isinstance(module, base)), None)
    if base is None:
        return f"{cls.__name__}: it has no drop-in"
    if isinstance(module, LazyModuleMixin):
        return "a lazy layer without a shape yet: run the model once, then convert it"
    if {"forward", "_conv_forward"} & vars(module).keys():
        return "its forward was replaced on the instance"
    if cls in DROP_INS:
        return None
    if base is not torch.nn.Conv2d:
        return f"{cls.__name__} is a subclass of torch.nn.{base.__name__}"
    if not (subclasses is True or (subclasses and issubclass(cls, subclasses))):
        return f"{cls.__name__} is a subclass of torch.nn.Conv2d: `subclasses` takes it"
    if subclasses is True and convolves_itself(cls):
        return f"{cls.__name__} computes its convolution itself: `subclasses` takes it by name"
    return None


def how_taken(module: torch.nn.Module) -> str:
    """What is to be said of how a convolution is taken."""
    cls: Any = type_before_parametrizations(module)
    if cls in DROP_INS or not convolves_itself(cls):
        return ""
    return "with SAME padding" if pads_same(cls) else "its own forward, with F.conv2d by nhwc_conv"


def class_of_ours(cls: type) -> type[torch.nn.Module]:
    """What replaces `cls`: a drop-in, or a class that is a `cls` and a Conv2d, with Conv2d's _conv_forward."""
    return DROP_INS.get(cls) or _mixed(cls)


def class_of_torch(cls: type) -> type[torch.nn.Module] | None:
    """The reverse of `class_of_ours`; None for a class that it does not return."""
    theirs = next((theirs for theirs, ours in DROP_INS.items() if ours is cls), None)
    return theirs or vars(cls).get("_converted_from")


@cache
def _mixed(cls: type) -> type[Conv2d]:
    # Method resolution puts Conv2d after `cls` and before torch.nn.Conv2d: `super()` in `cls` comes to ours.
    namespace = {"_converted_from": cls, "__reduce_ex__": _reduce, "__module__": cls.__module__}
    if convolves_itself(cls):
        namespace["forward"] = forward_of(cls)
    return type(cls.__name__, (cls, Conv2d), namespace)


def _reduce(layer: Conv2d, protocol: object) -> tuple[Any, ...]:
    """pickle and deepcopy: such a class has no name to be found by."""
    cls = type_before_parametrizations(layer)
    return _empty, (vars(cls)["_converted_from"],), layer.__getstate__()


def _empty(cls: type) -> Conv2d:
    mixed = _mixed(cls)
    return mixed.__new__(mixed)
