"""Activations of Keras, and torch's functions for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from keras.src import activations

from .values import Maker, Value

ACTIVATIONS: dict[Any, tuple[Callable[..., Any], dict[str, float]]] = {
    activations.relu: (F.relu, {}),
    activations.relu6: (F.relu6, {}),
    activations.sigmoid: (torch.sigmoid, {}),
    activations.hard_sigmoid: (F.hardsigmoid, {}),
    activations.silu: (F.silu, {}),
    activations.hard_silu: (F.hardswish, {}),
    activations.tanh: (torch.tanh, {}),
    activations.gelu: (F.gelu, {}),
    activations.mish: (F.mish, {}),
    activations.elu: (F.elu, {}),
    activations.leaky_relu: (F.leaky_relu, {"negative_slope": 0.2}),
}


def activated(make: Maker, value: Value, activation: Any) -> Value:
    if activation in (None, activations.linear):
        return value
    if activation not in ACTIVATIONS:
        return Value(value.rank, make.call(activation, make.plain(value)))
    function, given = ACTIVATIONS[activation]
    return make.elementwise(value, lambda node: make.call(function, node, **given))
