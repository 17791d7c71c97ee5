"""Packed convolutions, and what stands between them, by one op: from one to the next without Python and dispatcher."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import _is_any_autocast_enabled as autocast_enabled
from torch._C._autograd import _profiler_enabled as profiler_enabled

from .._geometry import padding_argument
from .._ops import is_recordable
from .._ops.listeners import PLAIN
from .._ops.recorded import NOT_COMPUTED, convolve_program, short_call
from .channels import ChannelMeans, ChannelScale
from .drop_in import Conv2d
from .fused import FusedConv2d
from .images import Concatenation, Finishing, SomeChannels
from .pooling import MaxPool

IMAGE_CONVOLUTIONS = (Conv2d, FusedConv2d)  # and nothing that is derived from them
# Of which `step` tells all, its kind and three numbers, but for the numbers of an activation.
OTHERS = ChannelMeans, ChannelScale, MaxPool, Concatenation, SomeChannels, Finishing
LAYERS = (*IMAGE_CONVOLUTIONS, *OTHERS)


def module_at(root: Any, path: tuple[str, ...]) -> Any:
    """A module in `root`, without torch.nn.Module's __getattr__, which takes long."""
    module = root
    try:
        for name in path:
            module = module._modules[name]
    except KeyError:  # in what stands for another module, as torch.compile's does
        return functools.reduce(getattr, path, root)
    return module


class Program(torch.nn.Module):
    """Calls of layers, one after the other: made by convert(model, inference=True).

    Called with `inputs` tensors, and then the layer of each step. Where these have packed weights, no gradient is
    recorded and nobody looks, one op does it all; else the layers are called.

    Args:
        inputs: how many tensors it is called with.
        steps: of each layer, what it is called with, as places in the inputs followed by the results of the steps; -1
            for nothing.
        outputs: the steps whose results are returned, in a tuple.
    """

    def __init__(self, inputs: int, steps: Sequence[tuple[int, ...]], outputs: Sequence[int]) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, tuple(outputs)
        self.steps = tuple(tuple(place for place in places if place >= 0) for places in steps)
        self._state: list[Any] = []  # what `_code` was made from
        self._code: tuple[Any, ...] = ()

    def forward(self, *given: Any) -> tuple[Tensor, ...]:
        tensors, layers = list(given[: self.inputs]), given[self.inputs :]
        results = self._at_once(tensors, layers)
        if results is not None:
            return tuple(results)
        for layer, places in zip(layers, self.steps, strict=True):
            tensors.append(layer(*(tensors[place] for place in places)))
        return tuple(tensors[self.inputs + output] for output in self.outputs)

    def _at_once(self, tensors: list[Any], layers: Sequence[Any]) -> list[Tensor] | None:
        x = tensors[0]
        if (
            torch.is_grad_enabled()
            or not is_recordable(x, x, None)
            or autocast_enabled()
            or profiler_enabled()  # whose reader wants to see layers
            or any(type(t) not in PLAIN or t.dtype != x.dtype for t in tensors)
        ):
            return None
        state: list[Any] = []
        packed, biases = [], []
        for layer in layers:
            own = layer.__dict__  # read past torch.nn.Module, whose attributes take longer than a small layer
            if type(layer) not in LAYERS or own["_forward_hooks"] or own["_forward_pre_hooks"]:
                return None
            if type(layer) in OTHERS:
                state.append((*layer.step, *own["finish"][1:3]) if type(layer) is Finishing else layer.step)
                continue
            weight = own.get("_packed")
            if (
                weight is None
                or own["padding_mode"] != "zeros"
                or (parameters := own["_parameters"])["weight"] is not weight.parameter
                or weight.state[2] != x.dtype
                or weight.is_stale()
            ):
                return None
            packed.append(weight.tensor)
            bias = parameters["bias"]
            if bias is not None:
                biases.append(bias)
            steps = own["stride"], own["padding"], own["dilation"], own["groups"]
            state.append((*steps, layer.finish, bias is None))
        try:
            if state != self._state:
                self._code, self._state = self._encode(state), state
            results: list[Tensor] = convolve_program(tensors, packed, biases, *self._code)
        except NOT_COMPUTED:
            return None  # computed in another way, or refused in words that fit
        return results

    def _encode(self, state: list[Any]) -> tuple[Any, ...]:
        """The last arguments of the op: csrc/binding/program.cpp."""
        whole = list(range(self.inputs))  # the tensor of which a place has channels
        for places, values in zip(self.steps, state, strict=True):
            whole.append(whole[places[0]] if values[0] == SomeChannels.kind else len(whole))
        last = {whole[place]: i for i, places in enumerate(self.steps) for place in places}
        kept = {whole[self.inputs + output] for output in self.outputs}
        numbers: list[float] = []
        code, bias = [], 0
        for i, (places, values) in enumerate(zip(self.steps, state, strict=True)):
            read = [whole[place] for place in places]
            leaving = {tensor for tensor in read if tensor >= self.inputs and last[tensor] == i} - kept
            releases = [int(t in leaving and t not in read[:k]) for k, t in enumerate(read)]
            released = releases[0], sum(bit << k for k, bit in enumerate(releases[1:]))
            source, residual, *further = (*places, *[-1] * (Concatenation.MOST - len(places)))
            if type(values[0]) is int:
                kind, *fields = values[: len(ChannelMeans.step)]
                fields = further if kind == Concatenation.kind else fields
                code += [source, residual, -1, kind, *fields, *released]
                numbers += values[len(ChannelMeans.step) :] or [0.0, 0.0]
                continue
            *geometry, finish, has_none = values
            stride, padding, dilation, groups = geometry
            sides, auto_pad = padding_argument(padding)
            kind, *fields = short_call(True, stride, sides, dilation, groups, auto_pad)
            code += [source, residual, -1 if has_none else bias, kind | finish.kind, *fields, *released]
            numbers += [finish.alpha, finish.beta]
            bias += not has_none
        return torch.tensor(code), torch.tensor(numbers, dtype=torch.float64), list(self.outputs)

    def extra_repr(self) -> str:
        return f"{len(self.steps)} steps"
