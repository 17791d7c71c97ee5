"""prepare: a Keras model for inference, by layers that do what follows them, of packed weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import torch
from keras.src import tree
from torch import Tensor

from .._convert import ConvertReport
from .._convert.calls import run
from .._convert.check import Reference, is_real
from .._convert.simplify import simplify
from .._prepack import prepack
from .translation import functional, translated


class Prepared(keras.Model):  # type: ignore[misc]  # Keras has no types
    """What `prepare` returns: predict(), evaluate() and calls of a model; it holds no variables."""

    def __init__(self, original: Any, module: torch.nn.Module) -> None:
        super().__init__(name=original.name)
        graph = functional(original)
        self._parts = (graph._standardize_inputs, graph._outputs_struct, module)  # Keras would track a module
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if training:
            raise ValueError(f"a prepared model is for inference, but got training={training}")
        standardize, outputs, module = self._parts
        return tree.pack_sequence_as(outputs, module(*tree.flatten(standardize(inputs))))

    def get_config(self) -> Any:
        raise TypeError("a prepared model cannot be saved: save the original, and prepare what was loaded")


def prepared(model: Any, example: Any, report: Callable[[ConvertReport], object] | None) -> Prepared:
    found, graph = ConvertReport(), functional(model)
    inputs = tree.flatten(graph._standardize_inputs(drawn(graph) if example is None else example))
    module = translated(model, found)
    reference = Reference(module, tuple(inputs))
    theirs = tree.flatten(run(lambda *given: graph(packed(graph, given), training=False), tuple(inputs), {}))
    theirs = [t for t in theirs if is_real(t)]
    # What decides on integers inside of layers is compared below: here other calls may do that.
    theirs += reference.expected[len(theirs) :]
    reference.check(lambda *_: theirs, name="the model by layers of torch")
    simplify(module, found)
    found.deviation, found.tolerance = reference.check(prepack(module), name="the prepared model")
    if report is not None:
        report(found)
    return Prepared(model, module)


def packed(graph: Any, inputs: tuple[Tensor, ...]) -> Any:
    return tree.pack_sequence_as(graph._inputs_struct, list(inputs))


def drawn(graph: Any) -> Any:
    """Random inputs of the sizes that the model gives, a batch of one."""
    generator = torch.Generator().manual_seed(0)
    tensors = []
    for t in graph.inputs:
        sizes = t.shape[1:]
        if None in sizes or t.dtype != "float32":
            raise ValueError(
                f"the input {t.name!r} is of shape {t.shape} and of {t.dtype}: give an example of it"
            )
        tensors.append(torch.randn(1, *sizes, generator=generator))
    return packed(graph, tuple(tensors))
