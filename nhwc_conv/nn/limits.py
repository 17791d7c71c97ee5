"""What older ways to deploy a model are told, which would fail obscurely or pass over our layers in silence."""

from __future__ import annotations

import warnings
from typing import Any, NoReturn

import torch

from .._geometry import texts


class Limited(torch.nn.Module):
    """A layer that TorchScript refuses, and that says so when torch.ao.quantization leaves it as it is."""

    def __prepare_scriptable__(self) -> NoReturn:  # what torch.jit.script asks every module for
        texts.fail(texts.NOT_SCRIPTABLE, name=type(self).__name__)

    @property
    def qconfig(self) -> Any:
        """What torch.ao.quantization gives to every module of a model, quantised or not."""
        if "qconfig" not in self.__dict__:
            raise AttributeError("qconfig")
        return self.__dict__["qconfig"]

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        self.__dict__["qconfig"] = value
        if value is not None:
            warnings.warn(
                f"torch.ao.quantization leaves nhwc_conv.{type(self).__name__} in floating point: "
                f"quantise the model that nhwc_conv.revert gives back, then convert what is left",
                stacklevel=2,
            )

    @qconfig.deleter
    def qconfig(self) -> None:
        del self.__dict__["qconfig"]
