"""The ops on DTensors: how tensors may be sharded, registered when torch.distributed.tensor is imported, not before.

That import takes longer than ours. A convolution may be split along an axis that both of its tensors and the result
have (every shard computes its part), or that only the two tensors have (every shard computes a part of the sum, and
the result is Partial); a tensor without the axis is replicated. The axes are the batch and, where there is one group,
the channels. Images stay whole, as their neighbours overlap.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

from .schema import FORWARD_OPS, completed, ops

# Of the arguments, by their names in the schemas: the dimension of the batch N, the input channels C, the output
# channels O. A result of a forward op has those of `grad`.
AXES: dict[str, dict[str, int]] = {
    "x": {"N": 0, "C": -1},
    "grad": {"N": 0, "O": -1},
    "w": {"C": 2, "O": 3},
    "bias": {"O": 0},
    "packed": {},
    "residual": {"N": 0, "O": -1},
}
IMAGES = ("x", "grad", "residual")  # which may have no batch
RESULTS = {
    **{name: "grad" for name in (*FORWARD_OPS, "conv2d_packed")},
    "conv2d_input": "x",
    "conv2d_weight": "w",
}


def acceptable_shardings(names: Sequence[str], result: str) -> Callable[..., list[Any]]:
    """The function of all arguments of an op, called `names`, that register_sharding asks for placements."""
    from torch.distributed.tensor import Partial, Replicate, Shard

    def place(name: str, axis: str, rank: int, otherwise: Any) -> Any:
        dim = AXES[name].get(axis)
        return otherwise if dim is None else Shard(dim % rank if name in IMAGES else dim)

    def shardings(*args: Any) -> list[Any]:
        given = {name: value for name, value in zip(names, args, strict=True) if value is not None}
        tensors = [name for name in names if name in AXES and name in given]
        rank = args[0].ndim
        axes = "N" * (rank == 4)
        if given["groups"] == 1 and "packed" not in tensors:
            axes += "OC"
        found: list[tuple[list[Any], list[Any]]] = [([Replicate()], [Replicate() for _ in tensors])]
        for axis in axes:
            placed = place(result, axis, rank, Partial())
            # Each part of a sum would add the whole bias.
            if "bias" not in tensors or placed != Partial():
                found.append(([placed], [place(name, axis, rank, Replicate()) for name in tensors]))
        return found

    return shardings


def register() -> None:
    """Tells DTensor about all ops."""
    try:
        from torch.distributed.tensor import DTensor
        from torch.distributed.tensor._op_schema import RuntimeSchemaInfo
        from torch.distributed.tensor.experimental import register_sharding

        schema_info = DTensor._op_dispatcher.sharding_propagator.op_to_schema_info
    except (ImportError, AttributeError):
        return  # DTensor itself says that it knows nothing of the ops

    for name, result in RESULTS.items():
        op = getattr(ops, name).default
        arguments = [argument.name for argument in op._schema.arguments]
        register_sharding(op)(completed(name, acceptable_shardings(arguments, result)))
        # What DTensor remembers of a call must be told apart by all that follows the first tensors. Left to itself,
        # register_sharding looks for the first plain int: another stride would get the shape of the stride before.
        static = next(i for i, argument in enumerate(arguments) if argument not in AXES)
        schema_info[op] = RuntimeSchemaInfo(static, needs_pytree=True)


class AfterImport(MetaPathFinder):
    """Calls `then` once, as soon as module `name` has been imported."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self.name, self.then = name, then

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self.then()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if torch.distributed.is_available():
    if "torch.distributed.tensor" in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, AfterImport("torch.distributed.tensor", register))
