"""What layers of channels-last tensors share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .._geometry import EXPLICIT, as_pair, as_sides, padding_argument
from . import init, layout
from .drop_in import PaddingMode
from .limits import Limited
from .norms import check_norms

if TYPE_CHECKING:
    from typing_extensions import Self


PADDING_MODES = get_args(PaddingMode)


class ChannelsLastLayer(Limited):
    """A layer whose `weight` is that of the torch.nn layer, its first two dimensions moved to the end and swapped."""

    _version = layout.VERSION

    if TYPE_CHECKING:  # at run time torch.jit would read these, and take the text of an annotation for a type
        theirs: Any  # the layer of torch.nn, and our drop-in for it
        drop_in: Any
        axes: int  # of images
        as_steps: Callable[[str, Any], Any]  # an argument with a number for each of them
        as_zeros: Callable[[Any], Any]  # `padding` as the numbers of zeros before and behind each of them
        shown_unless: dict[str, Any]  # what repr leaves out: names of attributes and their default values
        in_channels: int
        out_channels: int
        groups: int
        kernel_size: tuple[int, ...]
        stride: tuple[int, ...]
        padding: str | tuple[int, ...]
        dilation: tuple[int, ...]
        weight: nn.Parameter
        bias: nn.Parameter | None

    def set_steps(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
    ) -> None:
        """The arguments of a convolution, checked."""
        check_groups(groups, in_channels, out_channels)
        sides, self._auto_pad = padding_argument(padding)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = self.as_steps("kernel_size", kernel_size)
        self.stride, self.dilation = self.as_steps("stride", stride), self.as_steps("dilation", dilation)
        zeros = self.as_zeros(sides)
        self.padding = padding.lower() if isinstance(padding, str) else zeros

    def weight_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    def create_parameters(
        self, bias: bool, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        self.weight = nn.Parameter(torch.empty(self.weight_shape(), device=device, dtype=dtype))
        self.register_parameter(
            "bias", nn.Parameter(torch.empty(self.out_channels, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initial values of the torch.nn layer: the same random numbers in the same order, permuted."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[:-1])
            bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0
            nn.init.uniform_(self.bias, -bound, bound)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        layout.read_weights(self, state_dict, prefix, local_metadata, error_msgs)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def check_reparametrised(self) -> None:
        """Before a call; nearly free where the layer has neither parametrisations nor hooks."""
        if self._modules or self._forward_pre_hooks:
            check_norms(self)

    def extra_repr(self) -> str:
        shown = [
            f"{self.in_channels}, {self.out_channels}",
            f"kernel_size={self.kernel_size}",
            f"stride={self.stride}",
        ]
        for name, default in self.shown_unless.items():
            if getattr(self, name) != default:
                shown.append(f"{name}={getattr(self, name)}")
        return ", ".join(shown + (["bias=False"] if self.bias is None else []))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`.to(memory_format=...)`, which is about NCHW, leaves the weight's layout alone."""

        def keep_layout(t: Tensor) -> Tensor:
            applied = fn(t)
            if is_lazy(t) or t.dim() != 4 or not t.is_contiguous():
                return applied
            return applied.contiguous()

        return super()._apply(keep_layout, recurse)


class HWIOLayer(ChannelsLastLayer):
    """One of images: the weight is permuted by (2, 3, 1, 0)."""

    axes = 2
    as_steps, as_zeros = staticmethod(as_pair), staticmethod(as_sides)

    if TYPE_CHECKING:
        kernel_size: tuple[int, int]
        stride: tuple[int, int]
        padding: str | tuple[int, int, int, int]
        dilation: tuple[int, int]


def check_padding_mode(padding_mode: str) -> None:
    if padding_mode not in PADDING_MODES:
        raise ValueError(
            f"padding_mode must be one of {PADDING_MODES}, but got padding_mode={padding_mode!r}"
        )


def check_transposed(padding_mode: str, padding: Any, output_padding: Any, is_padded: bool) -> None:
    """ValueError for what a transposed convolution has not; whether `output_padding` is more than 0 is `is_padded`."""
    if padding_mode != "zeros":
        raise ValueError(
            f"only padding_mode 'zeros' has a transposed convolution, but got padding_mode={padding_mode!r}"
        )
    if is_padded and padding_argument(padding)[1] != EXPLICIT:
        raise ValueError(
            f"output_padding must be 0 where padding={padding!r}, but got output_padding={output_padding}; "
            f"call the layer with output_size"
        )


def check_groups(groups: int, in_channels: int, out_channels: int) -> None:
    """ValueError unless both numbers of channels are multiples of a positive number of groups."""
    if groups <= 0:
        raise ValueError(f"groups must be a positive integer, but got groups={groups}")
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            raise ValueError(
                f"{name} must be divisible by groups, but got {name}={channels}, groups={groups}"
            )
