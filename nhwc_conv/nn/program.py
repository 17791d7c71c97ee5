"""Packed convolutions, and what stands between them, by one op: from one to the next without Python and dispatcher."""

from __future__ import annotations

import operator
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
from .drop_in import Conv2d
from .fused import FusedConv2d
from .images import ChannelShuffle, Concatenation, Finishing, Flattening, Product, Resizing, SomeChannels
from .joined import Homes
from .linear import FusedLinear
from .packed import HoldsPacked
from .pooling import AveragePool, ChannelMeans, MaxPool

IMAGE_CONVOLUTIONS = Conv2d, FusedConv2d  # and nothing that is derived from them
CONVOLUTIONS = *IMAGE_CONVOLUTIONS, FusedLinear
# Of which `step` tells all, its kind and three numbers, and two more of `numbers` where there are such.
IMAGE_OTHERS = (
    ChannelMeans, MaxPool, AveragePool, Concatenation, SomeChannels, ChannelShuffle, Finishing, Product, Resizing
)  # fmt: skip
OTHERS = *IMAGE_OTHERS, Flattening
IMAGE_LAYERS = *IMAGE_CONVOLUTIONS, *IMAGE_OTHERS  # whose results are images
LAYERS = *CONVOLUTIONS, *OTHERS
VIEW_KINDS = SomeChannels.kind, Flattening.kind
LINEAR = 1 << 13  # of `kind`: csrc/binding/program.cpp

# Of what an encoding was made, besides the parameters of the layers.
STEPS = "_packed", "padding_mode", "stride", "padding", "dilation", "groups"
SETTINGS: dict[type, Any] = {
    Conv2d: operator.itemgetter(*STEPS),
    FusedConv2d: operator.itemgetter(*STEPS, "finish"),
    FusedLinear: operator.itemgetter("_packed", "finish"),
}


def modules_at(root: Any, steps: Sequence[tuple[int, str]]) -> list[Any]:
    """`root`, and modules in it, each by its name in one before: without torch.nn.Module's __getattr__, a slow one."""
    found = [root]
    try:
        for place, name in steps:
            found.append(found[place]._modules[name])
    except KeyError:  # in what stands for another module, as torch.compile's does
        del found[1:]
        for place, name in steps:
            found.append(getattr(found[place], name))
    return found


