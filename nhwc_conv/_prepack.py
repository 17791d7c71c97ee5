"""Packing the weights of a model for inference."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

import torch
from torch import fx
from torch.nn.parameter import is_lazy

from ._ops import ops
from .nn.packed import Prepackable
from .nn.packed_weight import PackedWeight, is_packable

M = TypeVar("M", bound=torch.nn.Module)


def prepack(model: M) -> M:
    """Packs the weights of all convolutions of this package in `model`, transposed ones too, as the kernels read them.

    That is for inference: later calls that record no gradient (torch.no_grad, torch.inference_mode) use the packed
    weights, also in torch.compile (but for those of signals and of transposed layers); all others, and calls inside
    transforms or autocast, work as before. Layers with an explicit `algorithm`, parametrised layers (weight_norm),
    layers under FSDP, parameters made in torch.inference_mode, to which PyTorch does not count writes, and dtypes or
    devices that aten computes are left as they are. The module of an exported program
    (`torch.export.load(...).module()`) is packed where it was exported from packed layers.

    `.train()`, load_state_dict, `.to()` and its kin, deepcopy and pickle drop the packing, and a parameter that is
    replaced is used without: call prepack again. A parameter that is given other `.data` or written to in place, also
    by a fused optimiser of torch.optim, is packed anew by the next call; a compiled model or an exported program goes
    on without its packing until there is a new one, made by a call of `model` itself or by prepack. What cannot be
    seen, and gives results of the old weights until then, is a write that PyTorch does not count: through
    `weight.data`, through `weight.numpy()`, or by other code on the raw memory.

    Returns:
        `model`.

    Raises:
        ValueError: `model`, or a layer in it, is in training mode, or lazy and without a weight yet.
    """
    sharded = under_fsdp(model)
    layers = [
        (name, m) for name, m in model.named_modules() if isinstance(m, Prepackable) and m not in sharded
    ]
    for name, layer in layers:
        if layer.training:
            raise ValueError(
                f"prepack is for inference, but layer {name!r} is in training mode: call model.eval() first"
            )
        weight = layer._parameters.get("weight")
        if weight is not None and is_lazy(weight):
            raise ValueError(
                f"layer {name!r} has an uninitialized parameter: run the model once, then prepack it"
            )
    for _, layer in layers:
        layer.pack()
    for module in model.modules():
        if isinstance(module, fx.GraphModule) and module not in sharded:
            pack_exported(module)
    return model


def under_fsdp(model: torch.nn.Module) -> set[torch.nn.Module]:
    """The modules whose weights come and go with their calls, and are written to without being counted."""
    fsdp = sys.modules.get("torch.distributed.fsdp")  # not imported for that
    if fsdp is None:
        return set()
    wrappers = fsdp.FSDPModule, fsdp.FullyShardedDataParallel
    return {inner for module in model.modules() if isinstance(module, wrappers) for inner in module.modules()}


def pack_exported(module: fx.GraphModule) -> None:
    """Puts packings where torch.export has left none: they would be of one machine and of one moment."""
    for node in module.graph.find_nodes(op="call_function", target=ops.conv2d_packed.default):
        call = node.normalized_arguments(module, normalize_to_only_use_kwargs=True).kwargs
        packed, weight = call["packed"], call["weight"]
        if not all(isinstance(tensor, fx.Node) and tensor.op == "get_attr" for tensor in (packed, weight)):
            continue
        parameter = tensor_at(module, weight.target)
        if is_packable(parameter):
            may_be_winograd = set(call["stride"]) == set(call["dilation"]) == {1}
            packing = PackedWeight(parameter, call["groups"], may_be_winograd, call["oihw"])
            path, _, name = packed.target.rpartition(".")
            setattr(module.get_submodule(path), name, packing.tensor)
            # As long as the packing: it knows the weight by its address.
            module.__dict__.setdefault("_packings", {})[packed.target] = packing


def tensor_at(module: fx.GraphModule, target: str) -> Any:
    """The parameter or buffer that a graph calls `target`."""
    path, _, name = target.rpartition(".")
    return getattr(module.get_submodule(path), name)
