"""The layout of a weight in a state dict: HWIO, as layers of this package hold it, or OIHW, as torch.nn's do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from .._ops.weight_order import OURS, TORCHS

if TYPE_CHECKING:
    from .hwio import ChannelsLastLayer

LAYOUTS = ("HWIO", "OIHW")
VERSION = 2  # of a layer in a state dict: its weight is HWIO. Layers of torch.nn have 1, as ours once had

stated: ContextVar[str | None] = ContextVar("weight_layout", default=None)

UNKNOWN = (
    'cannot tell the layout of "{key}": an HWIO and an OIHW weight of size {size} look alike, and the state_dict does '
    'not say that it is of a layer of nhwc_conv. Load it under nhwc_conv.weight_layout("HWIO") if it is, '
    'under nhwc_conv.weight_layout("OIHW") if it is of one of torch.nn'
)
REPARAMETRISED = (
    '"{key}" of size {size} is OIHW, and only a plain weight is permuted: '
    "load it before the layer is reparametrised"
)


@contextmanager
def weight_layout(layout: Literal["HWIO", "OIHW"]) -> Iterator[None]:
    """Says for a `with` block how the weights of NHWC layers lie in the state dicts that the block loads.

    It is needed where the shape does not tell, and neither does the state dict: kernels of n x n taps, n channels a
    group and n outputs (3x3x3x3), in a file of safetensors, a plain dict, a checkpoint of torch.nn, or one of this
    package from before its layers had a version of their own. load_state_dict raises for those. A weight whose
    shape is of one layout only is read by its shape, whatever is said here. Of the calling thread (and context) alone.

    Args:
        layout: "HWIO", as NHWCConv2d and NHWCConvTranspose2d hold their weights, or "OIHW", as torch.nn.Conv2d and
            torch.nn.ConvTranspose2d (whose order is [in, out/groups, KH, KW]) hold theirs. Layers of signals likewise:
            "HWIO" is the order of NWCConv1d, "OIHW" that of torch.nn.Conv1d.

    Raises:
        ValueError: another `layout`.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"expected layout to be one of {LAYOUTS}, but got layout={layout!r}")
    token = stated.set(layout)
    try:
        yield
    finally:
        stated.reset(token)


def read_weights(
    layer: ChannelsLastLayer,
    state_dict: dict[str, Any],
    prefix: str,
    metadata: dict[str, Any],
    error_msgs: list[str],
) -> None:
    """Makes the weight of `layer` in `state_dict` HWIO; where that cannot be done, `error_msgs` says so.

    Of what holds the weight of a reparametrised layer (weight_norm, pruning), HWIO alone is taken.
    """
    said = stated.get() or ("HWIO" if (metadata.get("version") or 1) >= VERSION else None)
    for name, own in weights_of(layer).items():
        key = prefix + name
        given = state_dict.get(key)
        if not isinstance(given, Tensor) or is_lazy(given) or given.dim() != len(layer.weight_shape()):
            continue  # nothing to read, or torch's error
        layout = layout_of(given.shape, layer.weight_shape() if is_lazy(own) else own.shape, said)
        if layout == "OIHW" and name == "weight":
            state_dict[key] = given.permute(OURS[given.dim()]).contiguous()
        elif layout != "HWIO":
            text = REPARAMETRISED if layout else UNKNOWN
            error_msgs.append(text.format(key=key, size=list(given.shape)))
            state_dict[key] = own  # which leaves it as it is


def weights_of(layer: ChannelsLastLayer) -> dict[str, Tensor]:
    """The parameters and buffers of the weight of `layer` by their keys: what they hold is in HWIO order."""
    dims = len(layer.weight_shape())
    tensors: dict[str, Tensor | None] = {**layer._parameters, **layer._buffers}
    tensors = {name: t for name, t in tensors.items() if name.startswith("weight")}
    if is_parametrized(layer, "weight"):
        parametrizations: Any = layer.parametrizations
        originals = parametrizations.weight._parameters
        tensors.update({f"parametrizations.weight.{name}": t for name, t in originals.items()})
        # As torch.nn.utils.weight_norm called them; a hook renames them.
        tensors.update(weight_g=originals.get("original0"), weight_v=originals.get("original1"))
    return {name: t for name, t in tensors.items() if t is not None and (is_lazy(t) or t.dim() == dims)}


def layout_of(shape: Sequence[int], hwio: Sequence[int], said: str | None) -> str | None:
    """Of a weight in a state dict, None if nothing tells; `hwio` is the shape it must come to, 0 for any number."""
    as_hwio, as_oihw = fits(shape, hwio), fits(shape, [hwio[i] for i in TORCHS[len(hwio)]])
    if as_hwio and as_oihw and shape[0] > 1:
        return said
    return "OIHW" if as_oihw and not as_hwio else "HWIO"  # also of any other shape, for torch's error


def fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    return all(n in (size, 0) for size, n in zip(shape, expected, strict=True))
