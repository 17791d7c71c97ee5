"""A drop-in subclass of torch.nn.Conv1d: a convolution of images of one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.lazy import LazyModuleMixin

from .._geometry import as_ints
from .._ops import nchw
from ..functional import AUTO, Algorithm, check_algorithm
from .drop_in import PaddingMode, as_torch, conv2d_nchw
from .limits import Limited
from .twin import twin

if TYPE_CHECKING:
    from typing_extensions import Self


@torch.fx.wrap
def conv1d_ncl(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    algorithm: Algorithm = "auto",
) -> Tensor:
    """F.conv1d by nhwc_conv.conv2d: [N, C, L] (or [C, L]) input, weight [O, C/groups, K], a contiguous result."""
    try:
        with nchw.without_views(input, weight, bias):
            sides = padding if isinstance(padding, str) else (0, *padding)
            steps = (1, *stride), sides, (1, *dilation), groups
            out = conv2d_nchw(input.unsqueeze(-2), weight.unsqueeze(2), bias, *steps, algorithm)
            return out.squeeze(-2).contiguous()
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        # In words that users know, of sequences; but "winograd" is an argument of ours alone.
        F.conv1d(input, weight, bias, stride, padding, dilation, groups)
        raise


class Conv1d(Limited, torch.nn.Conv1d):
    """torch.nn.Conv1d computed by nhwc_conv.

    Takes the arguments of torch.nn.Conv1d and `algorithm` (see nhwc_conv.conv2d). Parameters, initial values,
    state_dict, shapes and dtypes of results are those of torch.nn.Conv1d; results are contiguous. `prepack` leaves it
    as it is.

    Raises:
        ValueError: unknown `algorithm`, and whatever torch.nn.Conv1d raises.
    """

    algorithm: Algorithm = AUTO

    if TYPE_CHECKING:

        def __call__(self, input: Tensor) -> Tensor: ...

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int] | str = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        algorithm: Algorithm = "auto",
    ) -> None:
        if not isinstance(padding, str):
            as_ints("padding", padding)  # torch.nn.Conv1d takes anything until it is called
        steps = stride, padding, dilation, groups
        super().__init__(in_channels, out_channels, kernel_size, *steps, bias, padding_mode, device, dtype)
        check_algorithm(algorithm)
        self.algorithm = algorithm

    @classmethod
    def from_torch(cls, module: torch.nn.Conv1d, algorithm: Algorithm | None = None) -> Self:
        """The layer that shares the parameters, the hooks and everything else of `module`, but not its `compile()`.

        Without `algorithm` it takes that of `module`, "auto" for one of torch.nn.

        Raises:
            ValueError: unknown `algorithm`, or a `module` that computes something else than torch.nn.Conv1d.
        """
        check_convolution_1d(module)
        chosen: Algorithm = getattr(module, "algorithm", AUTO) if algorithm is None else algorithm
        check_algorithm(chosen)
        layer = twin(module, cls)
        layer.algorithm = chosen
        return layer

    def to_torch(self) -> torch.nn.Conv1d:
        """The torch.nn.Conv1d that shares the parameters, the hooks and everything else of this layer."""
        check_convolution_1d(self)
        return as_torch(self, torch.nn.Conv1d)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, self.bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0,)
        steps = self.stride, padding, self.dilation, self.groups
        return conv1d_ncl(input, weight, bias, *steps, self.algorithm)

    def extra_repr(self) -> str:
        algorithm = "" if self.algorithm == "auto" else f", algorithm={self.algorithm}"
        return super().extra_repr() + algorithm


def check_convolution_1d(module: torch.nn.Module) -> None:
    """ValueError unless `module` computes what torch.nn.Conv1d does. What a subclass adds to it would be lost."""
    cls: Any = type(module)
    if isinstance(module, torch.nn.Conv1d) and not isinstance(module, LazyModuleMixin):
        names = "forward", "_conv_forward"
        known = all(getattr(cls, n) in (getattr(torch.nn.Conv1d, n), getattr(Conv1d, n)) for n in names)
        if known and not set(names) & vars(module).keys():
            return
    raise ValueError(
        f"expected a torch.nn.Conv1d that knows its shape and computes nothing else, but got {cls.__name__}"
    )
