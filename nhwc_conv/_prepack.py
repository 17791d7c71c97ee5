"""Packing the weights of a model for inference."""

from __future__ import annotations

from typing import TypeVar

import torch

from .nn.packed import Prepackable

M = TypeVar("M", bound=torch.nn.Module)


def prepack(model: M) -> M:
    """Packs the weights of every NHWCConv2d and Conv2d in `model` into the kernels' own order, for inference.

    Later calls that record no gradient (torch.no_grad, torch.inference_mode) use the packed weights; all others, and
    calls inside torch.compile, transforms or autocast, work as before. Layers with an explicit `algorithm`,
    parametrised layers (weight_norm) and dtypes or devices that aten computes are left as they are.

    `.train()`, load_state_dict, `.to()` and its kin, deepcopy and pickle drop the packing; call prepack again. A
    parameter that is replaced, given other `.data` or written to in place is packed anew by the next call. What
    cannot be seen, and gives results of the old weights until then, is a write that PyTorch does not count:
    through `weight.data`, through `weight.numpy()`, by a fused optimiser, or by other code on the raw memory.

    Returns:
        `model`.

    Raises:
        ValueError: `model`, or a layer in it, is in training mode.
    """
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, Prepackable)]
    for name, layer in layers:
        if layer.training:
            raise ValueError(
                f"prepack is for inference, but layer {name!r} is in training mode: call model.eval() first"
            )
    for _, layer in layers:
        layer.pack()
    return model
