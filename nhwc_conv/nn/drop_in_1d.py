"""A drop-in subclass of torch.nn.Conv1d: a convolution of images of one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._geometry import as_ints
from .._ops import is_recordable, nchw
from .._ops.finish import NOTHING, Finish
from ..functional import REFUSED, Algorithm, check_algorithm
from .drop_in import PaddingMode, WithAlgorithm, as_torch, check_convolution, conv2d_nchw
from .packed import Prepackable

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
    finish: Finish = NOTHING,
    residual: Tensor | None = None,
) -> Tensor:
    """F.conv1d by nhwc_conv.conv2d: [N, C, L] (or [C, L]) input, weight [O, C/groups, K], a contiguous result."""
    try:
        with nchw.without_views(input, weight, bias, residual):
            added = None if residual is None else as_row(residual)
            rest = *in_a_row(stride, padding, dilation, groups), algorithm, finish, added
            out = conv2d_nchw(as_row(input), weight.unsqueeze(2), bias, *rest)
            return out.squeeze(-2).contiguous()
    except REFUSED:
        # In words that users know, of sequences; but "winograd" is an argument of ours alone.
        finish.of(F.conv1d(input, weight, bias, stride, padding, dilation, groups), residual)
        raise


def in_a_row(stride: Any, padding: Any, dilation: Any, groups: int) -> tuple[Any, ...]:
    """The steps of a sequence as those of an image of one row."""
    sides = padding if isinstance(padding, str) else beside(0, padding)
    return beside(1, stride), sides, beside(1, dilation), groups


def beside(rows: int, along: Any) -> tuple[int, int]:
    """(rows, n) of an `along` that is n or (n,): what conv2d takes for an image of one row. ValueError otherwise."""
    (n,) = along if isinstance(along, (tuple, list)) else (along,)
    return rows, n


def as_row(t: Tensor) -> Tensor:
    """A sequence, or what can be added to one, as an image of one row."""
    return t.unsqueeze(-2) if t.dim() else t


def as_contiguous_row(t: Tensor) -> Tensor:
    """The same of a tensor that is no view of autograd's, such that results of it are contiguous.

    An image of one row whose channels are neighbours would be taken for one in channels_last. Its rows may be any
    distance apart.
    """
    row = as_row(t)
    return row.as_strided(row.shape, (*t.stride()[:-1], 0, t.stride(-1))) if row.dim() == 4 else row


class Conv1d(Prepackable, WithAlgorithm, torch.nn.Conv1d):
    """torch.nn.Conv1d computed by nhwc_conv.

    Takes the arguments of torch.nn.Conv1d and `algorithm` (see nhwc_conv.conv2d). Parameters, initial values,
    state_dict, shapes and dtypes of results are those of torch.nn.Conv1d; results are contiguous. A packed weight
    (`prepack`) is not used in graphs of torch.compile.

    Raises:
        ValueError: unknown `algorithm`, and whatever torch.nn.Conv1d raises.
    """

    oihw = True

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
        check_convolution(module, torch.nn.Conv1d, Conv1d)
        return cls.twin_of(module, algorithm)

    def to_torch(self) -> torch.nn.Conv1d:
        """The torch.nn.Conv1d that shares the parameters, the hooks and everything else of this layer."""
        check_convolution(self, torch.nn.Conv1d, Conv1d)
        return as_torch(self, torch.nn.Conv1d)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, *self.weight_and_bias())

    def _conv_forward(
        self, input: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = None
    ) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0,)
        steps = self.stride, padding, self.dilation, self.groups
        if self._packed is not None and is_recordable(input, weight, bias):
            with nchw.without_views(input, weight, bias, residual):
                added = None if residual is None else as_row(residual)
                out = self.convolve_packed(as_contiguous_row(input), weight, bias, in_a_row(*steps), added)
                if out is not None:
                    return out.squeeze(-2).contiguous()
        return conv1d_ncl(input, weight, bias, *steps, self.algorithm, self.finish, residual)
