"""Calls of layers in a running model, without what Keras does around each of them where that changes nothing.

For a small network it takes longer than the arithmetic: names of scopes, masks, shapes and signatures are looked at in
every call, though a layer that has been called before, on one tensor of its own dtype, needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from keras.src.backend import KerasTensor, get_autocast_scope
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.backend.torch.core import get_device
from keras.src.distribution import distribution
from keras.src.dtype_policies import DTypePolicy, FloatDTypePolicy
from keras.src.layers import InputSpec
from torch import Tensor
from torch.nn.modules.module import _has_any_global_hook as has_any_global_hook

from .._ops import nothing_listens
from .direct import TABLE

NAMES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
TAKEN = {"training", "mask"}
FLAT = KerasTensor, type(None), bool, int, float, str
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_compiled_call_impl",
)


def layer_call(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        direct = TABLE.get(type(self))
        context = get_global_attribute("current_call_ctx")  # of the model or the layer that calls this one
        if (
            direct is None
            or context is None
            or len(args) != 1
            or not kwargs.keys() <= TAKEN
            or kwargs.get("mask") is not None
            or not nothing_listens()
            or not is_settled(self)
            or not are_plain(self, args[0])
        ):
            return original(self, *args, **kwargs)
        if "training" in kwargs:
            training = kwargs["training"]
        else:
            training = context.get_value("training")
            if training is None and self._call_has_context_arg["training"]:
                training = self._call_signature.parameters["training"].default
        context.set_value("training", training)  # as Keras does, for what is called next
        try:
            out = direct(self, args[0], training)
        except Exception:  # for Keras to say in its words
            out = None
        return original(self, *args, **kwargs) if out is None else out

    return call


def fill_in(original: Callable[..., Any]) -> Callable[..., Any]:
    """Arguments of a node of a model, with tensors for those that it was built with."""

    @wraps(original)
    def filled(self: Any, tensor_dict: dict[int, Any]) -> Any:
        args, kwargs = self.args, self.kwargs
        if self._single_positional_tensor is not None or not is_flat(args, kwargs):
            return original(self, tensor_dict)
        return (
            tuple([of_nodes(x, tensor_dict) for x in args]),
            {name: of_nodes(x, tensor_dict) for name, x in kwargs.items()},
        )

    return filled


def track_variables(original: Callable[..., Any]) -> Callable[..., Any]:
    """Hands variables to torch.nn.Module, which train_on_batch has done in every step: not if it has them."""

    @wraps(original)
    def track(self: Any) -> None:
        variables, tracked = self.variables, self._modules.get("_torch_params", ())
        if len(tracked) == len(variables) > 0:
            known = tracked._parameters
            if all([known.get(v.path) is v._value for v in variables]):
                return
        original(self)

    return track


def is_flat(args: Any, kwargs: Any) -> bool:
    """Whether these are tensors, lists of tensors and constants."""
    return type(args) is tuple and all(
        [
            all([type(t) is KerasTensor for t in x]) if type(x) is list else type(x) in FLAT
            for x in (*args, *kwargs.values())
        ]
    )


def of_nodes(x: Any, tensors: dict[int, Any]) -> Any:
    if type(x) is KerasTensor:
        return tensors.get(id(x))
    return [tensors.get(id(t)) for t in x] if type(x) is list else x


def is_settled(layer: Any) -> bool:
    """Whether a call changes nothing of the layer and does nothing but compute."""
    own = layer.__dict__
    return (
        layer.built
        and layer._called
        and layer.activity_regularizer is None
        and not layer._remat_mode
        and len(layer._call_context_args) == 1
        and "call" not in own
        and "forward" not in own
        and not any([own.get(name) for name in HOOKS])
        and not has_any_global_hook()
        and distribution() is None
    )


def are_plain(layer: Any, inputs: Any) -> bool:
    """Whether the layer takes its inputs as they are: a tensor or some, of the dtype in which it computes."""
    policy, scope = layer._dtype_policy, get_autocast_scope()
    if type(policy) not in (DTypePolicy, FloatDTypePolicy) or get_device() != "cpu":
        return False
    dtype = policy.compute_dtype
    if scope is None:
        usual = dtype == policy.variable_dtype
    else:
        usual = layer.autocast and scope.dtype == dtype
    if not usual:
        return False
    if type(inputs) is list:
        return layer.input_spec is None and len(inputs) > 1 and all([is_plain(x, dtype) for x in inputs])
    return is_plain(inputs, dtype) and fits(layer.input_spec, inputs.shape)


def is_plain(x: Any, dtype: str) -> bool:
    return type(x) is Tensor and x.is_cpu and NAMES.get(x.dtype) == dtype and not hasattr(x, "_keras_mask")


def fits(spec: Any, shape: torch.Size) -> bool:
    if spec is None:
        return True
    rank = len(shape)
    return (
        type(spec) is InputSpec
        and spec.shape is None
        and spec.dtype is None
        and spec.max_ndim is None
        and spec.ndim in (None, rank)
        and (spec.min_ndim or 0) <= rank
        and all([-rank <= axis < rank and shape[axis] == size for axis, size in spec.axes.items()])
    )
