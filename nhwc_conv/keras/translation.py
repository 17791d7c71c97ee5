"""The graph of a Keras model as one of torch.fx: layers that have a counterpart as that, all others as they are."""

from __future__ import annotations

from operator import getitem
from typing import Any

from keras import Sequential
from keras.src import tree
from keras.src.backend import KerasTensor
from keras.src.layers import Layer
from keras.src.models import Functional
from torch import fx, nn

from .._convert import ConvertReport
from .counterparts import TABLE
from .values import Maker, Value


class AsItIs(nn.Module):
    """A layer or an operation of the model, called as there; its results in a list."""

    def __init__(self, operation: Any) -> None:
        super().__init__()
        self._operation = (operation,)  # whose parameters stay the model's

    def forward(self, *args: Any, **kwargs: Any) -> list[Any]:
        results: list[Any] = tree.flatten(self._operation[0](*args, **kwargs))
        return results


def functional(model: Any) -> Any:
    """The Functional model of one, or TypeError."""
    if isinstance(model, Sequential) and model._functional is not None:
        return model._functional
    if isinstance(model, Functional):
        return model
    kind = type(model).__name__
    raise TypeError(
        f"expected a built Sequential or Functional model, whose graph Keras keeps, but got {kind}"
    )


def translated(model: Any, found: ConvertReport) -> fx.GraphModule:
    """Takes the inputs of `model` one by one, and returns a list of its outputs, both in Keras' order."""
    make, graph = Maker(), functional(model)
    inputs = [Value(len(t.shape), make.graph.placeholder(f"input_{i}")) for i, t in enumerate(graph.inputs)]
    outputs = run(make, graph, inputs, found)
    make.graph.output([make.plain(value) for value in outputs])
    return fx.GraphModule(make.root, make.graph, type(model).__name__).eval()


def run(make: Maker, graph: Any, inputs: list[Value], found: ConvertReport) -> list[Value]:
    values: dict[int, Value] = {id(t): value for t, value in zip(graph.inputs, inputs, strict=True)}
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.is_input or not node.operation or any(id(t) not in values for t in node.input_tensors):
                continue
            for tensor, value in zip(node.outputs, called(make, node, values, found), strict=True):
                values[id(tensor)] = value
    return [values[id(t)] for t in graph.outputs]


def called(make: Maker, node: Any, values: dict[int, Value], found: ConvertReport) -> list[Value]:
    """What a node of the model computes."""
    operation, args, kwargs = node.operation, node.arguments.args, node.arguments.kwargs
    given = [values[id(t)] for t in node.input_tensors]
    if len(tree.flatten(args)) == len(given):  # tensors alone, none of them by its name
        if type(operation) in (Functional, Sequential):
            return run(make, functional(operation), given, found)
        counterpart = TABLE.get(type(operation)) if computes_in_float32(operation) else None
        value = counterpart(make, operation, given if len(given) > 1 else given[0]) if counterpart else None
        if value is not None:
            found.converted[operation.name] = ""
            return [value]
    found.left[operation.name] = f"{type(operation).__name__} runs as it is"
    args, kwargs = tree.map_structure(
        lambda t: make.plain(values[id(t)]) if isinstance(t, KerasTensor) else t, (args, kwargs)
    )
    results = make.module(operation.name.replace(".", "_"), AsItIs(operation), *args, **kwargs)
    return [Value(len(t.shape), make.call(getitem, results, i)) for i, t in enumerate(node.outputs)]


def computes_in_float32(operation: Any) -> bool:
    """Whether it neither rounds nor quantises on the way."""
    return not isinstance(operation, Layer) or operation.dtype_policy.name == "float32"
