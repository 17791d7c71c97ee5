"""What torch.compile calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from .. import _extension, _flags
from .rewrite import use_nhwc_conv

TOO_LATE = (
    'options={"freezing": True} freezes nothing, since torch.compile has made inputs of the parameters by then: '
    "set torch._inductor.config.freezing = True"
)


def compile_backend(
    graph: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: dict[str, Any] | None = None,
) -> Callable[..., Any]:
    """torch.compile(model, backend="nhwc_conv"): convolutions by nhwc_conv, everything else by Inductor.

    Where this package is installed its name is enough; elsewhere, and always,
    `torch.compile(model, backend=nhwc_conv.compile_backend)`. The model needs no change and keeps its NCHW tensors and
    OIHW weights; gradients are this package's too. Taken are convolutions and transposed convolutions of images and of
    sequences, of float32, float64, bfloat16 and float16 tensors on CPU, by the functions of torch (conv1d, conv2d,
    conv_transpose1d, conv_transpose2d, convolution), which are those of F, the layers of torch.nn or the ops of
    torch.ops.aten; any other stays as it is.

    Args:
        graph, example_inputs: from torch.compile.
        mode, options: those of torch.compile for Inductor.

    Returns:
        What Inductor compiles from the rewritten graph.
    """
    from torch._inductor import config, list_mode_options  # costs seconds to import
    from torch._inductor.compile_fx import compile_fx

    patches = dict(list_mode_options(mode)) if mode else {}
    patches.update({name.replace("-", "_"): value for name, value in (options or {}).items()})
    freezing = patches.get("freezing", config.freezing) and not torch.is_grad_enabled()
    if freezing and not config.freezing and not any(True for _ in graph.parameters()):
        warnings.warn(TOO_LATE, stacklevel=2)
    use_nhwc_conv(graph, freezing)
    cacheable = "unsafe_marked_cacheable_functions"
    patches[cacheable] = {
        **patches.get(cacheable, getattr(config, cacheable)),
        "torch.ops.nhwc_conv": cache_key(),
    }
    compiled: Any = compile_fx(graph, example_inputs, config_patches=patches)
    return compiled


def cache_key() -> str:
    """What else than its graph decides what is compiled: sizes of packings, and which backward pass."""
    build = "no extension" if _extension.module is None else _extension.module.build_id()
    return f"{_extension.version}, {build}, winograd={_flags.winograd}"