class Encoding:
    """What the op of a program is called with, and whether layers are still as they were when it was made."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self.layers = layers
        convolutions = [layer for layer in layers if type(layer) in CONVOLUTIONS]
        self.getters = [SETTINGS[type(layer)] for layer in convolutions]
        self.own = [layer.__dict__ for layer in convolutions]
        self.settings = self._settings()
        self.weights = [own["_packed"] for own in self.own]
        self.parameters = self._parameters()
        self.dtypes = {weight.state[2] for weight in self.weights}
        self.memories = [weight.memory for weight in self.weights]
        self.versions = [weight.state[0] for weight in self.weights]
        self.packed = [weight.tensor for weight in self.weights]
        self.biases = [bias for own in self.own if (bias := own["_parameters"]["bias"]) is not None]
        self.code: tuple[Any, ...] = ()

    def _settings(self) -> list[tuple[Any, ...]]:
        return [getter(own) for getter, own in zip(self.getters, self.own, strict=True)]

    def _parameters(self) -> list[Any]:
        return [parameter for own in self.own for parameter in own["_parameters"].values()]

    def holds(self, layers: Sequence[Any]) -> bool:
        """Whether it was made of these layers, with these weights, of which nobody has written to one since."""
        if layers != self.layers or self._settings() != self.settings:
            return False
        now = self._parameters()
        return (
            len(now) == len(self.parameters)
            and all(map(operator.is_, now, self.parameters))
            and [weight.parameter._version for weight in self.weights] == self.versions
            and all(map(Tensor.is_set_to, self.memories, [weight.parameter for weight in self.weights]))
        )


class Program(HoldsPacked):
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
        if any([(own := layer.__dict__)["_forward_hooks"] or own["_forward_pre_hooks"] for layer in layers]):
            return None
        known: Encoding | None = self._packed
        if known is None or not known.holds(layers):
            known = self._packed = self._encoding(layers)
        if known is None or not known.dtypes <= {x.dtype}:
            return None
        try:
            results: list[Tensor] = convolve_program(tensors, known.packed, known.biases, *known.code)
        except NOT_COMPUTED:
            return None  # computed in another way, or refused in words that fit
        return results

    def _encoding(self, layers: Sequence[Any]) -> Encoding | None:
        """None where layers have no packed weights, or others, or compute something of which no step is told."""
        state: list[Any] = []
        for layer in layers:
            if type(layer) in OTHERS:
                state.append((*layer.step, *getattr(layer, "numbers", (0.0, 0.0))))
                continue
            own = layer.__dict__
            weight, parameters = own.get("_packed"), own["_parameters"]
            if (
                type(layer) not in CONVOLUTIONS
                or weight is None
                or own.get("padding_mode", "zeros") != "zeros"
                or parameters.keys() != {"weight", "bias"}
                or parameters["weight"] is not weight.parameter
                or weight.is_stale()
            ):
                return None
            linear = type(layer) is FusedLinear
            padding = 0 if linear else own["padding"]
            steps = layer.stride, padding, layer.dilation, layer.groups
            channels = None if linear else layer.out_channels
            state.append((steps, linear, layer.finish, parameters["bias"] is None, channels))
        encoding = Encoding(layers)
        try:
            encoding.code = self._encode(state)
        except NOT_COMPUTED:
            return None
        return encoding

    def _encode(self, state: list[Any]) -> tuple[Any, ...]:
        """The last arguments of the op: csrc/binding/program.cpp."""
        whole = list(range(self.inputs))  # the tensor whose memory a place has
        for places, values in zip(self.steps, state, strict=True):
            whole.append(whole[places[0]] if values[0] in VIEW_KINDS else len(whole))
        kept = {whole[self.inputs + output] for output in self.outputs}
        homes = self._homes(state, kept)
        whole = [homes.of.get(place, (place, 0))[0] for place in whole]
        last = {whole[place]: i for i, places in enumerate(self.steps) for place in places}
        numbers: list[float] = []
        reads: list[int] = []  # of concatenations: places, each followed by whether it leaves
        code, bias = [], 0
        for i, (places, values) in enumerate(zip(self.steps, state, strict=True)):
            read = [whole[place] for place in places]
            leaving = {tensor for tensor in read if tensor >= self.inputs and last[tensor] == i} - kept
            releases = [int(t in leaving and t not in read[:k]) for k, t in enumerate(read)]
            (source, residual, *_), released = (*places, -1), (*releases, 0)
            home, channel = homes.of.get(self.inputs + i, (self.inputs - 1, 0))
            ends = *released[:2], home - self.inputs, channel
            if type(values[0]) is int:
                kind, *fields, alpha, beta = values
                if kind == Concatenation.kind:
                    fields = [len(reads) // 2, len(places), homes.channels[self.inputs + i] or 0]
                    reads += [n for pair in zip(places, releases, strict=True) for n in pair]
                code += [source, residual, -1, kind, *fields, *ends]
                numbers += [alpha, beta]
                continue
            (stride, padding, dilation, groups), linear, finish, has_none, _ = values
            sides, auto_pad = padding_argument(padding)
            kind, *fields = short_call(not linear, stride, sides, dilation, groups, auto_pad)
            kind |= finish.kind | (LINEAR if linear else 0)
            code += [source, residual, -1 if has_none else bias, kind, *fields, *ends]
            numbers += [finish.alpha, finish.beta]
            bias += not has_none
        return torch.tensor(code + reads), torch.tensor(numbers, dtype=torch.float64), list(self.outputs)

    def _homes(self, state: list[Any], kept: set[int]) -> Homes:
        """Of all results but `kept` ones."""
        channels: list[int | None] = [None] * self.inputs
        parts, movable = {}, set()
        for places, values in zip(self.steps, state, strict=True):
            place, kind = len(channels), values[0]
            counts = [channels[source] for source in places]
            known = [count for count in counts if count is not None]
            if type(kind) is not int:
                channels.append(values[-1])
            elif kind == SomeChannels.kind:
                channels.append(values[2] - values[1])
            elif kind == Concatenation.kind:
                parts[place] = places
                channels.append(sum(known) if len(known) == len(counts) else None)
            else:  # of several images, one may be repeated for the channels of another
                channels.append(
                    known[0] if kind != Flattening.kind and len({*counts}) == len(known[:1]) else None
                )
            if place not in kept and (
                place in parts or channels[place] is not None and type(kind) is not int
            ):
                movable.add(place)
        return Homes(parts, channels, movable)

    def extra_repr(self) -> str:
        return f"{len(self.steps)} steps"
